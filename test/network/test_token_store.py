"""Stores return what was written, wherever they keep it."""

import pytest
import torch

from vggt3_ros.network.scratch import Scratch
from vggt3_ros.network.token_store import DeviceStore, DiskStore, Placement, open_store

CPU = torch.device("cpu")
SHAPE = (7, 3, 5)


@pytest.mark.parametrize("placement", Placement)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_come_back_as_they_were_written(placement, dtype):
    rows, scratch = torch.randn(SHAPE).to(dtype), Scratch(CPU, dtype)
    store = open_store(placement, SHAPE, CPU, dtype, "test")
    store.write(slice(4, 7), rows[4:])
    store.write(slice(0, 4), rows[:4])
    assert torch.equal(store.read(slice(2, 6), scratch), rows[2:6])
    store.write(slice(2, 6), -rows[2:6])
    assert torch.equal(store.read(slice(0, 7), scratch)[2:6], -rows[2:6])
    assert torch.equal(store.read(slice(0, 2), scratch), rows[:2])


def test_what_a_device_store_returns_is_the_store_itself_and_writing_it_back_is_free():
    store, scratch = DeviceStore(SHAPE, CPU, torch.float32), Scratch(CPU, torch.float32)
    store.write(slice(0, 7), torch.zeros(SHAPE))
    part = store.read(slice(3, 5), scratch)
    part += 1
    store.write(slice(3, 5), part)
    assert store.read(slice(0, 7), scratch).sum() == 2 * 3 * 5
    assert scratch.bytes == 0  # nothing was copied


def test_rows_of_a_disk_store_are_in_no_memory_of_its_own():
    store, scratch = DiskStore((1000, 64), torch.float32, "test"), Scratch(CPU, torch.float32)
    for first in range(0, 1000, 10):
        store.write(slice(first, first + 10), torch.full((10, 64), float(first)))
    assert store.read(slice(500, 510), scratch).unique().tolist() == [500.0]
    assert scratch.bytes == 10 * 64 * 4


def test_on_a_cpu_host_memory_is_the_device():
    assert isinstance(open_store(Placement.HOST, SHAPE, CPU, torch.float32, "x"), DeviceStore)
