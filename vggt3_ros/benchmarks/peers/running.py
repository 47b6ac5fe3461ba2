"""One contender in a process of its own: watched, measured, ended at its time limit."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from vggt3_ros.benchmarks.peers.contenders import Contender
from vggt3_ros.benchmarks.peers.outcome import Outcome
from vggt3_ros.system.environment import worker_environment
from vggt3_ros.system.program import Program

EVERY_SECONDS = 0.05  # between two looks at the memory
LOG_FILE = "log.txt"
TOLD = 400  # characters of the last line of a contender that failed


@dataclass(frozen=True, eq=False)
class Run:
    """outcome: None where there is none, and failure says why. process_seconds: from its start to
    its end, loading of libraries included; peak_memory_mb: the most that the process and its
    descendants had resident at a time.
    """

    outcome: Outcome | None
    failure: str
    process_seconds: float
    peak_memory_mb: float


def run(
    contender: Contender,
    given: Path,
    poses: Path | None,
    folder: Path,
    limit_seconds: float,
    waiting: Callable[[float], None] = lambda part: None,
) -> Run:
    """Run a contender on the folder `given`; it may write into `folder`, which is made. poses:
    instead of the odometry. waiting(share of the limit) is called while it runs. Never raises for
    what the contender does.
    """
    folder.mkdir(parents=True)
    command = [
        *(sys.executable, "-P", "-m", "vggt3_ros.benchmarks.peers.process"),
        *(contender.function, str(given), str(folder)),
        *("--settings", contender.settings_text),
        *(() if poses is None else ("--poses", str(poses))),
    ]
    started, peak = time.monotonic(), 0.0
    with open(folder / LOG_FILE, "w") as log:
        program = Program(
            command,
            own_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=worker_environment(),
        )
        try:
            while not program.ends_within(EVERY_SECONDS):
                pid, spent = program.pid, time.monotonic() - started
                if pid is not None:
                    peak = max(peak, _resident_mb(pid))
                if spent > limit_seconds:
                    break
                waiting(spent / limit_seconds)
            seconds, end = time.monotonic() - started, program.end
        finally:
            program.close()
    if not end:
        return Run(None, f"ended at the time limit of {limit_seconds:.0f} s", seconds, peak)
    if end != "exit status 0":
        return Run(None, _why(folder / LOG_FILE, end), seconds, peak)
    try:
        return Run(Outcome.load(folder), "", seconds, peak)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Run(None, f"its outcome cannot be read: {error}", seconds, peak)


def _resident_mb(pid: int) -> float:
    total = 0
    try:
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            try:
                total += member.memory_info().rss
            except psutil.NoSuchProcess:
                continue
    except psutil.NoSuchProcess:
        return 0.0
    return total / 2**20


def _why(log: Path, end: str) -> str:
    """The last line that a contender wrote, and how it ended."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{lines[-1][:TOLD]} ({end})" if lines else end
