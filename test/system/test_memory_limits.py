"""Out of memory in its many words; plans that need less; what processes hold."""

import errno
import os
import subprocess
import sys

import pytest

from vggt3_ros.config import BackendConfig
from vggt3_ros.system import memory_limits, memory_use


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: can't allocate memory: you tried to allocate 80 bytes."
        ),
    ],
)
def test_missing_memory_is_recognised(error):
    assert memory_limits.out_of_memory(error)


def test_what_the_libraries_really_raise_is_recognised():
    import numpy as np
    import torch

    for allocate in (
        lambda: np.zeros(2**62, np.uint8),
        lambda: torch.zeros(2**46),
        lambda: bytearray(2**62),
    ):
        with pytest.raises(Exception) as error:
            allocate()
        assert memory_limits.out_of_memory(error.value), error.value
    assert memory_limits.out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    for other in (
        ValueError("out of range"),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("shape mismatch"),
    ):
        assert not memory_limits.out_of_memory(other)


def test_each_plan_is_smaller_than_the_one_before_and_valid():
    config = BackendConfig()
    assert memory_limits.shrunk(config, 0) == config
    plans = [
        memory_limits.shrunk(config, level) for level in range(memory_limits.SMALLEST_PLAN + 1)
    ]
    for before, after in zip(plans, plans[1:]):
        assert (
            after.resources.frame_cache_mb < before.resources.frame_cache_mb
            and after.memory.max_slots < before.memory.max_slots
        )
        assert after.map.voxel_size >= before.map.voxel_size and memory_limits.plan_text(
            after
        ) != memory_limits.plan_text(before)
    tiny = BackendConfig.from_flat(
        {"resources.frame_cache_mb": 16, "memory.max_slots": 10_000, "map.voxel_size": 1.0}
    )
    memory_limits.shrunk(tiny, memory_limits.SMALLEST_PLAN)  # stays within the ranges


def test_the_limit_is_the_one_set_or_a_share_of_the_machine():
    assert (
        memory_limits.limit_mb(
            BackendConfig.from_flat({"resources.memory_limit_mb": 1234}).resources
        )
        == 1234
    )
    assert (
        0 < memory_limits.limit_mb(BackendConfig().resources) < memory_limits.machine_memory_mb()
    )


def test_a_process_is_measured_with_its_children_and_gives_back_what_it_freed():
    code = (
        "import subprocess, sys, time; from vggt3_ros.system import memory_limits, memory_use; data = bytearray(b'x') * 200_000_000;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; data = bytearray(b\"x\") * 100_000_000; print(1, flush=True);"
        " time.sleep(60)'], stdout=subprocess.PIPE); child.stdout.readline(); print(memory_use.resident_mb());"
        "del data; memory_limits.give_back(); print(memory_use.resident_mb()); child.kill()"
    )
    both, after = map(
        float,
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split(),
    )
    assert both > 300 and after < both - 180  # of the 200 freed; the child keeps its 100
    assert (
        memory_use.resident_mb(2**22 + 1) == 0.0 and memory_limits.oom_kills() >= 0 and os.getpid()
    )
