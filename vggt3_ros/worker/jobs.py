"""The worker's refining thread: refinements, what changes the store, and distillation while there
is nothing else to do.
"""

import logging
import os
import queue
import threading
import time

import numpy as np

from vggt3_ros.config import BackendConfig
from vggt3_ros.refinement import merging
from vggt3_ros.refinement.placing import LoadError
from vggt3_ros.system import memory_limits
from vggt3_ros.worker.channel import code_and_text

log = logging.getLogger(__name__)
COMMANDS = ("refine", "configure", "reset", "load", "session")
NICENESS = 10
PROGRESS_SECONDS = 0.1  # within a phase
# idle work is published, or lost to a new refinement, in stretches of this length
DISTIL_SECONDS = 15.0


class Jobs:
    """Does COMMANDS in the order they came. channel: Channel; store: KeyframeStore; held:
    HeldBackend; hand: InHand; give_way() is called between two small steps. used_mb: what the
    process takes, to be kept up to date from outside.
    """

    def __init__(self, channel, store, held, hand, give_way):
        self._channel, self._store, self._held, self._hand, self._give_way = (
            channel,
            store,
            held,
            hand,
            give_way,
        )
        self._requests, self._cancelled = queue.Queue(), set()
        self._distil_seconds, self.used_mb = 0.0, 0.0

    def put(self, number, header):
        self._requests.put((number, header))

    def cancel(self, number):
        self._cancelled.add(number)

    def work(self):
        # Before the first torch operation, so that the threads it starts inherit it and a
        # localization goes first.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        distil_until = 0.0
        while True:
            memory_limits.give_back()  # what the last job took
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

    def _configure(self, number, header):
        config = BackendConfig.from_flat(header.get("config", {}))
        self._distil_seconds = float(header.get("distil_seconds", 0.0))
        self._held.configure(config, int(header.get("shrink", 0)))
        return {"generation": self._held.generation}

    def _reset(self, number, header):
        keyframes = len(self._store)
        self._store.clear()
        self._held.replace()
        return {"keyframes": keyframes}

    def _session(self, number, header):
        session = self._held.get("session before configure").begin_session()
        return {"session": session, "generation": self._held.generation}

    def _load(self, number, header):
        backend = self._held.get("load before configure")
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

    def _refine(self, number, header):
        self._held.get("refine before configure")
        last = {}

        def progress(phase, fraction):
            self._hand.step(phase)
            self._give_way()
            now = time.monotonic()
            if last.get("phase") != phase or now - last["time"] > PROGRESS_SECONDS:
                last.update(phase=phase, time=now)
                self._channel.send(number, "progress", phase=phase, fraction=float(fraction))

        def cancelled():
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

    def _distil(self, until):
        """One stretch of idle work; returns until when to go on (0: it no longer helps)."""

        def cancelled():
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

    def _stepped(self):
        """Between two small steps of a job. MemoryError when the process has grown beyond its
        limit.
        """
        self._hand.step()
        self._give_way()
        limit = memory_limits.limit_mb(self._held.config.resources.memory_limit_mb)
        if self.used_mb > limit:
            used, self.used_mb = self.used_mb, 0.0  # until it is measured again
            raise MemoryError(
                f"{used:.0f} MB are in use, the limit is {limit} (resources.memory_limit_mb)"
            )

    def _publish(self, snapshot):
        self._channel.send(None, "snapshot", generation=int(snapshot.generation))
