"""A tree of coordinate frames: fixed transforms from /tf_static and moving ones from /tf,
interpolated in time. For live topics and bags.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.se3 import Floats

MAX_FRAMES, MAX_MOVING = 10_000, 500  # limits against hostile input; no robot has more
# transforms kept per moving frame: ten seconds, as tf2 keeps, at 200 Hz
HISTORY = 2000
RESTART_NS = 1_000_000_000  # stamps that go back by more restart the history
STILL_M, STILL_RAD = 1e-3, 1e-3  # a frame that moved by no more between two stamps stood still

Value = TypeVar("Value")


class NotYet(LookupError):
    """The transform is not known yet; a later message may supply it."""


class Unknown(LookupError):
    """The transform is not known, and no later message can supply it."""


class FrameTree(Generic[Value]):
    """Collect transforms between frames and look them up at any time. Not thread-safe. A leading
    slash of a frame name is ignored; ROS 1 drivers still write it.

    gap_ns: transforms farther apart are not interpolated, unless the frame stood still between
    them. history: how many transforms are kept per moving frame, None: all. matrix(value) -> (4, 4)
    converts what :meth:`move` is given, when it is needed; it raises ValueError for an invalid
    value.
    """

    def __init__(
        self,
        gap_ns: int,
        history: int | None = HISTORY,
        matrix: Callable[[Value], Floats] = np.asarray,
    ) -> None:
        self.gap_ns, self._history, self._matrix = gap_ns, history, matrix
        # child -> (parent, T_parent_child)
        self._fixed: dict[str, tuple[str, Floats]] = {}
        # child -> (parent, [(stamp_ns, value), ...])
        self._moving: dict[str, tuple[str, list[tuple[int, Value]]]] = {}

    def fix(self, parent: str, child: str, T_parent_child: Floats) -> None:
        """Set a fixed transform (4, 4), replacing an earlier one. A moving transform of the same
        child takes precedence. Raises ValueError for more than MAX_FRAMES frames.
        """
        parent, child = _bare(parent), _bare(child)
        if len(self._fixed) >= MAX_FRAMES and child not in self._fixed:
            raise ValueError(f"too many frames: {MAX_FRAMES} are already known")
        self._fixed[child] = parent, T_parent_child

    def move(self, parent: str, child: str, stamp_ns: int, value: Value) -> bool:
        """Add the transform of a moving frame at a stamp. Return whether the frame was fixed until
        now; from now on it moves. Raises ValueError for more than MAX_MOVING moving frames.
        """
        parent, child = _bare(parent), _bare(child)
        known = self._moving.get(child)
        if known is None and len(self._moving) >= MAX_MOVING:
            raise ValueError(f"too many moving frames: {MAX_MOVING} are already known")
        if known is None or known[0] != parent or stamp_ns < known[1][-1][0] - RESTART_NS:
            self._moving[child] = parent, [(stamp_ns, value)]
            return known is None and child in self._fixed
        series = known[1]
        at = bisect_left(series, stamp_ns, key=_stamp)
        if at == len(series) or series[at][0] != stamp_ns:
            insort(series, (stamp_ns, value), key=_stamp)
        if self._history and len(series) > self._history:
            del series[: self._history // 4]
        return False

    def connected(self, target: str, source: str) -> bool:
        """Tell whether transforms connect the two frames, at whatever time."""
        return self._paths(target, source) is not None

    def moves(self, target: str, source: str) -> bool:
        """Tell whether a frame between the two moves, or they are not connected."""
        paths = self._paths(target, source)
        return paths is None or any(frame in self._moving for path in paths for frame in path)

    def at(self, target: str, source: str, stamp_ns: int) -> Floats | None:
        """Return T_target_source (4, 4) at a stamp, None while the two are not connected. Raises
        NotYet before the transform is known, Unknown if it never will be.
        """
        paths = self._paths(target, source)
        if paths is None:
            return None
        T_common_target, T_common_source = (self._along(path, stamp_ns) for path in paths)
        return se3.orthonormalize(se3.inverse(T_common_target) @ T_common_source)

    def _paths(self, target: str, source: str) -> tuple[list[str], list[str]] | None:
        """Return the frames from `target` and from `source` up to their lowest common ancestor,
        without it; None if they have none.
        """
        to_target, to_source = self._ancestors(_bare(target)), self._ancestors(_bare(source))
        common = next((frame for frame in to_target if frame in to_source), None)
        return (
            None
            if common is None
            else (to_target[: to_target.index(common)], to_source[: to_source.index(common)])
        )

    def _ancestors(self, frame: str) -> list[str]:
        """Return a frame and its ancestors, nearest first, up to the first that repeats."""
        found = [frame]
        while (parent := self._parent(frame)) is not None and parent not in found:
            found.append(frame := parent)
        return found

    def _parent(self, frame: str) -> str | None:
        found = self._moving.get(frame) or self._fixed.get(frame)
        return found[0] if found else None

    def _along(self, path: Sequence[str], stamp_ns: int) -> Floats:
        """Return T_common_first (4, 4), where `first` is the first frame of the path."""
        transform: Floats = np.eye(4)
        for frame in path:
            transform = (
                self._moved(frame, stamp_ns) if frame in self._moving else self._fixed[frame][1]
            ) @ transform
        return transform

    def _moved(self, frame: str, stamp_ns: int) -> Floats:
        """Return T_parent_frame (4, 4) of a moving frame at a stamp, interpolated along the motion
        between its neighbours in time.
        """
        parent, series = self._moving[frame]
        after = bisect_left(series, stamp_ns, key=_stamp)
        named = f"{parent} -> {frame}"
        if after == len(series):
            raise NotYet(
                f"the newest transform {named} is {(stamp_ns - series[-1][0]) / 1e9:.3f} s older than the image"
            )
        if series[after][0] == stamp_ns:
            return self._read(named, series[after][1])
        if after == 0:
            raise Unknown(f"it is older than the first transform {named}")
        (begin, before), (end, behind) = series[after - 1 : after + 1]
        earlier, later = self._read(named, before), self._read(named, behind)
        motion = se3.log(se3.inverse(earlier) @ later)
        if end - begin > self.gap_ns and (
            np.linalg.norm(motion[:3]) > STILL_M or np.linalg.norm(motion[3:]) > STILL_RAD
        ):
            raise Unknown(
                f"the transforms {named} around it are {(end - begin) / 1e9:.3f} s apart"
            )
        return earlier @ se3.exp(motion * ((stamp_ns - begin) / (end - begin)))

    def _read(self, named: str, value: Value) -> Floats:
        try:
            return self._matrix(value)
        except ValueError as error:
            raise Unknown(f"{named}: {error}") from error


def same_frame(a: str, b: str) -> bool:
    """Tell whether two names mean the same frame. An empty name matches any."""
    return not a or not b or _bare(a) == _bare(b)


def _bare(frame: str) -> str:
    return frame.lstrip("/")


def _stamp(entry: tuple[int, object]) -> int:
    return entry[0]
