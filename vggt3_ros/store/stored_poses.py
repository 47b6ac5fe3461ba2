"""The keyframes of a store without their images."""

from dataclasses import dataclass

import numpy as np

from vggt3_ros.geometry import se3


@dataclass(frozen=True, eq=False)
class StoredPoses:
    """All keyframes without their images, session by session, each ordered by stamp; the running
    one comes last.

    ids, stamps_ns (N,) int64; T_odom_cam (N, 4, 4) in the odometry frame of their session;
    covariances: per keyframe (6, 6) as in Keyframe, or None. sessions (N,) int64: a run of a front
    end each, with odometry of its own; one by default.
    """

    ids: np.ndarray
    stamps_ns: np.ndarray
    T_odom_cam: np.ndarray
    covariances: list
    sessions: np.ndarray | None = None

    def __post_init__(self):
        if self.sessions is None:
            object.__setattr__(self, "sessions", np.zeros(len(self.ids), np.int64))

    def __len__(self):
        return len(self.ids)

    @property
    def anchor(self):
        """Index of the keyframe that gives the map its frame: the first of our own sessions;
        merged ones have negative numbers.
        """
        own = np.flatnonzero(self.sessions >= 0)
        return int(own[0]) if len(own) else 0

    def only(self, mask):
        """Those that `mask` (N,) chooses; covariances are of the motion since the last one of
        them.
        """
        return StoredPoses(
            self.ids[mask],
            self.stamps_ns[mask],
            self.T_odom_cam[mask],
            spanning(self.T_odom_cam, self.covariances, self.sessions, mask),
            self.sessions[mask],
        )


def chained(first, T_first_second, second):
    """Covariance (6, 6) of two motions in a row as one, by that of each in the camera's frame at
    its end; None where one is not known.

    T_first_second (4, 4): the second motion. First order (Smith and Cheeseman, IJRR 1986).
    """
    if first is None or second is None:
        return None
    carried = se3.adjoint(se3.inverse(T_first_second))
    joined = carried @ first @ carried.T + second
    joined = 0.5 * (joined + joined.T)
    # poses on the Moon leave no digits for it
    usable = np.all(np.isfinite(joined)) and np.linalg.eigvalsh(joined)[0] > 0
    return joined if usable else None


def spanning(T_odom_cam, covariances, sessions, chosen):
    """Covariances of the motion since the last chosen keyframe of the same session, of those since
    the last keyframe: a list for those chosen. T_odom_cam: (N, 4, 4), a row None where it cannot
    be read; covariances: N of (6, 6) or None; sessions, chosen: (N,).
    """
    out, since = [], None
    for i, covariance in enumerate(covariances):
        if i and sessions[i] == sessions[i - 1] and not chosen[i - 1]:
            known = T_odom_cam[i - 1] is not None and T_odom_cam[i] is not None
            covariance = (
                chained(since, se3.inverse(T_odom_cam[i - 1]) @ T_odom_cam[i], covariance)
                if known
                else None
            )
        if chosen[i]:
            out.append(covariance)
        since = covariance
    return out


def matrix(data, size):
    """(size, size) float64 of bytes, None of None. ValueError when it is anything else, or not
    finite.
    """
    if data is None:
        return None
    values = np.frombuffer(data, "<f8").reshape(size, size).copy()
    if not np.all(np.isfinite(values)):
        raise ValueError("a pose or covariance holds NaN or infinity")
    return values
