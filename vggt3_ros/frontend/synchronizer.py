"""Messages of several topics that belong together: to each image the nearest of the others. Needs
no ROS.

message_filters does the same with callbacks, but is on no wheel and cannot wait for odometry to
interpolate.
"""

from bisect import bisect_left, insort
from collections import Counter
from dataclasses import dataclass

# stamps that go back by more begin anew: a bag was restarted, simulated time reset
RESTART_NS = 1_000_000_000
WAIT = object()  # the answer may still come


@dataclass(frozen=True)
class Miss:
    """There is no answer and will be none."""

    reason: str


class Nearest:
    """The messages of one topic by stamp; asked for the nearest one within tolerance_ns. Holds
    `queue` messages.
    """

    def __init__(self, tolerance_ns, queue):
        self.tolerance_ns, self._queue = tolerance_ns, queue
        self._messages = []

    @property
    def newest_ns(self):
        return self._messages[-1][0] if self._messages else None

    def add(self, stamp_ns, message):
        if self._messages and stamp_ns < self.newest_ns - RESTART_NS:
            self._messages.clear()
        insort(self._messages, (stamp_ns, message), key=_stamp)
        del self._messages[: -self._queue]

    def at(self, stamp_ns):
        """The message nearest to a stamp; WAIT while a nearer one may still come; Miss."""
        if not self._messages:
            return WAIT
        after = bisect_left(self._messages, stamp_ns, key=_stamp)
        if after == len(self._messages):
            return WAIT
        near = min(
            self._messages[max(0, after - 1) : after + 1],
            key=lambda entry: abs(entry[0] - stamp_ns),
        )
        off = abs(near[0] - stamp_ns)
        return (
            near[1] if off <= self.tolerance_ns else Miss(f"the nearest is {off / 1e9:.3f} s off")
        )


class Synchronizer:
    """Pivot messages (images) with what `tracks` ({name: Nearest or PoseTrack}) have at their
    stamps. Not thread-safe.

    Holds `queue` pivots that wait; the oldest gives way. `missed` counts those dropped, by reason.
    """

    def __init__(self, tracks, queue):
        self.tracks, self._queue = tracks, queue
        self._waiting = []
        self.missed = Counter()
        self.last_miss = ""

    def add(self, stamp_ns, pivot):
        if self._waiting and stamp_ns < self._waiting[-1][0] - RESTART_NS:
            self._waiting.clear()
        insort(self._waiting, (stamp_ns, pivot), key=_stamp)
        if len(self._waiting) > self._queue:
            stamp_ns, _ = self._waiting.pop(0)
            self._drop(
                next(
                    (name for name, track in self.tracks.items() if track.at(stamp_ns) is WAIT), ""
                ),
                "none has come for it",
            )

    def ready(self):
        """Complete sets (stamp_ns, pivot, {name: found}) in the order of their stamps; each is
        given once.
        """
        while self._waiting:
            stamp_ns, pivot = self._waiting[0]
            found = {name: track.at(stamp_ns) for name, track in self.tracks.items()}
            missing = next(
                (
                    (name, answer.reason)
                    for name, answer in found.items()
                    if isinstance(answer, Miss)
                ),
                None,
            )
            if missing is None and any(answer is WAIT for answer in found.values()):
                return
            self._waiting.pop(0)
            if missing:
                self._drop(*missing)
            else:
                yield stamp_ns, pivot, found

    def clear(self):
        self._waiting.clear()

    def _drop(self, name, reason):
        self.missed[name] += 1
        self.last_miss = f"{name}: {reason}"


def _stamp(entry):
    return entry[0]
