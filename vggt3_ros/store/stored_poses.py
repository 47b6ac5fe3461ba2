"""The poses of the keyframes in a store."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.se3 import Floats

_ONE_SESSION = np.empty(0, np.int64)  # default of `sessions`, replaced by zeros


@dataclass(frozen=True, eq=False)
class StoredPoses:
    """Keyframes without their images, ordered by session, then by stamp. The current session is
    the last.

    ids, stamps_ns (N,) int64; T_odom_cam (N, 4, 4) in the odometry frame of their session;
    covariances: (6, 6) per keyframe as in Keyframe, or None. sessions (N,) int64: the run of the
    front end that a keyframe belongs to, each with its own odometry frame; default: all 0.
    """

    ids: np.ndarray
    stamps_ns: np.ndarray
    T_odom_cam: np.ndarray
    covariances: list[Floats | None]
    sessions: np.ndarray = field(default_factory=lambda: _ONE_SESSION)

    def __post_init__(self) -> None:
        if self.sessions is _ONE_SESSION:
            object.__setattr__(self, "sessions", np.zeros(len(self.ids), np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def anchor(self) -> int:
        """Index of the keyframe that defines the map frame: the first of our own sessions; merged
        sessions have negative numbers.
        """
        own = np.flatnonzero(self.sessions >= 0)
        return int(own[0]) if len(own) else 0

    def only(self, mask: np.ndarray) -> "StoredPoses":
        """Return the keyframes selected by `mask` (N,), with covariances of the motion since the
        previously selected one.
        """
        return StoredPoses(
            self.ids[mask],
            self.stamps_ns[mask],
            self.T_odom_cam[mask],
            spanning(self.T_odom_cam, self.covariances, self.sessions, mask),
            self.sessions[mask],
        )


def chained(first: Floats | None, T_first_second: Floats, second: Floats | None) -> Floats | None:
    """Return the covariance (6, 6) of two consecutive motions as one; None if either is unknown or
    the result is not usable.

    first, second: covariances (6, 6), each in the camera frame at the end of its motion.
    T_first_second (4, 4): the second motion. First order (Smith and Cheeseman, IJRR 1986).
    """
    if first is None or second is None:
        return None
    carried = se3.adjoint(se3.inverse(T_first_second))
    joined = carried @ first @ carried.T + second
    joined = 0.5 * (joined + joined.T)
    # implausibly distant poses leave no precision for it
    usable = np.all(np.isfinite(joined)) and np.linalg.eigvalsh(joined)[0] > 0
    return joined if usable else None


def spanning(
    T_odom_cam: Sequence[Floats | None] | Floats,
    covariances: Sequence[Floats | None],
    sessions: np.ndarray,
    chosen: np.ndarray,
) -> list[Floats | None]:
    """Return for each chosen keyframe the covariance of the motion since the previously chosen one
    of the same session.

    T_odom_cam: (N, 4, 4), None for a pose that cannot be read; covariances: N of (6, 6) or None,
    of the motion since the previous keyframe; sessions (N,); chosen (N,) mask.
    """
    out: list[Floats | None] = []
    since: Floats | None = None
    for i, covariance in enumerate(covariances):
        if i and sessions[i] == sessions[i - 1] and not chosen[i - 1]:
            before, after = T_odom_cam[i - 1], T_odom_cam[i]
            covariance = (
                None
                if before is None or after is None
                else chained(since, se3.inverse(before) @ after, covariance)
            )
        if chosen[i]:
            out.append(covariance)
        since = covariance
    return out


def matrix(data: bytes, size: int) -> Floats:
    """Decode a (size, size) float64 matrix. Raises ValueError if the length is wrong or a value is
    not finite.
    """
    values = np.frombuffer(data, "<f8").reshape(size, size).copy()
    if not np.all(np.isfinite(values)):
        raise ValueError("a pose or covariance holds NaN or infinity")
    return values
