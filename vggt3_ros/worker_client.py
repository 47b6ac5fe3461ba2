"""The node's end of the worker: starts it, restarts it when it dies or hangs, hands out answers. Imports no torch, no ROS."""

import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import asdict

import numpy as np

from vggt3_ros import frames
from vggt3_ros.environment import worker_environment

FIRST_RESTART_SECONDS = 0.5
LONGEST_RESTART_SECONDS = 30.0
EXIT_SECONDS = 2.0  # then it is killed: the store survives that
HEALTHY_SECONDS = 60.0  # a worker that lived this long starts the back-off anew


class WorkerError(RuntimeError):
    """The worker refused or failed a request. code: invalid, cancelled, busy, failed, died."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class WorkerClient:
    """One worker process for the store in `folder`, kept alive until :meth:`close`.

    config: BackendConfig; distil_seconds: idle time the worker spends on the memory after a refinement.
    on_snapshot(generation) is called (in a thread of this client) when a refinement or idle distillation published a snapshot,
    on_change() when the worker started, became ready or died. hang_seconds: without a sign of life for so long, the worker is
    killed and replaced.
    """

    def __init__(self, folder, config, distil_seconds=0.0, on_snapshot=None, on_change=None, hang_seconds=120.0,
                 backend="vggt3_ros.backend:Backend", logger=None):
        self._folder, self._config, self._distil_seconds = str(folder), config, distil_seconds
        self._on_snapshot, self._on_change = on_snapshot or (lambda generation: None), on_change or (lambda: None)
        self._hang_seconds, self._backend, self._log = hang_seconds, backend, logger or logging.getLogger("vggt3_ros.worker_client")
        self._numbers = itertools.count(1)
        self._sending = threading.Lock()
        self._lock = threading.RLock()  # guards what follows
        self._pending, self._connection, self._process, self._closing = {}, None, None, threading.Event()
        self.restarts = 0
        self.memory_mb = 0.0
        self.ready = False
        self.fault = ""
        self._supervisor = threading.Thread(target=self._supervise, name="worker_supervisor", daemon=True)

    def start(self):
        self._supervisor.start()
        return self

    @property
    def pid(self):
        """Of the running worker, None while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def refine(self, progress=None):
        """Future of {"generation": number}; progress(phase, fraction) is called in a thread of this client."""
        return self._request({"command": "refine"}, progress=progress)

    def cancel(self, future):
        """Ask for the end of a refinement; its future then raises WorkerError("cancelled")."""
        return self._request({"command": "cancel", "target": future.number})

    def localize(self, image, camera, hint=None, verify=True):
        """Future of the fields of Localization. image: (height, width, 3) uint8 RGB; hint: T_map_cam (4, 4) or None."""
        header = {"command": "localize", "camera": asdict(camera), "verify": bool(verify),
                  "hint": None if hint is None else np.ravel(hint).tolist()}
        return self._request(header, np.ascontiguousarray(image).data.cast("B"))

    def configure(self, config, distil_seconds=None):
        """Use another BackendConfig from now on, also after a restart."""
        with self._lock:
            self._config = config
            self._distil_seconds = self._distil_seconds if distil_seconds is None else distil_seconds
        return self._request(self._configuration())

    def reset(self):
        """Future of {"keyframes": number forgotten}: clears the store and starts over. Cancel a running refinement first."""
        return self._request({"command": "reset"})

    def load(self, folder, merge):
        """Future of {"code": ok, unreadable, conflict, no_map or not_localized; "message"; when ok: "keyframes" and "added", counts,
        "generation", "T_map_loaded": 16 numbers}: takes a saved map into the store. Cancel a running refinement first."""
        return self._request({"command": "load", "folder": str(folder), "merge": bool(merge)})

    def close(self):
        """End the worker."""
        self._closing.set()
        with self._lock:
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)
        if self._supervisor.is_alive():
            self._supervisor.join(timeout=10.0)

    def _configuration(self):
        return {"command": "configure", "config": {name: value for name, (value, _) in self._config.flat().items()},
                "distil_seconds": self._distil_seconds}

    def _request(self, header, payload=b"", progress=None):
        future = Future()
        with self._lock:
            future.number = next(self._numbers)
            if self._connection is None:
                future.set_exception(WorkerError("died", self.fault or "the worker process is not running yet"))
                return future
            self._pending[future.number] = (future, progress)
            connection = self._connection
        try:
            with self._sending:
                frames.send(connection, {**header, "request": future.number}, payload)
        except OSError as error:  # half a frame may be on its way: that worker is lost, and its end fails every pending request
            self._log.warning(f"cannot reach the worker: {error}")
            self._kill()
        return future

    def _supervise(self):
        wait = FIRST_RESTART_SECONDS
        while not self._closing.is_set():
            started = time.monotonic()
            try:
                self._spawn()
                reason = self._read_until_death()
            except OSError as error:
                reason = f"the worker process cannot be started: {error}"
            self._bury(reason)
            if self._closing.is_set():
                return
            if time.monotonic() - started > HEALTHY_SECONDS:
                wait = FIRST_RESTART_SECONDS
            self._log.error(f"{reason}; starting it again in {wait:.1f} s")
            self._on_change()
            self._closing.wait(wait)
            wait = min(2 * wait, LONGEST_RESTART_SECONDS)
            self.restarts += 1

    def _spawn(self):
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "vggt3_ros.worker", "--store", self._folder, "--channel", str(theirs.fileno()),
                       "--backend", self._backend]
            # Its own session: a Ctrl-C meant for the node must not end a refinement the node still wants to close in order.
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=worker_environment(), stdin=subprocess.DEVNULL,
                                       start_new_session=True)
        ours.settimeout(self._hang_seconds)
        with self._lock:
            self._connection, self._process = ours, process
        configured = self._request(self._configuration())
        configured.add_done_callback(self._configured)
        self._on_change()

    def _configured(self, future):
        error = future.exception()
        with self._lock:
            self.ready, self.fault = error is None, "" if error is None else str(error)
        if error is not None and error.code != "died":
            self._log.error(f"the worker cannot work: {error}")
        self._on_change()

    def _read_until_death(self):
        while True:
            try:
                header, _ = frames.receive(self._connection)
            except TimeoutError:
                self._kill()
                return f"the worker gave no sign of life for {self._hang_seconds:.0f} s and was ended"
            except (EOFError, OSError):
                code = self._wait_for_exit()
                return f"the worker process ended ({signal.Signals(-code).name if code < 0 else f'exit status {code}'})"
            except frames.FrameError as error:
                self._kill()
                return f"the worker sent what cannot be read: {error}"
            self._handle(header)

    def _handle(self, header):
        event, number = header.get("event"), header.get("request")
        if event == "alive":
            self.memory_mb = header["memory_mb"]
        elif event == "snapshot":
            self._on_snapshot(header["generation"])
        elif event == "progress":
            _, progress = self._pending.get(number, (None, None))
            if progress is not None:
                progress(header["phase"], header["fraction"])
        else:
            with self._lock:
                future, _ = self._pending.pop(number, (None, None))
            if future is None:
                self._log.warning(f"the worker answered request {number}, which nobody made")
            elif event == "result":
                future.set_result({k: v for k, v in header.items() if k not in ("event", "request")})
            else:
                future.set_exception(WorkerError(header["code"], header["message"]))

    def _wait_for_exit(self):
        try:
            return self._process.wait(timeout=EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            return self._process.wait()

    def _kill(self):
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)

    def _bury(self, reason):
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            if self._process is not None:
                self._wait_for_exit()
            self._connection, self.ready, self.fault, self.memory_mb = None, False, reason, 0.0
            pending, self._pending = self._pending, {}
        for future, _ in pending.values():
            future.set_exception(WorkerError("cancelled", "the back end stops") if self._closing.is_set() else WorkerError("died", reason))
