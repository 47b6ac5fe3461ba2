"""The stages of a refinement: timed, reported, and where it can be cancelled."""

import time
from contextlib import contextmanager


class Cancelled(Exception):
    """The caller's cancelled() said so; nothing was changed."""


class Stages:
    """with stages("name") as step: ... times the stage; step(fraction) reports it and raises
    Cancelled when asked to stop.

    progress(name, fraction) and cancelled() -> bool may be None. seconds: of each stage, and
    "total".
    """

    def __init__(self, progress, cancelled):
        self.progress, self.cancelled = progress, cancelled or (lambda: False)
        self.seconds, self._started = {}, time.perf_counter()

    @contextmanager
    def __call__(self, name):
        started = time.perf_counter()

        def step(fraction):
            if self.cancelled():
                raise Cancelled(f"cancelled during {name}")
            if self.progress:
                self.progress(name, fraction)

        step(0.0)
        yield step
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - started
        self.seconds["total"] = now - self._started
