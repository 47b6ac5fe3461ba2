"""What a contender answers, from its process to the judge's."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from vggt3_ros.benchmarks.peers.given import Array

OUTCOME_FILE = "outcome.npz"


@dataclass(frozen=True, eq=False)
class Outcome:
    """T_map_cam (K, 4, 4): of the keyframes, NaN where not registered; model (K,): which of the
    contender's maps a keyframe is in, -1 for none. metric: whether lengths are metres. seconds and
    cpu_seconds until the map was there. T_map_query (Q, 4, 4): localized queries in the largest
    model, NaN where refused, and query_seconds (Q,); both None where the contender does not
    localize. note: for people.
    """

    T_map_cam: Array
    model: Array
    metric: bool
    seconds: float
    cpu_seconds: float
    T_map_query: Array | None = None
    query_seconds: Array | None = None
    note: str = ""

    @property
    def in_largest(self) -> Array:
        """(K,) mask of the keyframes in the model that has most of them."""
        models, counts = np.unique(self.model[self.model >= 0], return_counts=True)
        if not len(models):
            return np.zeros(len(self.model), bool)
        return np.asarray(self.model == models[np.argmax(counts)])

    def save(self, folder: Path) -> None:
        arrays = {name: value for name, value in vars(self).items() if value is not None}
        np.savez(folder / OUTCOME_FILE, **arrays)

    @classmethod
    def load(cls, folder: Path) -> "Outcome":
        """Inverse of :meth:`save`; OSError where there is none."""
        with np.load(folder / OUTCOME_FILE, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        numbers = {name: arrays.pop(name).item() for name in _PLAIN}
        return cls(**arrays, **numbers)


_PLAIN = "metric", "seconds", "cpu_seconds", "note"


class Clock:
    """Seconds on the wall, and on all cores of this process and its children, since it was made.

    The second hardly changes where others use the machine too.
    """

    def __init__(self) -> None:
        self._started, self._cpu = time.perf_counter(), _cpu_seconds()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._started, _cpu_seconds() - self._cpu


def _cpu_seconds() -> float:
    process = psutil.Process()
    times = process.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        try:
            spent = child.cpu_times()
        except psutil.NoSuchProcess:
            continue  # its time is in that of its parent
        total += spent.user + spent.system
    return float(total)
