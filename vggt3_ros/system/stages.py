"""The stages of a refinement: timed, reported, and cancellable between steps."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vggt3_ros.system.memory_use import peak_mb, resident_mb


class Cancelled(Exception):
    """The caller cancelled the work; nothing was changed."""


class Stages:
    """Time named stages, report their progress and cancel them on request.

    with stages("name") as step: ... times a stage; step(fraction) reports progress in [0, 1] and
    raises Cancelled if cancelled() returns true. progress(name, fraction) and cancelled() -> bool
    may be None. seconds: duration of each finished stage by name, and "total" since construction.
    memory_mb: {stage: {"resident", "peak"}}, resident memory of this process and its children when
    the stage ended, and the peak so far, MB.
    """

    def __init__(
        self,
        progress: Callable[[str, float], object] | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self.progress, self.cancelled = progress, cancelled or (lambda: False)
        self.seconds: dict[str, float] = {}
        self.memory_mb: dict[str, dict[str, float]] = {}
        self._started = time.perf_counter()

    @contextmanager
    def __call__(self, name: str) -> Iterator[Callable[[float], None]]:
        started = time.perf_counter()

        def step(fraction: float) -> None:
            if self.cancelled():
                raise Cancelled(f"cancelled during {name}")
            if self.progress:
                self.progress(name, fraction)

        step(0.0)
        yield step
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - started
        self.seconds["total"] = now - self._started
        self.memory_mb[name] = {"resident": resident_mb(), "peak": peak_mb()}
