"""Run steps within a time budget; each result is printed and saved immediately."""

import json
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Runner:
    """report: {"machine": ..., "steps": {name: {"status", "seconds", "result" or "error"}}}, saved
    after every step.
    """

    def __init__(self, path: Path, machine: dict[str, str | float], budget_seconds: float) -> None:
        self.report: dict[str, Any] = {"machine": machine, "steps": {}}
        self._path = path
        self._end = time.monotonic() + budget_seconds

    @property
    def seconds_left(self) -> float:
        """Seconds left in the budget."""
        return self._end - time.monotonic()

    def run(
        self, name: str, step: Callable[[], dict[str, Any]], needs_seconds: float = 0.0
    ) -> dict[str, Any] | None:
        """Return the result of step(), None if it failed or was skipped because it needs more time
        than is left.
        """
        if self.seconds_left < needs_seconds:
            return self._record(
                name,
                {
                    "status": "skipped",
                    "error": f"{self.seconds_left:.0f} s left, {needs_seconds:.0f} s needed",
                },
            )
        started = time.monotonic()
        entry: dict[str, Any]
        try:
            result = step()
        except Exception as error:
            entry = {
                "status": "failed",
                "error": f"{type(error).__name__}: {error}",
                "traceback": traceback.format_exc(),
            }
        else:
            entry = {
                "status": "passed" if result.pop("passed", True) else "failed",
                "result": result,
            }
        return self._record(name, {**entry, "seconds": round(time.monotonic() - started, 2)})

    @property
    def failed(self) -> list[str]:
        """Names of the failed steps."""
        return [
            name for name, entry in self.report["steps"].items() if entry["status"] == "failed"
        ]

    def _record(self, name: str, entry: dict[str, Any]) -> dict[str, Any] | None:
        """Save and print a step's entry."""
        self.report["steps"][name] = entry
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self.report, indent=1, default=str))
        os.replace(partial, self._path)
        shown = entry.get("result") or entry.get("traceback") or entry["error"]
        text = json.dumps(shown, default=_short) if isinstance(shown, dict) else shown
        print(
            f"[{entry['status']}] {name} ({entry.get('seconds', 0):.1f} s): {_rounded(text)}",
            flush=True,
        )
        return entry.get("result")


def _short(value: object) -> str:
    """Represent values that JSON cannot."""
    return str(value)


def _rounded(text: str) -> str:
    """Round the floats of a JSON text to four significant digits."""
    try:
        return json.dumps(
            json.loads(text, parse_float=lambda number: float(f"{float(number):.4g}"))
        )
    except ValueError:
        return text
