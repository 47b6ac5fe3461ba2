"""Threads for work that is made of independent pieces: pairs to verify, images to encode."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

MOST = 8  # more only wait for Python's interpreter: a third of a pair's work holds it


def count():
    """How many threads such work should have on this machine."""
    return max(1, min(MOST, len(os.sched_getaffinity(0))))


@contextmanager
def pool(threads):
    """map(function, items) -> results in the order of the items; the first exception ends it. One
    thread: the caller's own.
    """
    if threads == 1:
        yield map
        return
    with ThreadPoolExecutor(threads, "pieces", _on_one_core) as executor:
        try:
            yield executor.map
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise


def _on_one_core():
    """For the calling thread: torch's own threads beside these only wait for a core.
    torch.set_num_threads would be for later threads too.
    """
    # torch gives a thread its number when it first uses it: before the limit, not after
    torch.get_num_threads()
    threadpool_limits(1, user_api="openmp")
