"""Memory of a process and its children, as the kernel counts it."""

import os
import subprocess
import sys

import psutil
import pytest

from vggt3_ros.system import memory_use
from vggt3_ros.system.environment import foreign_environment

HOLDER = (
    "import sys; data = bytearray(b'x') * 100_000_000; {}; print(1, flush=True); sys.stdin.read()"
)


@pytest.fixture
def holder():
    """holder(statement) -> a process that held 100 MB before the statement."""
    started = []

    def start(statement="0"):
        command = [sys.executable, "-c", HOLDER.format(statement)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=foreign_environment(),  # jemalloc would keep what is freed
        )
        started.append(process)
        assert process.stdout.readline() == b"1\n"
        return process

    yield start
    for process in started:
        process.communicate()


def test_resident_memory_is_what_psutil_says(holder):
    process = holder()
    expected = psutil.Process(process.pid).memory_info().rss / 2**20
    assert memory_use.resident_mb(process.pid) == pytest.approx(expected, rel=0.05)
    assert expected > 95


def test_children_count_while_they_live(holder):
    before = memory_use.resident_mb()
    process = holder()
    assert process.pid in memory_use.children() == memory_use.children(os.getpid())
    assert memory_use.resident_mb() > before + 90
    process.communicate()
    assert process.pid not in memory_use.children()
    assert memory_use.resident_mb() < before + 50


def test_the_peak_stays_after_memory_was_freed(holder):
    process = holder("del data")
    assert memory_use.resident_mb(process.pid) < 60 < 95 < memory_use.peak_mb(process.pid)


def test_a_process_that_has_ended_uses_nothing():
    assert memory_use.resident_mb(2**22 + 1) == memory_use.peak_mb(2**22 + 1) == 0.0
    assert memory_use.children(2**22 + 1) == []
