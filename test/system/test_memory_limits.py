"""Running out of memory as each library reports it; the configured limit; freed memory returned."""

import errno
import subprocess
import sys

import pytest

from vggt3_ros.system import memory_limits


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
def test_running_out_of_memory_is_recognised(error):
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


def test_the_limit_is_the_one_set_or_a_share_of_the_machine():
    assert memory_limits.limit_mb(1234) == 1234
    assert 0 < memory_limits.limit_mb(0) < memory_limits.machine_memory_mb()


def test_freed_memory_goes_back_to_the_system_and_kills_are_counted():
    code = (
        "from vggt3_ros.system import memory_limits, memory_use; blocks = [bytearray(b'x') * 100_000 for _ in range(2000)];"
        "before = memory_use.resident_mb(); del blocks; memory_limits.give_back(); print(before, memory_use.resident_mb())"
    )
    before, after = map(
        float,
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split(),
    )
    assert after < before - 180  # of the 200 freed
    assert memory_limits.oom_kills() >= 0


def test_no_gpu_memory_is_reserved_without_torch():
    code = "from vggt3_ros.system import memory_limits; print(memory_limits.device_mb())"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert float(printed) == 0.0
