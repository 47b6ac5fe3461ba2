"""Synchronize the messages of several topics: for each image, the nearest message or interpolated
pose of the others. No ROS.

message_filters does this with callbacks, but there is no wheel of it, and it cannot interpolate
odometry.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, Protocol, TypeVar

# stamps that go back by more mean a restart of the bag or of simulated time
RESTART_NS = 1_000_000_000


class Wait(Enum):
    """The match is not known yet; a later message may supply it."""

    WAIT = "wait"


WAIT: Final = Wait.WAIT
Message = TypeVar("Message")
Pivot = TypeVar("Pivot")


@dataclass(frozen=True)
class Miss:
    """There is no match, and no later message can supply one."""

    reason: str


class Track(Protocol):
    """What a Synchronizer looks up at the stamp of an image: Nearest or PoseTrack."""

    def at(self, stamp_ns: int) -> object:
        """Return the match at a stamp, WAIT or a Miss."""


class Nearest(Generic[Message]):
    """The last `queue` messages of a topic by stamp, and lookup of the nearest within tolerance_ns."""

    def __init__(self, tolerance_ns: int, queue: int) -> None:
        self.tolerance_ns, self._queue = tolerance_ns, queue
        self._messages: list[tuple[int, Message]] = []

    @property
    def newest_ns(self) -> int | None:
        """The newest stamp; None without a message."""
        return self._messages[-1][0] if self._messages else None

    def add(self, stamp_ns: int, message: Message) -> None:
        """Add a message. A stamp far before the newest clears the queue."""
        if self._messages and stamp_ns < self._messages[-1][0] - RESTART_NS:
            self._messages.clear()
        insort(self._messages, (stamp_ns, message), key=_stamp)
        del self._messages[: -self._queue]

    def at(self, stamp_ns: int) -> Message | Wait | Miss:
        """Return the message nearest to a stamp, WAIT while a nearer one may still arrive, or a
        Miss.
        """
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


class Synchronizer(Generic[Pivot]):
    """Combine pivot messages (images) with what `tracks` ({name: Nearest or PoseTrack}) have at
    their stamps. Not thread-safe.

    At most `queue` pivots wait; then the oldest is dropped. missed: how many were dropped, by the
    track that had no match. last_miss: the latest reason.
    """

    def __init__(self, tracks: Mapping[str, Track], queue: int) -> None:
        self.tracks, self._queue = tracks, queue
        self._waiting: list[tuple[int, Pivot]] = []
        self.missed: Counter[str] = Counter()
        self.last_miss = ""

    def add(self, stamp_ns: int, pivot: Pivot) -> None:
        """Add a pivot. A stamp far before the newest clears those that wait."""
        if self._waiting and stamp_ns < self._waiting[-1][0] - RESTART_NS:
            self._waiting.clear()
        insort(self._waiting, (stamp_ns, pivot), key=_stamp)
        if len(self._waiting) > self._queue:
            stamp_ns, _ = self._waiting.pop(0)
            self._drop(
                next(
                    (name for name, track in self.tracks.items() if track.at(stamp_ns) is WAIT), ""
                ),
                "none has arrived for it",
            )

    def ready(self) -> Iterator[tuple[int, Pivot, dict[str, Any]]]:
        """Yield complete sets (stamp_ns, pivot, {name: match}) in the order of their stamps, each
        once.
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

    def clear(self) -> None:
        """Drop the pivots that wait, without counting them."""
        self._waiting.clear()

    def _drop(self, name: str, reason: str) -> None:
        self.missed[name] += 1
        self.last_miss = f"{name}: {reason}"


def _stamp(entry: tuple[int, object]) -> int:
    return entry[0]
