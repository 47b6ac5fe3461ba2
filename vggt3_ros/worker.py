"""The process that owns torch and the device: `python -m vggt3_ros.worker --store FOLDER --channel FD`.

The node starts it and talks to it over an inherited socket (frames.py). It ends when the node does. Three threads:
reading requests, refining (at a lower priority, and distilling when idle), localizing.

Requests {"request": number, "command": name, ...}:
    configure  config: BackendConfig values by flat name; distil_seconds: idle time spent on the memory of one refinement; shrink: how
               often the plan was shrunk for want of memory
    refine     answered by progress frames, then result or error
    cancel     target: number of the refine request
    session    the front end started anew: what it sends from now on is tied to the map where it is found in it
    reset      forgets the store's keyframes and snapshots
    load       folder of a saved map, merge: bool; see mapping/merging.py
    localize   camera, hint (16 numbers or null), verify, digest (of the image); payload: RGB bytes
Answers {"request": number, "event": "result" | "progress" | "error", ...}; unasked: alive (each second, with what has not got on and
for how long), hand (what is worked on: InHand), shrink (memory ran out), snapshot.
"""

import argparse
import importlib
import logging
import os
import queue
import socket
import sys
import threading
import time

import numpy as np

from vggt3_ros import frames, memory_limits
from vggt3_ros.config import BackendConfig
from vggt3_ros.environment import end_with_parent, take_short_turns
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.in_hand import InHand
from vggt3_ros.mapping import merging
from vggt3_ros.mapping.store import KeyframeStore
from vggt3_ros.memory_use import resident_mb

log = logging.getLogger("vggt3_ros.worker")
REFINER_NICENESS = 10
ALIVE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 0.5
DISTIL_SECONDS = 15.0  # idle work is published, or lost to a new refinement, in stretches of this length
WAITING_LOCALIZATIONS = 8


