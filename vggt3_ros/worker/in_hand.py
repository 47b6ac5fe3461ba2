"""What the worker is working on, and since when, to detect a hang and to identify an input that
kills the worker.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, TypedDict


class Hand(TypedDict):
    """phase: of the job, "" without one; keyframes: ids in hand; query: digest of the image being
    localized, or "".
    """

    phase: str
    keyframes: list[int]
    query: str


class Still(TypedDict):
    """Work that makes no progress: what, for how many seconds, and whether that is expected."""

    what: str
    seconds: float
    patient: bool


class InHand:
    """Note what two threads work on: one refines (everything but localizing), one localizes.
    Thread-safe.

    tell(hand) is called before work on anything new begins, so that the node knows it if this
    process dies. A step ends the work on the keyframes in hand: if the process dies, the keyframes
    taken since the last step are suspected.
    """

    def __init__(self, tell: Callable[[Hand], object]) -> None:
        self._tell, self._lock = tell, threading.Lock()
        self._hand: Hand = {"phase": "", "keyframes": [], "query": ""}
        self._refiner: int | None = None
        self._job: str | None = None
        self._job_began = 0.0
        self._query_began: float | None = None
        self._patient = False

    @property
    def phase(self) -> str:
        """The phase of the current job; "" without one."""
        return self._hand["phase"]

    def begin(self, job: str, patient: bool = False) -> None:
        """Begin a job in the calling thread. A patient job waits for the disk or a download and is
        not expected to make steps.
        """
        with self._lock:
            self._refiner, self._job, self._patient = threading.get_ident(), job, patient
            self._job_began = time.monotonic()
            self._change(phase=job, keyframes=[])

    def step(self, phase: str | None = None) -> None:
        """Note progress of the job; phase: its next phase, None: the same."""
        with self._lock:
            self._job_began = time.monotonic()
            self._change(phase=phase or self._hand["phase"], keyframes=[])

    def keyframe(self, keyframe_id: int) -> None:
        """Note that the job works on a keyframe, together with the previous one, because pairs are
        matched. Calls from other threads than the job's are ignored: they localize.
        """
        with self._lock:
            if (
                threading.get_ident() == self._refiner
                and self._job is not None
                and keyframe_id not in self._hand["keyframes"]
            ):
                self._change(keyframes=self._hand["keyframes"][-1:] + [int(keyframe_id)])

    def end(self) -> None:
        """End the job."""
        with self._lock:
            self._job = None
            self._change(phase="", keyframes=[])

    def query(self, digest: str) -> None:
        """Begin to localize the image with this digest; "": it is answered."""
        with self._lock:
            self._query_began = time.monotonic() if digest else None
            self._change(query=digest)

    def still(self) -> Still | None:
        """Return the work that has gone longest without a step; None without any work."""
        now = time.monotonic()
        with self._lock:
            work: list[Still] = []
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

    def _change(self, **values: Any) -> None:
        hand: Hand = {**self._hand, **values}  # type: ignore[typeddict-item]
        if hand != self._hand:
            self._hand = hand
            self._tell(hand)
