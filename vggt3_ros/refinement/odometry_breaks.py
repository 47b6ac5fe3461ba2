"""Where a front end's odometry broke, as the solved poses tell, and how a snapshot's report keeps
it.
"""

from dataclasses import asdict, dataclass
from types import MappingProxyType

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.refinement.odometry_steps import mahalanobis

REPORT = "odometry_breaks"


@dataclass(frozen=True)
class Break:
    """Between two keyframes, by id, odometry was off by so many metres and degrees."""

    before: int
    after: int
    metres: float
    degrees: float

    def __str__(self):
        return f"odometry broke between keyframes {self.before} and {self.after}: off by {self.metres:.2f} m and {self.degrees:.0f} deg"


def breaks(poses, steps, suspected, T_map_cam):
    """StoredPoses, Steps, mask (N,) of steps doubted besides, solved poses -> list of Break: runs
    of doubted steps of which the solution bears out one, or all together. Each tells the most that
    odometry was off by since the run's first keyframe.
    """
    at, out = np.flatnonzero(steps.doubted | suspected), []
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


def reported(found):
    """list of Break -> what goes into a snapshot's report."""
    return {REPORT: [asdict(broken) for broken in found]}


def told(report, public_ids=MappingProxyType({})):
    """Report of a snapshot -> list of Break; empty for one that knows of none, or that an older
    version made. public_ids: {keyframe id: the id that its front end gave it}, by which they are
    then told.
    """
    name = lambda keyframe_id: int(public_ids.get(keyframe_id, keyframe_id))
    return [
        Break(name(row["before"]), name(row["after"]), float(row["metres"]), float(row["degrees"]))
        for row in report.get(REPORT, ())
    ]
