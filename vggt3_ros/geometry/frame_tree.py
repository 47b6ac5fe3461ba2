"""Where frames sit on one another: fixed ones as /tf_static says, moving ones at any time as /tf
says, live or in a bag.
"""

from bisect import bisect_left, insort

import numpy as np

from vggt3_ros.geometry import se3

MAX_FRAMES, MAX_MOVING = 10_000, 500  # more are no robot's
# transforms kept of a moving frame: ten seconds of 200 Hz, and tf2 keeps ten seconds
HISTORY = 2000
RESTART_NS = 1_000_000_000  # stamps that go back by more begin anew
STILL_M, STILL_RAD = 1e-3, 1e-3  # what moved by no more between two stamps has not moved


class NotYet(LookupError):
    """A later transform may still tell."""


class Unknown(LookupError):
    """Nothing tells, and nothing will."""


class FrameTree:
    """Not thread-safe. Frame names may begin with a slash, as ROS 1 drivers still write them.

    gap_ns: between transforms farther apart nothing is interpolated, unless the frame stood still.
    history: how many are kept of a frame, None: all. matrix(value) -> (4, 4) of what :meth:`move`
    is given, asked for those alone that are needed; ValueError when it is none.
    """

    def __init__(self, gap_ns, history=HISTORY, matrix=lambda value: value):
        self.gap_ns, self._history, self._matrix = gap_ns, history, matrix
        # child -> (parent, T_parent_child); child -> (parent, [(stamp_ns, value), ...])
        self._fixed, self._moving = {}, {}

    def fix(self, parent, child, T_parent_child):
        """The newest word on a child holds, unless it moves. T_parent_child (4, 4). ValueError
        when there are too many to be a robot's.
        """
        parent, child = _bare(parent), _bare(child)
        if len(self._fixed) >= MAX_FRAMES and child not in self._fixed:
            raise ValueError(f"{MAX_FRAMES} frames are known already")
        self._fixed[child] = parent, T_parent_child

    def move(self, parent, child, stamp_ns, value):
        """Where a child is at a stamp. Whether it was believed to be fixed until now: from now on
        it moves. ValueError as :meth:`fix`.
        """
        parent, child = _bare(parent), _bare(child)
        held, series = self._moving.get(child, (parent, None))
        if series is None and len(self._moving) >= MAX_MOVING:
            raise ValueError(f"{MAX_MOVING} moving frames are known already")
        if series is None or held != parent or stamp_ns < series[-1][0] - RESTART_NS:
            self._moving[child] = parent, [(stamp_ns, value)]
            return series is None and child in self._fixed
        at = bisect_left(series, stamp_ns, key=_stamp)
        if at == len(series) or series[at][0] != stamp_ns:
            insort(series, (stamp_ns, value), key=_stamp)
        if self._history and len(series) > self._history:
            del series[: self._history // 4]
        return False

    def connected(self, target, source):
        """Whether anything says how the two lie to each other, at whatever time."""
        return self._paths(target, source) is not None

    def moves(self, target, source):
        """Whether anything between the two moves, or they are not connected."""
        paths = self._paths(target, source)
        return paths is None or any(frame in self._moving for path in paths for frame in path)

    def at(self, target, source, stamp_ns):
        """T_target_source (4, 4) at a stamp, None while the two are not connected. Raises NotYet,
        Unknown.
        """
        paths = self._paths(target, source)
        if paths is None:
            return None
        T_common_target, T_common_source = (self._along(path, stamp_ns) for path in paths)
        return se3.orthonormalize(se3.inverse(T_common_target) @ T_common_source)

    def _paths(self, target, source):
        """The frames from target, and from source, up to the nearest that is above both, itself
        left out; None without one.
        """
        to_target, to_source = self._ancestors(_bare(target)), self._ancestors(_bare(source))
        common = next((frame for frame in to_target if frame in to_source), None)
        return (
            None
            if common is None
            else (to_target[: to_target.index(common)], to_source[: to_source.index(common)])
        )

    def _ancestors(self, frame):
        """A frame and those above it, nearest first; a loop of frames ends the walk."""
        found = [frame]
        while (parent := self._parent(frame)) is not None and parent not in found:
            found.append(frame := parent)
        return found

    def _parent(self, frame):
        return (self._moving.get(frame) or self._fixed.get(frame) or (None,))[0]

    def _along(self, path, stamp_ns):
        """T_common_first (4, 4), first being the one that a path begins with."""
        transform = np.eye(4)
        for frame in path:
            transform = (
                self._moved(frame, stamp_ns) if frame in self._moving else self._fixed[frame][1]
            ) @ transform
        return transform

    def _moved(self, frame, stamp_ns):
        """T_parent_frame (4, 4) of a moving frame at a stamp: between two transforms along the
        motion from one to the other.
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
        (begin, earlier), (end, later) = series[after - 1 : after + 1]
        earlier, later = self._read(named, earlier), self._read(named, later)
        motion = se3.log(se3.inverse(earlier) @ later)
        if end - begin > self.gap_ns and (
            np.linalg.norm(motion[:3]) > STILL_M or np.linalg.norm(motion[3:]) > STILL_RAD
        ):
            raise Unknown(
                f"the transforms {named} around it are {(end - begin) / 1e9:.3f} s apart"
            )
        return earlier @ se3.exp(motion * ((stamp_ns - begin) / (end - begin)))

    def _read(self, named, value):
        try:
            return self._matrix(value)
        except ValueError as error:
            raise Unknown(f"{named}: {error}") from error


def same_frame(a, b):
    """Whether two names are of one frame; what has no name may be in any."""
    return not a or not b or _bare(a) == _bare(b)


def _bare(frame):
    return frame.lstrip("/")


def _stamp(entry):
    return entry[0]
