"""The process that owns torch and the device: `python -m vggt3_ros.worker --store FOLDER --channel FD`.

The node starts it and talks to it over an inherited socket (frames.py). It ends when the node does. Three threads:
reading requests, refining (at a lower priority, and distilling when idle), localizing.

Requests {"request": number, "command": name, ...}:
    configure  config: BackendConfig values by flat name; distil_seconds: idle time spent on the memory of one refinement
    refine     answered by progress frames, then result or error
    cancel     target: number of the refine request
    reset      forgets the store's keyframes and snapshots
    load       folder of a saved map, merge: bool; see mapping/merging.py
    localize   camera, hint (16 numbers or null), verify; payload: RGB bytes
Answers {"request": number, "event": "result" | "progress" | "error", ...}; unasked: alive (each second), ready, snapshot.
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

from vggt3_ros import frames
from vggt3_ros.config import BackendConfig
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.mapping import merging
from vggt3_ros.mapping.store import KeyframeStore

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
        elif command in ("refine", "configure", "reset", "load"):
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
            self._send(None, "alive", memory_mb=_resident_mb())
            time.sleep(ALIVE_SECONDS)

    # refining ---------------------------------------------------------------------------------------------------------

    def _refine_loop(self):
        # Before the first torch operation, so that the threads it starts inherit it and a localization goes first.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), REFINER_NICENESS)
        distil_until = 0.0
        while True:
            if time.monotonic() < distil_until and self._refine_requests.empty():
                distil_until = self._distil(distil_until)
                continue
            number, header = self._refine_requests.get()
            if header["command"] == "configure":
                self._answer(number, self._configure, header)
            elif header["command"] == "reset":
                distil_until = 0.0
                self._answer(number, self._reset)
            elif header["command"] == "load":
                distil_until = 0.0
                self._answer(number, self._load, header)
            elif self._answer(number, self._refine, number):
                distil_until = time.monotonic() + self._distil_seconds

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
        if self._backend is None or config != self._config:
            self._replace_backend(config)
        snapshot = self._backend.snapshot
        return {"generation": int(snapshot.generation) if snapshot is not None else 0}

    def _replace_backend(self, config):
        try:
            self._backend = self._make_backend(self._store, config)
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
            self._give_way()
            now = time.monotonic()
            if last.get("phase") != phase or now - last["time"] > 0.1:
                last.update(phase=phase, time=now)
                self._send(number, "progress", phase=phase, fraction=float(fraction))

        def cancelled():
            self._give_way()
            return number in self._cancelled

        try:
            snapshot = self._backend.refine(progress=progress, cancelled=cancelled)
        finally:
            self._cancelled.discard(number)
        self._send(None, "snapshot", generation=int(snapshot.generation))
        return {"generation": int(snapshot.generation)}

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
            self._give_way()
            return not self._refine_requests.empty()

        try:
            snapshot = self._backend.distil(min(DISTIL_SECONDS, until - time.monotonic()), cancelled)
        except Exception as error:
            code, text = _code_and_text(error)
            if code == "cancelled":
                return until
            log.error("idle distillation stopped: %s", text)
            return 0.0
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
            self._answer(number, self._localize, header, payload)
            self._nobody_localizes.set()

    def _localize(self, header, payload):
        if self._backend is None:
            raise RuntimeError(self._fault)
        camera = Camera(**header["camera"])
        image = np.frombuffer(payload, np.uint8).reshape(camera.height, camera.width, 3)
        hint = None if header.get("hint") is None else np.array(header["hint"], float).reshape(4, 4)
        found = self._backend.localize(image, camera, hint=hint, verify=bool(header.get("verify", True)))
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


def _resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


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

    with KeyframeStore(arguments.store) as store:
        Worker(socket.socket(fileno=arguments.channel), store, make_backend).serve()
        os._exit(0)  # threads may be in the middle of a refinement nobody waits for


if __name__ == "__main__":
    main()
