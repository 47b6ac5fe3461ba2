"""The back end that the worker's threads use, and the smaller ones that take its place when memory
runs out.
"""

import logging
import threading

from vggt3_ros.config import BackendConfig
from vggt3_ros.system import memory_limits
from vggt3_ros.worker import plans

log = logging.getLogger(__name__)


class HeldBackend:
    """make(store, config) -> the back end. It is called in the refining thread, which alone
    replaces it: it may import torch.

    made(backend) is called with each new one, tell(level, message) when the plan had to shrink.
    `config` is as asked for, before it was shrunk.
    """

    def __init__(self, store, make, made, tell):
        self._store, self._make, self._made, self._tell = store, make, made, tell
        self._backend, self._shrink, self._fault = None, 0, ""
        self._there = threading.Event()
        self.config = BackendConfig()

    def get(self, why="the back end is being made anew"):
        """RuntimeError with the reason when there is none."""
        backend = self._backend
        if backend is None:
            raise RuntimeError(self._fault or why)
        return backend

    def wait(self):
        """Until there is one, or a reason why not."""
        self._there.wait()

    @property
    def generation(self):
        """Of its snapshot, 0 without one."""
        snapshot = self._backend.snapshot
        return int(snapshot.generation) if snapshot is not None else 0

    @property
    def running_on(self):
        """The back end's line about device, numbers and prior; empty without one."""
        return getattr(self._backend, "running_on", "")

    def configure(self, config, shrink):
        """Another back end, unless there is one just like it."""
        if self._backend is None or (config, shrink) != (self.config, self._shrink):
            self._shrink = shrink
            self.replace(config)

    def replace(self, config=None):
        """Make another one; config: a BackendConfig, None for the same."""
        config = self.config if config is None else config
        try:
            self._backend = self._make(self._store, plans.shrunk(config, self._shrink))
            self._made(self._backend)
            self.config, self._fault = config, ""
        except Exception as error:
            self._fault = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._there.set()  # or why it is not: whoever waits to localize is told

    def within_memory(self, work, doing):
        """work() again and again with ever smaller plans while memory runs out; MemoryError when
        none is small enough. doing() names what is being done.
        """
        while True:
            try:
                return work()
            except Exception as error:
                if not memory_limits.out_of_memory(error):
                    raise
                reason = f"out of memory in {doing()}: {error}"
            if not self.shrink(reason):
                raise MemoryError(f"{reason}; there is no smaller plan")

    def shrink(self, reason):
        """Replace the back end by one that needs less; False when no plan is smaller. Where it
        cannot be made :meth:`get` says why.
        """
        if self._shrink == plans.SMALLEST_PLAN:
            return False
        self._shrink += 1
        text = f"{reason}; it goes on with less: {plans.plan_text(plans.shrunk(self.config, self._shrink))}"
        log.warning("%s", text)
        self._tell(self._shrink, text)
        self._there.clear()
        self._backend = None  # what it holds goes before another is made
        memory_limits.give_back()
        try:
            self.replace()
        except Exception:
            log.exception("no back end with the smaller plan")
        return True
