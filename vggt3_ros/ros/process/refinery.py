"""When to refine: after N keyframes, after T seconds with a new one, or on request. Never blocks;
needs no ROS.
"""

import threading
import time
import traceback
from concurrent.futures import Future

from vggt3_ros.worker.client import WorkerError


class Refinery:
    """Asks `worker` (WorkerClient) for refinements. `limits()` gives (keyframes, seconds) that
    start one, 0: never.

    waiting: keyframes not refined yet at the start. on_change() is called when a refinement
    starts, advances or ends. A refinement that those who wished for it withdrew from is cancelled;
    the keyframes in it then start none by themselves until as many more have come.
    """

    def __init__(self, worker, limits, waiting, on_change, logger):
        self._worker, self._limits, self._on_change, self._log = worker, limits, on_change, logger
        self._lock = threading.RLock()
        self._new, self._running, self._requested = waiting, None, []
        # wishes that the running refinement grants, and whether all were withdrawn
        self._served, self._cancelling = [], False
        # of the keyframes waiting, those that were in a refinement that was withdrawn from
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
        """Keyframes that no refinement has begun on."""
        return self._new

    @property
    def wishes(self):
        """Requests that wait for a refinement to begin."""
        return len(self._requested)

    @property
    def age(self):
        """Seconds since the last refinement that succeeded; 0 when there was none."""
        return time.monotonic() - self._ended if self.seconds else 0.0

    def keyframe_added(self):
        with self._lock:
            self._new += 1
        self.tick()

    def request(self, listener=None):
        """Future of the generation that a refinement of everything stored by now yields; raises
        WorkerError. listener(phase, fraction) hears of its progress. :meth:`withdraw` it, rather
        than cancel it.
        """
        wish = Future()
        wish.set_running_or_notify_cancel()
        wish.listener = listener or (lambda phase, fraction: None)
        with self._lock:
            self._requested.append(wish)
        self.tick()
        return wish

    def withdraw(self, wish):
        """Whoever made this wish no longer wants it: it ends with WorkerError("cancelled"). So
        does the refinement that runs for it, unless others wait for the same one; one that started
        by itself goes on.
        """
        with self._lock:
            if self._cancelling and wish in self._served:
                return
            if self._served == [wish]:
                self._cancelling = True  # and the wish is told when the worker has stopped
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
        """Cancel the refinement that runs, drop the wishes for another, and start none until
        :meth:`resume`.
        """
        with self._lock:
            self._paused = True
            dropped, self._requested = self._requested, []
            if self._running is not None:
                self._worker.cancel(self._running)
        for wish in dropped:
            wish.set_exception(WorkerError("cancelled", "cancelled before it began"))

    def resume(self, waiting=None):
        with self._lock:
            self._paused = False
            if waiting is not None:
                self._new, self._declined = waiting, 0
        self.tick()

    def tick(self):
        """Start a refinement if one is due. Called at every event and once a second."""
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
            except Exception:  # its own affair: others are told
                self._log.error(f"a listener to the refinement failed:\n{traceback.format_exc()}")
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
                # nothing is wrong with the keyframes: they still wait
                if error.code in ("died", "cancelled"):
                    self._new += covered
            if self._cancelling and error is not None and error.code == "cancelled":
                self._declined, self._began = covered, time.monotonic()
            self._cancelling = False
        if error is not None and error.code == "invalid":
            self._log.info(f"nothing refined: {error}")
        elif error is not None and error.code != "cancelled":
            self._log.error(f"refinement failed: {error}")
        for wish in wishes:
            if error is None:
                wish.set_result(done.result()["generation"])
            else:
                wish.set_exception(error)
        self._on_change()
        self.tick()
