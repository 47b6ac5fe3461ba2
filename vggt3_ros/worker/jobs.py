"""The worker's refining thread: refinements, changes of the store, and distillation when idle."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from vggt3_ros.config import BackendConfig
from vggt3_ros.refinement import merging
from vggt3_ros.refinement.placing import LoadError
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.system import memory_limits
from vggt3_ros.worker.channel import Channel, code_and_text
from vggt3_ros.worker.held import HeldBackend, Loaded
from vggt3_ros.worker.in_hand import InHand

log = logging.getLogger(__name__)
COMMANDS = ("refine", "configure", "reset", "load", "session")
NICENESS = 10
PROGRESS_SECONDS = 0.1  # between two reports within a phase
# idle distillation runs in intervals of this length; a new refinement discards the current one
DISTIL_SECONDS = 15.0


class Jobs:
    """Execute COMMANDS in the order of their arrival.

    give_way() is called between two small steps. used_mb: memory that the process uses, MiB; to be
    updated from outside.
    """

    def __init__(
        self,
        channel: Channel,
        store: KeyframeStore,
        held: HeldBackend,
        hand: InHand,
        give_way: Callable[[], object],
    ) -> None:
        self._channel, self._store, self._held = channel, store, held
        self._hand, self._give_way = hand, give_way
        self._requests: queue.Queue[tuple[int | None, dict[str, Any]]] = queue.Queue()
        self._cancelled: set[int | None] = set()
        self._distil_seconds, self.used_mb = 0.0, 0.0

    def put(self, number: int | None, header: dict[str, Any]) -> None:
        """Queue a request."""
        self._requests.put((number, header))

    def cancel(self, number: int | None) -> None:
        """Cancel the refine request `number`, running or queued."""
        self._cancelled.add(number)

    def work(self) -> None:
        """Execute requests for ever, in the calling thread."""
        # Before the first torch operation, so that torch's threads inherit the lower priority and
        # localization goes first.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        distil_until = 0.0
        while True:
            memory_limits.give_back()  # memory of the last job
            if time.monotonic() < distil_until and self._requests.empty():
                distil_until = self._distil(distil_until)
                continue
            number, header = self._requests.get()
            command = header["command"]
            self._hand.begin(command, patient=command != "refine")
            done = self._channel.answer(number, getattr(self, f"_{command}"), number, header)
            if command == "refine" and done:
                distil_until = time.monotonic() + self._distil_seconds
            elif command in ("reset", "load", "session"):
                distil_until = 0.0
            self._hand.end()

    def _configure(self, number: int | None, header: dict[str, Any]) -> dict[str, Any]:
        config = BackendConfig.from_flat(header.get("config", {}))
        self._distil_seconds = float(header.get("distil_seconds", 0.0))
        self._held.configure(config, int(header.get("shrink", 0)))
        return {"generation": self._held.generation}

    def _reset(self, number: int | None, header: dict[str, Any]) -> dict[str, Any]:
        keyframes = len(self._store)
        self._store.clear()
        self._held.replace()
        return {"keyframes": keyframes}

    def _session(self, number: int | None, header: dict[str, Any]) -> dict[str, Any]:
        session = self._held.get("session before configure").begin_session()
        return {"session": session, "generation": self._held.generation}

    def _load(self, number: int | None, header: dict[str, Any]) -> dict[str, Any]:
        backend = self._held.get("load before configure")
        loaded: Loaded
        try:
            if not header["merge"]:
                loaded = merging.replace(self._store, header["folder"])
            elif self._store.has_images:
                loaded = merging.merge(
                    self._store, header["folder"], backend.snapshot, backend.localize
                )
            else:
                loaded = backend.join(header["folder"])
            if loaded.generation != self._held.generation:
                self._held.replace()
        except LoadError as error:
            return {"code": error.code, "message": str(error)}
        return {
            "code": "ok",
            "message": "",
            "added": loaded.added,
            "keyframes": len(self._store),
            "generation": loaded.generation,
            "T_map_loaded": np.ravel(loaded.T_map_loaded).tolist(),
        }

    def _refine(self, number: int | None, header: dict[str, Any]) -> dict[str, Any]:
        self._held.get("refine before configure")
        last_phase, last_time = "", 0.0

        def progress(phase: str, fraction: float) -> None:
            nonlocal last_phase, last_time
            self._hand.step(phase)
            self._give_way()
            now = time.monotonic()
            if last_phase != phase or now - last_time > PROGRESS_SECONDS:
                last_phase, last_time = phase, now
                self._channel.send(number, "progress", phase=phase, fraction=float(fraction))

        def cancelled() -> bool:
            self._stepped()
            return number in self._cancelled

        try:
            snapshot = self._held.within_memory(
                lambda: self._held.get().refine(progress=progress, cancelled=cancelled),
                lambda: self._hand.phase,
            )
        finally:
            self._cancelled.discard(number)
        self._publish(snapshot)
        return {"generation": int(snapshot.generation)}

    def _distil(self, until: float) -> float:
        """Distil for an interval. Return the time until which to continue; 0: no more gain."""

        def cancelled() -> bool:
            self._stepped()
            return not self._requests.empty()

        self._hand.begin("distil")
        try:
            snapshot = self._held.get().distil(
                min(DISTIL_SECONDS, until - time.monotonic()), cancelled
            )
        except Exception as error:
            if memory_limits.out_of_memory(error):
                self._held.shrink(f"out of memory in idle distillation: {error}")
                return 0.0
            code, text = code_and_text(error)
            if code == "cancelled":
                return until
            log.error("idle distillation stopped: %s", text)
            return 0.0
        finally:
            self._hand.end()
        if snapshot is None:
            return until if not self._requests.empty() else 0.0
        self._publish(snapshot)
        return until

    def _stepped(self) -> None:
        """Do what is due between two small steps of a job. Raises MemoryError if the process
        exceeds its memory limit.
        """
        self._hand.step()
        self._give_way()
        limit = memory_limits.limit_mb(self._held.config.resources.memory_limit_mb)
        if self.used_mb > limit:
            used, self.used_mb = self.used_mb, 0.0  # until the next measurement
            raise MemoryError(
                f"{used:.0f} MB are in use, the limit is {limit} MB (resources.memory_limit_mb)"
            )

    def _publish(self, snapshot: Snapshot) -> None:
        self._channel.send(None, "snapshot", generation=int(snapshot.generation))
