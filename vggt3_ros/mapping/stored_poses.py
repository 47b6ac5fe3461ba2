"""The keyframes of a store without their images."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class StoredPoses:
    """All keyframes without their images, session by session, each ordered by stamp; the running one comes last.

    ids, stamps_ns (N,) int64; T_odom_cam (N, 4, 4) in the odometry frame of their session; covariances: per keyframe (6, 6) as in
    Keyframe, or None. sessions (N,) int64: a run of a front end each, with odometry of its own; one by default.
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

    def only(self, mask):
        """Those that `mask` (N,) chooses."""
        return StoredPoses(self.ids[mask], self.stamps_ns[mask], self.T_odom_cam[mask],
                           [c for c, chosen in zip(self.covariances, mask) if chosen], self.sessions[mask])


def matrix(data, size):
    """(size, size) float64 of bytes, None of None. ValueError when it is anything else, or not finite."""
    if data is None:
        return None
    values = np.frombuffer(data, "<f8").reshape(size, size).copy()
    if not np.all(np.isfinite(values)):
        raise ValueError("a pose or covariance holds NaN or infinity")
    return values
