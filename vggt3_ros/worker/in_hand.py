"""What the worker works on right now, and since when: so that a hang is seen, and an input that
ends the worker is named.
"""

import threading
import time


class InHand:
    """Notes of two threads, one refining (everything but localizing), one localizing. Thread-safe.

    tell(hand) is called before anything new is worked on; `hand` then survives the death of this
    process. It is {"phase": name, "keyframes": [ids], "query": digest or ""}. Work on keyframes
    ends at the next step: what was taken in hand since the last step is at fault when the process
    ends.
    """

    def __init__(self, tell):
        self._tell, self._lock = tell, threading.Lock()
        self._hand = {"phase": "", "keyframes": [], "query": ""}
        self._refiner = None
        self._job = self._job_began = self._query_began = None
        self._patient = False

    @property
    def phase(self):
        return self._hand["phase"]

    def begin(self, job, patient=False):
        """The calling thread begins a job; a patient one waits for the disk or a download and is
        not expected to step.
        """
        with self._lock:
            self._refiner, self._job, self._patient = threading.get_ident(), job, patient
            self._job_began = time.monotonic()
            self._change(phase=job, keyframes=[])

    def step(self, phase=None):
        """The job got on."""
        with self._lock:
            self._job_began = time.monotonic()
            self._change(phase=phase or self._hand["phase"], keyframes=[])

    def keyframe(self, keyframe_id):
        """The job takes a keyframe in hand, with the one before it: pairs are matched. Other
        threads than the job's are not heard: they localize.
        """
        with self._lock:
            if (
                threading.get_ident() == self._refiner
                and self._job is not None
                and keyframe_id not in self._hand["keyframes"]
            ):
                self._change(keyframes=self._hand["keyframes"][-1:] + [int(keyframe_id)])

    def end(self):
        with self._lock:
            self._job = None
            self._change(phase="", keyframes=[])

    def query(self, digest):
        """An image to localize is taken in hand; empty: it is answered."""
        with self._lock:
            self._query_began = time.monotonic() if digest else None
            self._change(query=digest)

    def still(self):
        """{"what", "seconds", "patient"} of the work that has gone longest without a step, or
        None.
        """
        now = time.monotonic()
        with self._lock:
            work = []
            if self._job is not None:
                work.append(
                    {
                        "what": self._hand["phase"] or self._job,
                        "seconds": now - self._job_began,
                        "patient": self._patient,
                    }
                )
            if self._query_began is not None:
                work.append(
                    {"what": "localize", "seconds": now - self._query_began, "patient": False}
                )
        return max(work, key=lambda entry: entry["seconds"], default=None)

    def _change(self, **values):
        hand = {**self._hand, **values}
        if hand != self._hand:
            self._hand = hand
            self._tell(hand)
