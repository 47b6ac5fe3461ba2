"""The node's end of the worker: starts it, restarts it when it dies or hangs, and returns its
answers as futures. No torch, no ROS.
"""

import itertools
import logging
import socket
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from vggt3_ros.config import BackendConfig
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.refinement import plans
from vggt3_ros.system import wire
from vggt3_ros.system.child_process import ChildProcess
from vggt3_ros.worker.in_hand import Hand, Still
from vggt3_ros.worker.suspects import FATAL, Logger, Suspects, digest

FIRST_RESTART_SECONDS = 0.5
LONGEST_RESTART_SECONDS = 30.0
HEALTHY_SECONDS = 60.0  # a worker that lived this long resets the back-off
PATIENCE = 10  # factor on hang_seconds for work that waits for a disk or a download

Result = TypeVar("Result")
Progress = Callable[[str, float], object]  # phase, fraction in [0, 1]


class WorkerError(RuntimeError):
    """The worker refused or failed a request.

    code: invalid, cancelled, busy, failed, died, hopeless (it died again of the same cause, so a
    retry is useless), or set_aside (this image has killed it too often and is refused).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Answer(Future[dict[str, Any]]):
    """The future of a request; number: that of the request."""

    number: int


class _Pending(NamedTuple):
    """A request that waits for its answer."""

    future: Answer
    progress: Progress | None
    command: str


class _Hung(Exception):
    """The worker is alive but makes no progress; the message says with what."""


NOTHING: Hand = {"phase": "", "keyframes": [], "query": ""}


class WorkerClient:
    """Keep one worker process running for the store in `folder` until :meth:`close`.

    distil_seconds: idle time that the worker spends on the memory after a refinement.
    on_snapshot(generation) is called when a refinement or idle distillation published a snapshot,
    on_change() when the worker started, became ready or died; both in a thread of this client.
    hang_seconds: a worker without a sign of life, or without progress, for this long is killed and
    replaced. suspects: is told what was in hand when the worker died; None: nothing is set aside.
    Exceptions of callbacks are logged and have no other effect.
    """

    def __init__(
        self,
        folder: str | Path,
        config: BackendConfig,
        distil_seconds: float = 0.0,
        on_snapshot: Callable[[int], object] | None = None,
        on_change: Callable[[], object] | None = None,
        hang_seconds: float = 120.0,
        backend: str = "vggt3_ros.backend:Backend",
        logger: Logger | None = None,
        suspects: Suspects | None = None,
    ) -> None:
        self._folder, self._config, self._distil_seconds = str(folder), config, distil_seconds
        self._on_snapshot = on_snapshot or (lambda generation: None)
        self._on_change = on_change or (lambda: None)
        self._hang_seconds, self._backend = hang_seconds, backend
        self._log: Logger = logger or logging.getLogger("vggt3_ros.worker.client")
        self._numbers = itertools.count(1)
        self._sending = threading.RLock()  # acquired before _lock where both are needed
        self._lock = threading.RLock()  # guards what follows
        self._pending: dict[int, _Pending] = {}
        self._connection: socket.socket | None = None
        self._child: ChildProcess | None = None
        self._closing = threading.Event()
        self.restarts = 0
        self.memory_mb = self.device_mb = 0.0
        self.memory_msg = self.running_on = ""
        self._suspects, self._shrink = suspects, 0
        self._hand: Hand = NOTHING
        self.ready = False
        self.fault = ""
        self._supervisor = threading.Thread(
            target=self._supervise, name="worker_supervisor", daemon=True
        )

    def start(self) -> "WorkerClient":
        """Start the worker and its supervision; return self."""
        self._supervisor.start()
        return self

    @property
    def pid(self) -> int | None:
        """The process id of the running worker; None while there is none."""
        child = self._child
        return None if child is None else child.pid

    @property
    def distilling(self) -> bool:
        """Whether the worker spends idle time on the memory."""
        return self._hand["phase"] == "distil"

    def refine(self, progress: Progress | None = None) -> Answer:
        """Refine; return a future of {"generation": number}. progress(phase, fraction) is called in
        a thread of this client.
        """
        return self._request({"command": "refine"}, progress=progress)

    def cancel(self, future: Answer) -> Answer:
        """Cancel a refinement; its future then raises WorkerError with the code "cancelled"."""
        return self._request({"command": "cancel", "target": future.number})

    def localize(
        self,
        image: np.ndarray,
        camera: Camera,
        hint: np.ndarray | None = None,
        verify: bool = True,
    ) -> Answer:
        """Localize an image (height, width, 3) uint8 RGB; return a future of the fields of
        Localization. hint: approximate T_map_cam (4, 4).
        """
        header: dict[str, Any] = {
            "command": "localize",
            "camera": asdict(camera),
            "verify": bool(verify),
            "hint": None if hint is None else np.ravel(hint).tolist(),
        }
        image = np.ascontiguousarray(image)
        if self._suspects is not None:
            header["digest"] = digest(image, camera)
            if self._suspects.refuses(header["digest"]):
                refused = Answer()
                refused.set_exception(
                    WorkerError(
                        "set_aside",
                        f"this image has killed the worker {FATAL} times and is refused",
                    )
                )
                return refused
        return self._request(header, image.data.cast("B"))

    def configure(self, config: BackendConfig, distil_seconds: float | None = None) -> Answer:
        """Use another config from now on, also after a restart. distil_seconds: None: unchanged."""
        with self._lock:
            self._config = config
            self._distil_seconds = (
                self._distil_seconds if distil_seconds is None else distil_seconds
            )
            self._shrink, self.memory_msg = 0, ""
        return self._request(self._configuration())

    def reset(self) -> Answer:
        """Clear the store and start over; return a future of {"keyframes": number deleted}. Cancel
        a running refinement first.
        """
        return self._request({"command": "reset"})

    def begin_session(self) -> Answer:
        """Begin a new session after a restart of the front end; return a future of {"session":
        number, "generation": of the map, 0 without one}.

        The map stays, and the new keyframes are tied to it where they are recognised. Cancel a
        running refinement first.
        """
        return self._request({"command": "session"})

    def load(self, folder: str | Path, merge: bool) -> Answer:
        """Load a saved map into the store. Cancel a running refinement first.

        Return a future of {"code": ok, unreadable, conflict, no_map or not_localized; "message";
        and if ok: "keyframes" and "added", counts; "generation"; "T_map_loaded": 16 numbers}.
        """
        return self._request({"command": "load", "folder": str(folder), "merge": bool(merge)})

    def close(self) -> None:
        """End the worker and its supervision."""
        self._closing.set()
        with self._lock:
            if self._connection is not None and self._child is not None:
                self._child.hang_up()
        if self._supervisor.is_alive():
            self._supervisor.join(timeout=10.0)

    def _configuration(self) -> dict[str, Any]:
        return {
            "command": "configure",
            "config": {name: value for name, (value, _) in self._config.flat().items()},
            "distil_seconds": self._distil_seconds,
            "shrink": self._shrink,
        }

    def _request(
        self,
        header: dict[str, Any],
        payload: bytes | memoryview = b"",
        progress: Progress | None = None,
    ) -> Answer:
        future = Answer()
        # disables Future.cancel(), which would not reach the worker
        future.set_running_or_notify_cancel()
        with self._lock:
            future.number = next(self._numbers)
            if self._connection is None:
                future.set_exception(
                    WorkerError("died", self.fault or "the worker process is not running yet")
                )
                return future
            self._pending[future.number] = _Pending(future, progress, header["command"])
            connection = self._connection
        try:
            with self._sending:
                wire.send(connection, {**header, "request": future.number}, payload)
        except OSError as error:
            # Part of a frame may have been sent, so this worker is unusable. Its end fails every
            # pending request.
            self._log.warning(f"cannot reach the worker: {error}")
            self._kill()
        return future

    def _supervise(self) -> None:
        """Run one worker after another until close()."""
        wait = FIRST_RESTART_SECONDS
        while not self._closing.is_set():
            started = time.monotonic()
            reason = self._guarded(self._run)
            self._guarded(self._clean_up, reason)
            if self._closing.is_set():
                return
            if time.monotonic() - started > HEALTHY_SECONDS:
                wait = FIRST_RESTART_SECONDS
            self._log.error(f"{reason}; restarting it in {wait:.1f} s")
            self._call(self._on_change)
            self._closing.wait(wait)
            wait = min(2 * wait, LONGEST_RESTART_SECONDS)
            self.restarts += 1

    def _guarded(self, work: Callable[..., Result], *arguments: object) -> Result | str:
        """Return what work(*arguments) returns, or the reason if it fails: whatever goes wrong with
        one worker, the next one is supervised.
        """
        try:
            return work(*arguments)
        except Exception as error:
            self._log.error(f"supervising the worker failed:\n{traceback.format_exc()}")
            return f"supervising the worker failed: {type(error).__name__}: {error}"

    def _call(self, listener: Callable[..., object], *arguments: object) -> None:
        """Call a callback of others, and log its exceptions."""
        try:
            listener(*arguments)
        except Exception:
            self._log.error(f"a callback failed:\n{traceback.format_exc()}")

    def _run(self) -> str:
        """Start a worker and read from it until it ends; return the reason."""
        try:
            child = self._spawn()
        except OSError as error:
            return f"the worker process cannot be started: {error}"
        return self._read_until_death(child)

    def _spawn(self) -> ChildProcess:
        # In its own session, because Ctrl-C must not reach the worker before the node has shut it
        # down in order.
        child = ChildProcess(
            "vggt3_ros.worker",
            "--store",
            self._folder,
            "--backend",
            self._backend,
            own_session=True,
        )
        child.connection.settimeout(self._hang_seconds)
        # The configuration must be the first request: the worker can do nothing without it.
        with self._sending:
            with self._lock:
                self._connection, self._child, self._hand = child.connection, child, NOTHING
                # close() was called while there was no connection for it to shut down
                if self._closing.is_set():
                    child.hang_up()
            configured = self._request(self._configuration())
        configured.add_done_callback(self._configured)
        self._call(self._on_change)
        return child

    def _configured(self, future: Future[dict[str, Any]]) -> None:
        error = future.exception()
        with self._lock:
            self.ready, self.fault = error is None, "" if error is None else str(error)
        # died and cancelled are reported elsewhere, or caused by close()
        if error is not None and getattr(error, "code", "") not in ("died", "cancelled"):
            self._log.error(f"the worker cannot be configured: {error}")
        self._call(self._on_change)

    def _read_until_death(self, child: ChildProcess) -> str:
        """Handle what the worker sends until it ends; return the reason."""
        while True:
            try:
                header, _ = wire.receive(child.connection)
            except TimeoutError:
                self._kill()
                return f"the worker gave no sign of life for {self._hang_seconds:.0f} s and was killed"
            except (EOFError, OSError):
                child.wait()
                return f"the worker process ended ({child.end})"
            except wire.FrameError as error:
                self._kill()
                return f"the worker sent an unreadable message: {error}"
            try:
                self._handle(header)
            except _Hung as hung:
                self._kill()
                return str(hung)
            except (KeyError, TypeError) as error:
                self._kill()
                return f"the worker sent an invalid message: {str(header)[:200]} ({type(error).__name__}: {error})"

    def _handle(self, header: dict[str, Any]) -> None:
        event, number = header.get("event"), header.get("request")
        if event == "alive":
            self.memory_mb, self.device_mb = header["memory_mb"], header["device_mb"]
            self._note_running_on(header.get("running_on", ""))
            self._check_still(header["still"])
        elif event == "hand":
            self._take_in_hand(header["hand"])
        elif event == "shrink":
            self._shrink, self.memory_msg = header["level"], header["message"]
            self._call(self._on_change)
        elif event == "snapshot":
            self._call(self._on_snapshot, header["generation"])
        elif event == "progress":
            request = None if number is None else self._pending.get(number)
            if request is not None and request.progress is not None:
                self._call(request.progress, header["phase"], header["fraction"])
        else:
            with self._lock:
                request = None if number is None else self._pending.pop(number, None)
            if request is None:
                self._log.warning(f"the worker answered request {number}, which is not pending")
            elif event == "result":
                self._call(self._passed, request.command)
                request.future.set_result(
                    {k: v for k, v in header.items() if k not in ("event", "request")}
                )
            else:
                error = WorkerError(header.get("code", "failed"), header.get("message", ""))
                failed = request.command == "refine" and error.code == "failed"
                if failed and self._suspects is not None:
                    self._call(self._suspects.died, {**self._hand, "query": ""}, str(error))
                request.future.set_exception(error)

    def _take_in_hand(self, hand: Hand) -> None:
        before, distilled, self._hand = self._hand, self.distilling, hand
        # Without a phase the job has ended, perhaps because of what it had in hand.
        if self._suspects is not None and hand["phase"]:
            self._call(
                self._suspects.passed,
                set(before["keyframes"]) - set(hand["keyframes"]),
                before["phase"],
            )
        if self.distilling != distilled:
            self._call(self._on_change)

    def _note_running_on(self, text: str) -> None:
        if text and text != self.running_on:
            self._log.info(f"the worker runs on {text}")
        self.running_on = text or self.running_on

    def _check_still(self, still: Still | None) -> None:
        """Raise _Hung if a job has made no progress for too long. Signs of life do not show that:
        they come from another thread.
        """
        limit = self._hang_seconds * (PATIENCE if still and still["patient"] else 1)
        if still and still["seconds"] > limit:
            raise _Hung(
                f"the worker made no progress with {still['what']} for {still['seconds']:.0f} s and was killed"
            )

    def _passed(self, command: str) -> None:
        """Clear suspicions after a successful request."""
        if self._suspects is not None and command == "refine":
            self._suspects.refined()
        if self._suspects is not None and command == "localize" and self._hand["query"]:
            self._suspects.answered(self._hand["query"])

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _clean_up(self, reason: str) -> None:
        """Release a worker that has ended, and fail its pending requests."""
        with self._lock:
            child, closing = self._child, self._closing.is_set()
            self._connection, self.ready, self.fault = None, False, reason
            self.memory_mb = self.device_mb = 0.0
            pending, self._pending = self._pending, {}
            if child is not None:
                child.hang_up()
                child.wait()
                child.close()
        retry = closing or self._guarded(self._learn, reason)
        self._hand = NOTHING
        for future, _, command in pending.values():
            code = "died" if retry or command != "refine" else "hopeless"
            future.set_exception(
                WorkerError("cancelled", "the back end is shutting down")
                if closing
                else WorkerError(code, reason)
            )

    def _learn(self, reason: str) -> bool:
        """Draw conclusions from a death: suspect what was in hand, or shrink the plan if memory ran
        out. Return whether to try the same again.
        """
        # the reason names SIGKILL only if this client did not kill the worker itself
        killed_for_memory = (
            self._child is not None and self._child.killed_for_memory and "SIGKILL" in reason
        )
        if killed_for_memory and self._shrink < plans.SMALLEST_PLAN:
            self._shrink += 1
            plan = plans.plan_text(plans.shrunk(self._config, self._shrink))
            self.memory_msg = f"the kernel ran out of memory and {reason}; continuing with a smaller plan: {plan}"
            self._log.error(self.memory_msg)
            return True
        return self._suspects is None or self._suspects.died(self._hand, reason)
