"""A refinement that runs in a worker, watched."""

import threading

PHASES = ("features", "loops", "pose_graph", "fusion", "memory")


class Refinement:
    def __init__(self, worker):
        self.phase, self._changed = "", threading.Condition()
        self.future = worker.refine(self._progress)

    def _progress(self, phase, fraction):
        with self._changed:
            self.phase = phase
            self._changed.notify_all()

    def wait_for(self, phase):
        """Until it is in that phase, or beyond."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.phase in PHASES[PHASES.index(phase) :], 300)
