"""The rows of a run on disk, complete after each contender: an interrupted run leaves what it
measured.
"""

from pathlib import Path
from typing import Any

from vggt3_ros.benchmarks.peers.plots import error_against_time, recall_curves
from vggt3_ros.benchmarks.peers.scoring import CURVE, LEAST_DEGREES
from vggt3_ros.benchmarks.peers.table import table
from vggt3_ros.system.strict_json import dumps


class Results:
    """folder: where peers.json, peers.md and the plots go; None keeps the rows in memory only."""

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.rows = folder, list[dict[str, Any]]()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def logs(self) -> Path | None:
        return None if self.folder is None else self.folder / "logs"

    def add(self, row: dict[str, Any]) -> None:
        """Take a row and write everything anew."""
        self.rows.append(row)
        if self.folder is None:
            return
        text = {
            "recall_curve_cm": CURVE,
            "recall_curve_least_deg": LEAST_DEGREES,
            "rows": self.rows,
        }
        (self.folder / "peers.json").write_text(dumps(text, indent=2) + "\n")
        names = list(dict.fromkeys(row["sequence"] for row in self.rows))
        (self.folder / "peers.md").write_text("\n".join(map(self.text, names)))
        mine = self._of(row["sequence"])
        recall_curves(self.folder / f"{row['sequence']}-recall.png", mine, row["sequence"])
        error_against_time(self.folder / f"{row['sequence']}-error.png", mine, row["sequence"])

    def text(self, name: str) -> str:
        """The table of one data set."""
        return f"## {name}\n\n{table(self._of(name))}\n"

    def _of(self, name: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["sequence"] == name]