class Worker:
    """Serves one connection. `make_backend(store, config)` is called in the refining thread: it may import torch."""

    def __init__(self, connection, store, make_backend):
        self._connection, self._store, self._make_backend = connection, store, make_backend
        self._sending = threading.Lock()
        self._refine_requests = queue.Queue()
        self._localize_requests = queue.Queue(WAITING_LOCALIZATIONS)
        self._backend, self._config, self._distil_seconds = None, BackendConfig(), 0.0
        self._shrink, self._used_mb = 0, 0.0
        self._hand = InHand(lambda hand: self._send(None, "hand", hand=hand))
        self._backend_there, self._fault = threading.Event(), ""
        self._cancelled = set()
        self._nobody_localizes, self._no_pause_before = threading.Event(), 0.0
        self._nobody_localizes.set()

    def serve(self):
        """Until the other side closes the connection."""
        for target in (self._refine_loop, self._localize_loop, self._alive_loop):
            threading.Thread(target=target, daemon=True, name=target.__name__).start()
        while True:
            try:
                header, payload = frames.receive(self._connection)
            except (EOFError, ConnectionError):
                return
            self._dispatch(header, payload)

    def _dispatch(self, header, payload):
        number, command = header.get("request"), header.get("command")
        if command == "localize":
            try:
                self._localize_requests.put_nowait((number, header, payload))
            except queue.Full:
                self._error(number, "busy", f"{WAITING_LOCALIZATIONS} localizations are waiting already")
        elif command in ("refine", "configure", "reset", "load", "session"):
            self._refine_requests.put((number, header))
        elif command == "cancel":
            self._cancelled.add(header.get("target"))
            self._send(number, "result")
        else:
            self._error(number, "invalid", f"unknown command {command!r}")

    def _send(self, number, event, payload=b"", **values):
        try:
            with self._sending:
                frames.send(self._connection, {"request": number, "event": event, **values}, payload)
        except OSError:
            os._exit(0)  # the node is gone; the store needs no closing

    def _error(self, number, code, message):
        self._send(number, "error", code=code, message=message)

    def _alive_loop(self):
        while True:
            self._used_mb = resident_mb()
            self._send(None, "alive", memory_mb=self._used_mb, device_mb=memory_limits.device_mb(), still=self._hand.still())
            time.sleep(ALIVE_SECONDS)

    # refining ---------------------------------------------------------------------------------------------------------

    def _refine_loop(self):
        # Before the first torch operation, so that the threads it starts inherit it and a localization goes first.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), REFINER_NICENESS)
        distil_until = 0.0
        while True:
            memory_limits.give_back()  # what the last job took
            if time.monotonic() < distil_until and self._refine_requests.empty():
                distil_until = self._distil(distil_until)
                continue
            number, header = self._refine_requests.get()
            command = header["command"]
            self._hand.begin(command, patient=command != "refine")
            if command == "refine":
                if self._answer(number, self._refine, number):
                    distil_until = time.monotonic() + self._distil_seconds
            elif command == "configure":
                self._answer(number, self._configure, header)
            else:
                distil_until = 0.0
                handler = {"reset": self._reset, "session": self._begin_session, "load": lambda: self._load(header)}[command]
                self._answer(number, handler)
            self._hand.end()

    def _answer(self, number, function, *arguments):
        """Send what `function` returns as the result, or its exception as an error. True when it returned."""
        try:
            self._send(number, "result", **function(*arguments))
            return True
        except Exception as error:
            self._error(number, *_code_and_text(error))
            return False

    def _configure(self, header):
        config = BackendConfig.from_flat(header.get("config", {}))
        self._distil_seconds = float(header.get("distil_seconds", 0.0))
        shrink = int(header.get("shrink", 0))
        if self._backend is None or (config, shrink) != (self._config, self._shrink):
            self._shrink = shrink
            self._replace_backend(config)
        snapshot = self._backend.snapshot
        return {"generation": int(snapshot.generation) if snapshot is not None else 0}

    def _replace_backend(self, config):
        try:
            self._backend = self._make_backend(self._store, memory_limits.shrunk(config, self._shrink))
            self._backend.touched = self._hand.keyframe
            self._config = config
        except Exception as error:
            self._fault = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._backend_there.set()  # or why it is not: whoever waits to localize is told

    def _reset(self):
        keyframes = len(self._store)
        self._store.clear()
        self._replace_backend(self._config)
        return {"keyframes": keyframes}

    def _begin_session(self):
        if self._backend is None:
            raise RuntimeError(self._fault or "session before configure")
        number = self._backend.begin_session()
        self._replace_backend(self._config)
        snapshot = self._backend.snapshot
        return {"session": number, "generation": int(snapshot.generation) if snapshot is not None else 0}

    def _load(self, header):
        if self._backend is None:
            raise RuntimeError(self._fault or "load before configure")
        try:
            if header["merge"]:
                loaded = merging.merge(self._store, header["folder"], self._backend.snapshot, self._backend.localize)
            else:
                loaded = merging.replace(self._store, header["folder"])
                self._replace_backend(self._config)
        except merging.LoadError as error:
            return {"code": error.code, "message": str(error)}
        return {"code": "ok", "message": "", "added": loaded.added, "keyframes": len(self._store), "generation": loaded.generation,
                "T_map_loaded": np.ravel(loaded.T_map_loaded).tolist()}

    def _refine(self, number):
        if self._backend is None:
            raise RuntimeError(self._fault or "refine before configure")
        last = {}

        def progress(phase, fraction):
            self._hand.step(phase)
            self._give_way()
            now = time.monotonic()
            if last.get("phase") != phase or now - last["time"] > 0.1:
                last.update(phase=phase, time=now)
                self._send(number, "progress", phase=phase, fraction=float(fraction))

        def cancelled():
            self._stepped()
            return number in self._cancelled

        try:
            snapshot = self._within_memory(lambda: self._backend.refine(progress=progress, cancelled=cancelled))
        finally:
            self._cancelled.discard(number)
        self._send(None, "snapshot", generation=int(snapshot.generation))
        return {"generation": int(snapshot.generation)}

    def _stepped(self):
        """Between two small steps of a job. MemoryError when the process has grown beyond its limit."""
        self._hand.step()
        self._give_way()
        limit = memory_limits.limit_mb(self._config.resources)
        if self._used_mb > limit:
            used, self._used_mb = self._used_mb, 0.0  # until it is measured again
            raise MemoryError(f"{used:.0f} MB are in use, the limit is {limit} (resources.memory_limit_mb)")

    def _within_memory(self, work):
        """work() again and again with ever smaller plans while memory runs out; the node hears of it."""
        while True:
            try:
                return work()
            except Exception as error:
                if not memory_limits.out_of_memory(error):
                    raise
                reason = f"out of memory in {self._hand.phase}: {error}"
            if self._shrink == memory_limits.SMALLEST_PLAN:
                raise MemoryError(f"{reason}; there is no smaller plan")
            self._shrink_plan(reason)

    def _shrink_plan(self, reason):
        self._shrink += 1
        plan = memory_limits.plan_text(memory_limits.shrunk(self._config, self._shrink))
        text = f"{reason}; it goes on with less: {plan}"
        log.warning("%s", text)
        self._send(None, "shrink", level=self._shrink, message=text)
        self._backend_there.clear()
        self._backend = None  # what it holds goes before another is made
        memory_limits.give_back()
        self._replace_backend(self._config)

    def _give_way(self):
        """Pause between two small steps while an image is localized: a library that holds the interpreter (as fusion does) would
        make it wait for every one of its operations. At most half of the time, so that a refinement always ends."""
        begin = time.monotonic()
        if begin >= self._no_pause_before and not self._nobody_localizes.is_set():
            self._nobody_localizes.wait(LONGEST_PAUSE_SECONDS)
            end = time.monotonic()
            self._no_pause_before = end + (end - begin)

    def _distil(self, until):
        """One stretch of idle work; returns until when to go on (0: it no longer helps)."""
        def cancelled():
            self._stepped()
            return not self._refine_requests.empty()

        self._hand.begin("distil")
        try:
            snapshot = self._backend.distil(min(DISTIL_SECONDS, until - time.monotonic()), cancelled)
        except Exception as error:
            if memory_limits.out_of_memory(error):
                if self._shrink < memory_limits.SMALLEST_PLAN:
                    self._shrink_plan(f"out of memory in idle distillation: {error}")
                return 0.0
            code, text = _code_and_text(error)
            if code == "cancelled":
                return until
            log.error("idle distillation stopped: %s", text)
            return 0.0
        finally:
            self._hand.end()
        if snapshot is None:
            return until if not self._refine_requests.empty() else 0.0
        self._send(None, "snapshot", generation=int(snapshot.generation))
        return until

    # localizing -------------------------------------------------------------------------------------------------------

    def _localize_loop(self):
        while True:
            number, header, payload = self._localize_requests.get()
            self._backend_there.wait()
            self._nobody_localizes.clear()
            self._hand.query(str(header.get("digest", "?")))
            self._answer(number, self._localize, header, payload)
            self._hand.query("")
            self._nobody_localizes.set()

    def _localize(self, header, payload):
        backend = self._backend
        if backend is None:
            raise RuntimeError(self._fault or "the back end is being made anew")
        camera = Camera(**header["camera"])
        image = np.frombuffer(payload, np.uint8).reshape(camera.height, camera.width, 3)
        hint = None if header.get("hint") is None else np.array(header["hint"], float).reshape(4, 4)
        found = backend.localize(image, camera, hint=hint, verify=bool(header.get("verify", True)))
        return {
            "code": found.code, "message": found.message, "inliers": int(found.inliers), "generation": int(found.generation),
            "T_map_cam": None if found.T_map_cam is None else np.ravel(found.T_map_cam).tolist(),
            "covariance": None if found.covariance is None else np.ravel(found.covariance).tolist(),
            "reprojection_error_px": float(found.reprojection_error_px), "seconds": float(found.seconds),
        }


def _code_and_text(error):
    """What the node is told; a fault of the program itself goes to the log with its traceback."""
    if type(error).__name__ == "Cancelled":
        return "cancelled", str(error) or "cancelled"
    if isinstance(error, ValueError):
        return "invalid", str(error)
    log.exception("request failed")
    return "failed", f"{type(error).__name__}: {error}"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, help="folder of the keyframe store")
    parser.add_argument("--channel", required=True, type=int, help="file descriptor of the connected socket")
    parser.add_argument("--backend", default="vggt3_ros.backend:Backend", help="module:class that refines and localizes")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="[worker] %(levelname)s %(message)s", stream=sys.stderr)
    module, _, name = arguments.backend.partition(":")

    def make_backend(store, config):
        return getattr(importlib.import_module(module), name)(store, config)

    end_with_parent()
    take_short_turns()
    with KeyframeStore(arguments.store) as store:
        Worker(socket.socket(fileno=arguments.channel), store, make_backend).serve()
        os._exit(0)  # threads may be in the middle of a refinement nobody waits for


if __name__ == "__main__":
    main()
