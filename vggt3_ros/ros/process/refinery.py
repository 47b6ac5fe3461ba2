"""Schedule refinements: after N keyframes, after T seconds with a new keyframe, or on request.
Never blocks; needs no ROS.
"""

import threading
import time
import traceback
from concurrent.futures import Future

from vggt3_ros.worker.client import WorkerError


class Refinery:
    """Requests refinements from `worker` (WorkerClient). limits(): returns (keyframes, seconds)
    that trigger one, 0: never.

    waiting: number of unrefined keyframes at the start. on_change() is called when a refinement
    starts, advances or ends. A refinement is cancelled if all requests for it are withdrawn; its
    keyframes then trigger none until as many more have arrived.
    """

    def __init__(self, worker, limits, waiting, on_change, logger):
        self._worker, self._limits, self._on_change, self._log = worker, limits, on_change, logger
        self._lock = threading.RLock()
        self._new, self._running, self._requested = waiting, None, []
        # Requests that the running refinement serves, and whether all were withdrawn.
        self._served, self._cancelling = [], False
        # Waiting keyframes that were in a withdrawn refinement.
        self._declined = 0
        self._began = self._ended = time.monotonic()
        self._paused = False
        self.phase, self.progress = "", 0.0
        self.error = ""
        self.seconds = 0.0

    @property
    def running(self):
        return self._running is not None

    @property
    def waiting(self):
        """Number of keyframes that no refinement has started on."""
        return self._new

    @property
    def wishes(self):
        """Number of requests that wait for a refinement to start."""
        return len(self._requested)

    @property
    def age(self):
        """Seconds since the last successful refinement; 0 if there was none."""
        return time.monotonic() - self._ended if self.seconds else 0.0

    def keyframe_added(self):
        with self._lock:
            self._new += 1
        self.tick()

    def request(self, listener=None):
        """Request a refinement of everything stored by now. Returns a Future of its generation,
        which raises WorkerError.

        listener(phase, fraction) is called with its progress. Use :meth:`withdraw` instead of
        cancelling the Future.
        """
        wish = Future()
        wish.set_running_or_notify_cancel()
        wish.listener = listener or (lambda phase, fraction: None)
        with self._lock:
            self._requested.append(wish)
        self.tick()
        return wish

    def withdraw(self, wish):
        """Withdraw a request, which ends with WorkerError("cancelled"). Its running refinement is
        cancelled, too, unless other requests wait for it. A refinement that started by itself
        continues.
        """
        with self._lock:
            if self._cancelling and wish in self._served:
                return
            if self._served == [wish]:
                self._cancelling = True  # the request ends when the worker has stopped
                self._worker.cancel(self._running)
                return
            wishes = next(
                (wishes for wishes in (self._requested, self._served) if wish in wishes), None
            )
            if wishes is None:
                return
            wishes.remove(wish)
        wish.set_exception(WorkerError("cancelled", "cancelled by the client"))

    def pause(self):
        """Cancel the running refinement, drop all requests, and start none until :meth:`resume`."""
        with self._lock:
            self._paused = True
            dropped, self._requested = self._requested, []
            if self._running is not None:
                self._worker.cancel(self._running)
        for wish in dropped:
            wish.set_exception(WorkerError("cancelled", "cancelled before it started"))

    def resume(self, waiting=None):
        with self._lock:
            self._paused = False
            if waiting is not None:
                self._new, self._declined = waiting, 0
        self.tick()

    def tick(self):
        """Start a refinement if one is due. Called at every event and once per second."""
        with self._lock:
            if self._running is not None or self._paused or not self._worker.ready:
                return
            keyframes, seconds = self._limits()
            fresh = self._new - self._declined
            due = (keyframes and fresh >= keyframes) or (
                seconds and fresh > 0 and time.monotonic() - self._began >= seconds
            )
            if not (due or self._requested):
                return
            self._served, self._requested = self._requested, []
            covered, self._new, self._declined = self._new, 0, 0
            self._began = time.monotonic()
            self.phase, self.progress = "", 0.0
            self._running = future = self._worker.refine(self._advance)
        self._on_change()
        future.add_done_callback(lambda done: self._finish(done, covered))

    def _advance(self, phase, fraction):
        self.phase, self.progress = phase, fraction
        with self._lock:
            wishes = list(self._served)
        for wish in wishes:
            try:
                wish.listener(phase, fraction)
            except Exception:  # must not affect other listeners
                self._log.error(f"a refinement listener failed:\n{traceback.format_exc()}")
        self._on_change()

    def _finish(self, done, covered):
        error = done.exception()
        with self._lock:
            wishes, self._served = self._served, []
            self._running, self.phase, self.progress = None, "", 0.0
            if error is None:
                self._ended, self.error = time.monotonic(), ""
                self.seconds = self._ended - self._began
            else:
                self.error = "" if error.code == "cancelled" else str(error)
                # The keyframes are not at fault and remain waiting.
                if error.code in ("died", "cancelled"):
                    self._new += covered
            if self._cancelling and error is not None and error.code == "cancelled":
                self._declined, self._began = covered, time.monotonic()
            self._cancelling = False
        if error is not None and error.code == "invalid":
            self._log.info(f"nothing to refine: {error}")
        elif error is not None and error.code != "cancelled":
            self._log.error(f"refinement failed: {error}")
        for wish in wishes:
            if error is None:
                wish.set_result(done.result()["generation"])
            else:
                wish.set_exception(error)
        self._on_change()
        self.tick()
