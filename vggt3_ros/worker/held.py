"""The back end that the worker's threads share, and its replacement by one with a smaller plan when
memory runs out.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from vggt3_ros.config import BackendConfig
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.refinement import plans
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.system import memory_limits

log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Localized(Protocol):
    """What a back end answers to an image: memory.localizer.Localization."""

    @property
    def code(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def T_map_cam(self) -> np.ndarray | None: ...
    @property
    def covariance(self) -> np.ndarray | None: ...
    @property
    def inliers(self) -> int: ...
    @property
    def reprojection_error_px(self) -> float: ...
    @property
    def generation(self) -> int: ...
    @property
    def seconds(self) -> float: ...


class Loaded(Protocol):
    """What loading a saved map returns: refinement.merging.Loaded."""

    @property
    def added(self) -> int: ...
    @property
    def generation(self) -> int: ...
    @property
    def T_map_loaded(self) -> np.ndarray: ...


class WorkersBackend(Protocol):
    """What the worker uses of vggt3_ros.backend.Backend. touched(id) is called whenever a keyframe
    is worked on.
    """

    touched: Callable[[int], object]

    @property
    def snapshot(self) -> Snapshot | None: ...
    @property
    def running_on(self) -> str: ...

    def refine(
        self, progress: Callable[[str, float], object], cancelled: Callable[[], bool]
    ) -> Snapshot: ...
    def distil(self, seconds: float, cancelled: Callable[[], bool]) -> Snapshot | None: ...
    def begin_session(self) -> int: ...
    def join(self, folder: str | Path) -> Loaded: ...
    def localize(
        self, image: np.ndarray, camera: Camera, hint: np.ndarray | None, verify: bool
    ) -> Localized: ...


class HeldBackend:
    """Hold the back end that make(store, config) returns.

    make is called in the refining thread, which alone replaces the back end; it may import torch.
    made(backend) is called with each new one, tell(level, message) when the plan was shrunk.
    config: as requested, before it was shrunk.
    """

    def __init__(
        self,
        store: KeyframeStore,
        make: Callable[[KeyframeStore, BackendConfig], WorkersBackend],
        made: Callable[[WorkersBackend], object],
        tell: Callable[[int, str], object],
    ) -> None:
        self._store, self._make, self._made, self._tell = store, make, made, tell
        self._backend: WorkersBackend | None = None
        self._shrink, self._fault = 0, ""
        self._there = threading.Event()
        self.config = BackendConfig()

    def get(self, why: str = "the back end is being replaced") -> WorkersBackend:
        """Return the back end. Raises RuntimeError with the reason if there is none."""
        backend = self._backend
        if backend is None:
            raise RuntimeError(self._fault or why)
        return backend

    def wait(self) -> None:
        """Wait until there is a back end, or a reason why there is none."""
        self._there.wait()

    @property
    def generation(self) -> int:
        """The generation of the back end's snapshot; 0 without one."""
        snapshot = self.get().snapshot
        return int(snapshot.generation) if snapshot is not None else 0

    @property
    def running_on(self) -> str:
        """The back end's description of device and networks; empty without a back end."""
        backend = self._backend
        return "" if backend is None else backend.running_on

    def configure(self, config: BackendConfig, shrink: int) -> None:
        """Replace the back end, unless it already has this config and level of shrinking."""
        if self._backend is None or (config, shrink) != (self.config, self._shrink):
            self._shrink = shrink
            self.replace(config)

    def replace(self, config: BackendConfig | None = None) -> None:
        """Make a new back end; config: None for the same."""
        config = self.config if config is None else config
        try:
            self._backend = self._make(self._store, plans.shrunk(config, self._shrink))
            self._made(self._backend)
            self.config, self._fault = config, ""
        except Exception as error:
            self._fault = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._there.set()  # also after a failure: whoever waits to localize learns the reason

    def within_memory(self, work: Callable[[], Result], doing: Callable[[], str]) -> Result:
        """Call work() and return its result; if memory runs out, repeat it with smaller plans.
        Raises MemoryError if it runs out with the smallest. doing() names the current phase.
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

    def shrink(self, reason: str) -> bool:
        """Replace the back end by one that needs less memory; return False if no plan is smaller.
        If the new one cannot be made, :meth:`get` raises the reason.
        """
        if self._shrink == plans.SMALLEST_PLAN:
            return False
        self._shrink += 1
        text = f"{reason}; continuing with a smaller plan: {plans.plan_text(plans.shrunk(self.config, self._shrink))}"
        log.warning("%s", text)
        self._tell(self._shrink, text)
        self._there.clear()
        self._backend = None  # free its memory before another is made
        memory_limits.give_back()
        try:
            self.replace()
        except Exception:
            log.exception("the back end with the smaller plan cannot be made")
        return True
