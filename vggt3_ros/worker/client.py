"""The node's end of the worker: starts it, restarts it when it dies or hangs, hands out answers.
Imports no torch, no ROS.
"""

import itertools
import logging
import threading
import time
import traceback
from concurrent.futures import Future
from dataclasses import asdict

import numpy as np

from vggt3_ros.system import wire
from vggt3_ros.system.child_process import ChildProcess
from vggt3_ros.worker import plans
from vggt3_ros.worker.suspects import FATAL, digest

FIRST_RESTART_SECONDS = 0.5
LONGEST_RESTART_SECONDS = 30.0
HEALTHY_SECONDS = 60.0  # a worker that lived this long starts the back-off anew
PATIENCE = 10  # times hang_seconds for what waits for a disk or a download


class WorkerError(RuntimeError):
    """The worker refused or failed a request. code: invalid, cancelled, busy, failed, died,
    hopeless (it died of the same once more), set_aside (it died of this image too often to be
    asked again).
    """

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class _Hung(Exception):
    """The worker lives, but does not get on; the text says with what."""


class WorkerClient:
    """One worker process for the store in `folder`, kept alive until :meth:`close`.

    config: BackendConfig; distil_seconds: idle time the worker spends on the memory after a
    refinement. on_snapshot(generation) is called (in a thread of this client) when a refinement or
    idle distillation published a snapshot, on_change() when the worker started, became ready or
    died. hang_seconds: without a sign of life, or stuck in one step, for so long, the worker is
    killed and replaced. suspects: Suspects, told what was in hand when it died; None: nothing is
    set aside. What a listener raises goes to the log, and to nobody else.
    """

    def __init__(
        self,
        folder,
        config,
        distil_seconds=0.0,
        on_snapshot=None,
        on_change=None,
        hang_seconds=120.0,
        backend="vggt3_ros.backend:Backend",
        logger=None,
        suspects=None,
    ):
        self._folder, self._config, self._distil_seconds = str(folder), config, distil_seconds
        self._on_snapshot, self._on_change = (
            on_snapshot or (lambda generation: None),
            on_change or (lambda: None),
        )
        self._hang_seconds, self._backend, self._log = (
            hang_seconds,
            backend,
            logger or logging.getLogger("vggt3_ros.worker.client"),
        )
        self._numbers = itertools.count(1)
        self._sending = threading.RLock()  # taken before _lock by whoever needs both
        self._lock = threading.RLock()  # guards what follows
        self._pending, self._connection, self._child, self._closing = (
            {},
            None,
            None,
            threading.Event(),
        )
        self.restarts = 0
        self.memory_mb = self.device_mb = 0.0
        self.memory_msg = self.running_on = ""
        self._suspects, self._hand, self._shrink = suspects, {}, 0
        self.ready = False
        self.fault = ""
        self._supervisor = threading.Thread(
            target=self._supervise, name="worker_supervisor", daemon=True
        )

    def start(self):
        self._supervisor.start()
        return self

    @property
    def pid(self):
        """Of the running worker, None while there is none."""
        child = self._child
        return None if child is None else child.pid

    @property
    def distilling(self):
        """Whether it spends idle time on the memory."""
        return self._hand.get("phase") == "distil"

    def refine(self, progress=None):
        """Future of {"generation": number}; progress(phase, fraction) is called in a thread of
        this client.
        """
        return self._request({"command": "refine"}, progress=progress)

    def cancel(self, future):
        """Ask for the end of a refinement; its future then raises WorkerError("cancelled")."""
        return self._request({"command": "cancel", "target": future.number})

    def localize(self, image, camera, hint=None, verify=True):
        """Future of the fields of Localization. image: (height, width, 3) uint8 RGB; hint:
        T_map_cam (4, 4) or None.
        """
        header = {
            "command": "localize",
            "camera": asdict(camera),
            "verify": bool(verify),
            "hint": None if hint is None else np.ravel(hint).tolist(),
        }
        image = np.ascontiguousarray(image)
        if self._suspects is not None:
            header["digest"] = digest(image, camera)
            if self._suspects.refuses(header["digest"]):
                refused = Future()
                refused.set_exception(
                    WorkerError(
                        "set_aside",
                        f"this image ended the worker {FATAL} times and is not asked about again",
                    )
                )
                return refused
        return self._request(header, image.data.cast("B"))

    def configure(self, config, distil_seconds=None):
        """Use another BackendConfig from now on, also after a restart."""
        with self._lock:
            self._config = config
            self._distil_seconds = (
                self._distil_seconds if distil_seconds is None else distil_seconds
            )
            self._shrink, self.memory_msg = 0, ""
        return self._request(self._configuration())

    def reset(self):
        """Future of {"keyframes": number forgotten}: clears the store and starts over. Cancel a
        running refinement first.
        """
        return self._request({"command": "reset"})

    def begin_session(self):
        """Future of {"session": its number, "generation": of the map, which stays, 0: none}: the
        front end started anew, its keyframes are tied to the map where they are found in it.
        Cancel a running refinement first.
        """
        return self._request({"command": "session"})

    def load(self, folder, merge):
        """Future of {"code": ok, unreadable, conflict, no_map or not_localized; "message"; when
        ok: "keyframes" and "added", counts, "generation", "T_map_loaded": 16 numbers}: takes a
        saved map into the store. Cancel a running refinement first.
        """
        return self._request({"command": "load", "folder": str(folder), "merge": bool(merge)})

    def close(self):
        """End the worker."""
        self._closing.set()
        with self._lock:
            if self._connection is not None:
                self._child.hang_up()
        if self._supervisor.is_alive():
            self._supervisor.join(timeout=10.0)

    def _configuration(self):
        return {
            "command": "configure",
            "config": {name: value for name, (value, _) in self._config.flat().items()},
            "distil_seconds": self._distil_seconds,
            "shrink": self._shrink,
        }

    def _request(self, header, payload=b"", progress=None):
        future = Future()
        future.set_running_or_notify_cancel()  # nobody can cancel it behind the worker's back
        with self._lock:
            future.number = next(self._numbers)
            if self._connection is None:
                future.set_exception(
                    WorkerError("died", self.fault or "the worker process is not running yet")
                )
                return future
            self._pending[future.number] = (future, progress, header["command"])
            connection = self._connection
        try:
            with self._sending:
                wire.send(connection, {**header, "request": future.number}, payload)
        except OSError as error:
            # half a frame may be on its way: that worker is lost, and its end fails every pending
            # request
            self._log.warning(f"cannot reach the worker: {error}")
            self._kill()
        return future

    def _supervise(self):
        wait = FIRST_RESTART_SECONDS
        while not self._closing.is_set():
            started = time.monotonic()
            reason = self._watched(self._live)
            self._watched(lambda: self._bury(reason))
            if self._closing.is_set():
                return
            if time.monotonic() - started > HEALTHY_SECONDS:
                wait = FIRST_RESTART_SECONDS
            self._log.error(f"{reason}; starting it again in {wait:.1f} s")
            self._tell(self._on_change)
            self._closing.wait(wait)
            wait = min(2 * wait, LONGEST_RESTART_SECONDS)
            self.restarts += 1

    def _watched(self, work):
        """What work() returns; when it fails, why: whatever goes wrong here, the next worker is
        supervised.
        """
        try:
            return work()
        except Exception as error:
            self._log.error(f"supervising the worker failed:\n{traceback.format_exc()}")
            return f"supervising the worker failed: {type(error).__name__}: {error}"

    def _tell(self, listener, *arguments):
        """Call what others gave us: an exception of theirs is not the worker's."""
        try:
            listener(*arguments)
        except Exception:
            self._log.error(f"a callback failed:\n{traceback.format_exc()}")

    def _live(self):
        """Start a worker and serve it until it ends: why it did."""
        try:
            self._spawn()
        except OSError as error:
            return f"the worker process cannot be started: {error}"
        return self._read_until_death()

    def _spawn(self):
        # Its own session: a Ctrl-C meant for the node must not end a refinement the node still
        # wants to close in order.
        child = ChildProcess(
            "vggt3_ros.worker",
            "--store",
            self._folder,
            "--backend",
            self._backend,
            own_session=True,
        )
        child.connection.settimeout(self._hang_seconds)
        # nobody's request overtakes the configuration, without which the worker can do nothing
        with self._sending:
            with self._lock:
                self._connection, self._child, self._hand = child.connection, child, {}
                # close() came while there was no connection that it could end
                if self._closing.is_set():
                    child.hang_up()
            configured = self._request(self._configuration())
        configured.add_done_callback(self._configured)
        self._tell(self._on_change)

    def _configured(self, future):
        error = future.exception()
        with self._lock:
            self.ready, self.fault = error is None, "" if error is None else str(error)
        if error is not None and error.code not in ("died", "cancelled"):  # it stops because we do
            self._log.error(f"the worker cannot work: {error}")
        self._tell(self._on_change)

    def _read_until_death(self):
        while True:
            try:
                header, _ = wire.receive(self._connection)
            except TimeoutError:
                self._kill()
                return (
                    f"the worker gave no sign of life for {self._hang_seconds:.0f} s and was ended"
                )
            except (EOFError, OSError):
                self._child.wait()
                return f"the worker process ended ({self._child.end})"
            except wire.FrameError as error:
                self._kill()
                return f"the worker sent what cannot be read: {error}"
            try:
                self._handle(header)
            except _Hung as hung:
                self._kill()
                return str(hung)
            except (KeyError, TypeError) as error:
                self._kill()
                return f"the worker sent what makes no sense: {str(header)[:200]} ({type(error).__name__}: {error})"

    def _handle(self, header):
        event, number = header.get("event"), header.get("request")
        if event == "alive":
            self.memory_mb, self.device_mb = header["memory_mb"], header["device_mb"]
            self._note_running_on(header.get("running_on", ""))
            self._check_still(header["still"])
        elif event == "hand":
            self._take_in_hand(header["hand"])
        elif event == "shrink":
            self._shrink, self.memory_msg = header["level"], header["message"]
            self._tell(self._on_change)
        elif event == "snapshot":
            self._tell(self._on_snapshot, header["generation"])
        elif event == "progress":
            _, progress, _ = self._pending.get(number, (None, None, ""))
            if progress is not None:
                self._tell(progress, header["phase"], header["fraction"])
        else:
            with self._lock:
                future, _, command = self._pending.pop(number, (None, None, ""))
            if future is None:
                self._log.warning(f"the worker answered request {number}, which nobody made")
            elif event == "result":
                self._tell(self._passed, command)
                future.set_result(
                    {k: v for k, v in header.items() if k not in ("event", "request")}
                )
            else:
                error = WorkerError(header.get("code", "failed"), header.get("message", ""))
                if command == "refine" and error.code == "failed" and self._suspects is not None:
                    self._tell(self._suspects.died, {**self._hand, "query": ""}, str(error))
                future.set_exception(error)

    def _take_in_hand(self, hand):
        before, distilled, self._hand = self._hand, self.distilling, hand
        # else the job has ended, perhaps by what it had in hand
        if self._suspects is not None and hand["phase"]:
            self._tell(
                self._suspects.passed,
                set(before.get("keyframes", ())) - set(hand["keyframes"]),
                before.get("phase"),
            )
        if self.distilling != distilled:
            self._tell(self._on_change)

    def _note_running_on(self, text):
        if text and text != self.running_on:
            self._log.info(f"the worker runs on {text}")
        self.running_on = text or self.running_on

    def _check_still(self, still):
        """Raises _Hung when a job has not got on for too long: the thread that says it is alive
        knows nothing of the others.
        """
        limit = self._hang_seconds * (PATIENCE if still and still["patient"] else 1)
        if still and still["seconds"] > limit:
            raise _Hung(
                f"the worker has not got on with {still['what']} for {still['seconds']:.0f} s and was ended"
            )

    def _passed(self, command):
        if self._suspects is not None and command == "refine":
            self._suspects.refined()
        if self._suspects is not None and command == "localize" and self._hand.get("query"):
            self._suspects.answered(self._hand["query"])

    def _kill(self):
        if self._child is not None:
            self._child.kill()

    def _bury(self, reason):
        with self._lock:
            child, closing = self._child, self._closing.is_set()
            self._connection, self.ready, self.fault, self.memory_mb, self.device_mb = (
                None,
                False,
                reason,
                0.0,
                0.0,
            )
            pending, self._pending = self._pending, {}
            if child is not None:
                child.hang_up()
                child.wait()
                child.close()
        of_use = closing or self._watched(lambda: self._learn(reason))
        self._hand = {}
        for future, _, command in pending.values():
            code = "died" if of_use or command != "refine" else "hopeless"
            future.set_exception(
                WorkerError("cancelled", "the back end stops")
                if closing
                else WorkerError(code, reason)
            )

    def _learn(self, reason):
        """From a death: what was in hand, and whether memory ran out. Whether trying the same
        again is of use.
        """
        # and not by us
        killed_for_memory = (
            self._child is not None and self._child.killed_for_memory and "SIGKILL" in reason
        )
        if killed_for_memory and self._shrink < plans.SMALLEST_PLAN:
            self._shrink += 1
            plan = plans.plan_text(plans.shrunk(self._config, self._shrink))
            self.memory_msg = (
                f"the kernel was out of memory and {reason}; it goes on with less: {plan}"
            )
            self._log.error(self.memory_msg)
            return True
        return self._suspects is None or self._suspects.died(self._hand, reason)
