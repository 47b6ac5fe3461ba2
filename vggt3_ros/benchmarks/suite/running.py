"""Parts run one after the other, each in a process of its own; what is known is on the disk after
each.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from vggt3_ros.benchmarks.suite.figures import Figure
from vggt3_ros.benchmarks.suite.parts import FOLDER, OUT, Part
from vggt3_ros.store import durable
from vggt3_ros.system import strict_json
from vggt3_ros.system.environment import worker_environment
from vggt3_ros.system.machine import describe
from vggt3_ros.system.program import Program

FORMAT = 1
PASSED, MISSED, FAILED = "passed", "missed a target", "failed"
ERROR_LINES = 12  # of what a part that failed wrote last


class Suite:
    """path: the file, rewritten after each part. What it holds: format, quick, machine (see
    system.machine), begun (UTC), parts {name: what Suite.run tells}.
    """

    def __init__(self, path: Path, quick: bool) -> None:
        self.path = path
        self.record: dict[str, Any] = {
            "format": FORMAT,
            "quick": quick,
            "machine": describe(),
            "begun": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "parts": {},
        }
        self._write()

    def run(
        self, part: Part, repeat: int, minutes: float, command: list[str] | None = None
    ) -> dict[str, Any]:
        """Run a part `repeat` times, at most so many minutes each; return and keep {"status",
        "setting", "seconds", "others" (cores that other processes kept busy meanwhile, on
        average), "figures": {name: {"value" (the median), "unit", "better", "values"}}, "result"},
        or "error" instead of the last two where it failed.

        command: instead of this Python and the module of vggt3.
        """
        started, runs, results = time.monotonic(), [], []
        busy = _busy_elsewhere()
        entry: dict[str, Any] = {
            "status": PASSED,
            "setting": part.setting,
        }
        try:
            for _ in range(repeat):
                code, result = _result(part, minutes, command or vggt3())
                runs.append(part.figures(result))
                results.append(result)
                entry["status"] = MISSED if code else entry["status"]
            entry |= {"figures": _medians(runs), "result": results[-1]}
        # a part's JSON may lack what its figures are made of
        except (PartError, LookupError, TypeError, ValueError, ArithmeticError) as error:
            entry |= {"status": FAILED, "error": _told(error)}
        elapsed = time.monotonic() - started
        entry["seconds"] = round(elapsed, 2)
        entry["others"] = round(max(0.0, _busy_elsewhere() - busy) / max(elapsed, 1e-3), 2)
        return self.keep(part.name, entry)

    def failed(self, name: str, error: Exception) -> dict[str, Any]:
        """Keep that something could not even be begun."""
        return self.keep(name, {"status": FAILED, "error": _told(error), "seconds": 0.0})

    def keep(self, name: str, entry: dict[str, Any]) -> dict[str, Any]:
        self.record["parts"][name] = entry
        self._write()
        return entry

    def _write(self) -> None:
        text = strict_json.dumps(self.record, indent=1)
        durable.write_file(self.path, (text + "\n").encode())


def _busy_elsewhere() -> float:
    """Return the seconds that cores of this machine were busy with other processes than this one
    and those it waited for. Of the load average, that of the parts before would be a part.
    """
    times, own = psutil.cpu_times(), os.times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # a guest's seconds are among the user's, too
    whole = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return float(whole - idle - sum(own[:4]))


class PartError(RuntimeError):
    """A part ended without JSON; the text is what it said last."""


def vggt3() -> list[str]:
    """Return the words that start the command line in a process of its own."""
    return [sys.executable, "-P", "-m", "vggt3_ros.cli.main"]


def _result(part: Part, minutes: float, command: list[str]) -> tuple[int, Any]:
    """Return the exit status, 0 or 1, and the JSON of a part. PartError where it has none."""
    with tempfile.TemporaryDirectory(prefix="vggt3_") as temporary:
        out, said = Path(temporary) / "out.json", Path(temporary) / "said.txt"
        folder = Path(temporary) / "work"
        folder.mkdir()
        words = [
            word.replace(FOLDER, str(folder)).replace(OUT, str(out)) for word in part.arguments
        ]
        printed = out if OUT not in part.arguments else Path(temporary) / "printed.txt"
        with open(printed, "wb") as stdout, open(said, "wb") as stderr:
            program = Program(
                [*command, *words],
                own_session=True,  # what it started ends with it
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=worker_environment(),
            )
            try:
                ended = program.ends_within(60 * minutes)
            finally:
                program.close()
        if not ended:
            raise PartError(f"it took more than {minutes:g} minutes and was ended")
        last = "\n".join(said.read_text(errors="replace").strip().splitlines()[-ERROR_LINES:])
        if program.end not in ("exit status 0", "exit status 1"):
            raise PartError(f"{program.end}: {last}")
        try:
            return int(program.end[-1]), json.loads(out.read_text())
        except (OSError, ValueError) as error:
            raise PartError(f"{program.end}, but it wrote no JSON ({error}): {last}") from error


def _medians(runs: list[dict[str, Figure]]) -> dict[str, dict[str, Any]]:
    """Return the figures of one or more runs, the median of each; None where a run has none."""
    out = {}
    for name, figure in runs[-1].items():
        values = [run[name].value for run in runs if name in run]
        known = [value for value in values if value is not None]
        value = median(known) if len(known) == len(runs) else None
        out[name] = figure.as_dict() | {"value": value, "values": values}
    return out


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, PartError) else f"{type(error).__name__}: {error}"


def run_all(
    suite: Suite,
    chosen: list[Part],
    repeat: int,
    minutes: float,
    say: Callable[[str], None],
) -> None:
    """Run parts one after the other; say a line of each."""
    for part in chosen:
        say(f"{part.name} ...")
        entry = suite.run(part, repeat, minutes)
        text = f"{entry['status']} in {entry['seconds']:.0f} s"
        say(f"{part.name}: {text}" + (f": {entry['error']}" if "error" in entry else ""))
