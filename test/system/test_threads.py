"""Thread pools: results in order, the first error ends the work, torch keeps to one core in them."""

import os
import threading
import time

import pytest
import torch

from vggt3_ros.system import threads


@pytest.mark.parametrize("count", [1, 3])
def test_results_come_in_the_order_of_the_items(count):
    with threads.pool(count) as over:
        results = list(over(lambda k: (time.sleep(0.01 * (3 - k)), k)[1], range(3)))
    assert results == [0, 1, 2]


def test_one_thread_is_the_callers_and_more_are_not():
    def who(_):
        return threading.get_ident()

    for count, own in ((1, True), (2, False)):
        with threads.pool(count) as over:
            assert [ident == threading.get_ident() for ident in over(who, range(3))] == [own] * 3


def test_the_first_error_cancels_what_has_not_begun():
    begun = []

    def work(k):
        begun.append(k)
        time.sleep(0.01)
        if k == 1:
            raise ValueError("piece 1")

    with pytest.raises(ValueError, match="piece 1"), threads.pool(2) as over:
        list(over(work, range(200)))
    assert 1 in begun and len(begun) < 100


def test_torch_uses_one_core_in_the_pool_and_its_own_number_elsewhere():
    before = torch.get_num_threads()
    with threads.pool(2) as over:
        assert set(over(lambda _: torch.get_num_threads(), range(4))) == {1}
    seen = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert torch.get_num_threads() == seen[0] == before


def test_the_count_follows_the_cores_within_bounds(monkeypatch):
    for cores, expected in ((1, 1), (5, 5), (64, threads.MAX_THREADS)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, cores=cores: set(range(cores)))
        assert threads.count() == expected
