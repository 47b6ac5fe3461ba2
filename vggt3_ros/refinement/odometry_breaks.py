"""Detect where the front end's odometry broke, from the solved poses, and keep it in a snapshot's
report.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.refinement.odometry_steps import Steps, mahalanobis
from vggt3_ros.store.stored_poses import StoredPoses

REPORT = "odometry_breaks"


@dataclass(frozen=True)
class Break:
    """The error of the odometry between two keyframes, given by id, in metres and degrees."""

    before: int
    after: int
    metres: float
    degrees: float

    def __str__(self) -> str:
        return (
            f"odometry broke between keyframes {self.before} and {self.after}: "
            f"off by {self.metres:.2f} m and {self.degrees:.0f} deg"
        )


def breaks(
    poses: StoredPoses, steps: Steps, suspected: np.ndarray, T_map_cam: np.ndarray
) -> list[Break]:
    """Return the breaks of the odometry that solved poses T_map_cam (N, 4, 4) confirm.

    suspected (N,): mask of steps that are doubted besides `steps.doubted`. A run of such steps is
    a break when the solution contradicts one of them, or their sum. The Break has the largest
    error since the keyframe before the run.
    """
    at = np.flatnonzero(steps.doubted | suspected)
    out: list[Break] = []
    _, single = steps.off(poses.T_odom_cam, T_map_cam)
    for run in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1) if len(at) else ():
        before, T = run[0] - 1, np.array([poses.T_odom_cam, T_map_cam])
        by_odometry, solved = se3.inverse(T[:, before])[:, None] @ T[:, run]
        off = se3.inverse(by_odometry) @ solved
        whole = se3.log(off[-1])
        distance, _ = mahalanobis(whole, steps.noise[run].sum(axis=0))
        if max(distance, single[run].max()) > steps.bound(single):
            out.append(
                Break(
                    int(poses.ids[before]),
                    int(poses.ids[run[-1]]),
                    float(np.linalg.norm(off[:, :3, 3], axis=1).max()),
                    float(np.degrees(se3.rotation_angle(off).max())),
                )
            )
    return out


def reported(found: Iterable[Break]) -> dict[str, Any]:
    """Return the entry of a snapshot's report that holds the breaks."""
    return {REPORT: [asdict(broken) for broken in found]}


def told(
    report: Mapping[str, Any], public_ids: Mapping[int, int] = MappingProxyType({})
) -> list[Break]:
    """Read the breaks from a snapshot's report; none when an older version wrote it.

    public_ids {keyframe id: id given by its front end}: the ids to use in the result.
    """

    def name(keyframe_id: int) -> int:
        return int(public_ids.get(keyframe_id, keyframe_id))

    return [
        Break(name(row["before"]), name(row["after"]), float(row["metres"]), float(row["degrees"]))
        for row in report.get(REPORT, ())
    ]
