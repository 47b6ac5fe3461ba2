"""Convert the result of loop closing to the poses and the scale of the bundle that follows it:
covariances, motions of loops, residuals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.refinement.closing import Closing
from vggt3_ros.refinement.marginals import covariance_with, net_marginals, pose_net
from vggt3_ros.refinement.monocular.bundle import Bundle
from vggt3_ros.refinement.monocular.odometry_scale import Scale
from vggt3_ros.refinement.monocular.tracks import reprojection
from vggt3_ros.refinement.pose_graph import in_map_axes
from vggt3_ros.store.snapshot import Loop
from vggt3_ros.store.stored_poses import StoredPoses

# depths of a keyframe that are needed to tell its growth; with fewer it gets the median of all
LEAST_DEPTHS = 8


def in_poses_of(
    closing: Closing,
    poses: StoredPoses,
    solved: Bundle,
    scale: Scale | None,
    growth: np.ndarray,
) -> Closing:
    """Return the Closing with the poses of the bundle.

    solved: the Bundle, in metres. scale: the Scale that the odometry gave it, None when it has its
    own. growth (N,): factor of each keyframe's depth since the loops were measured with it.
    """
    index = {int(keyframe_id): i for i, keyframe_id in enumerate(poses.ids)}
    loops = tuple(
        loop if loop.T_source_target is None else _grown(loop, index, growth, solved.T_map_cam)
        for loop in closing.loops
    )
    residuals = [loop.residual_m for loop in loops if loop.accepted]
    report = dict(
        closing.report, loop_residual_m=float(np.median(residuals)) if residuals else float("nan")
    )
    if scale is not None:
        report["scale_sigma"] = scale.sigma
    return replace(
        closing,
        T_map_cam=solved.T_map_cam,
        covariances=pose_covariances(solved, scale, poses.anchor),
        loops=loops,
        report=report,
    )


def pose_covariances(solved: Bundle, scale: Scale | None, anchor: int = 0) -> np.ndarray:
    """Return the covariances (N, 6, 6) of a Bundle's poses relative to the keyframe of index
    `anchor`, in the map's axes and ROS order.

    solved: in metres. scale: the Scale that the odometry gave it, None when it has its own. A new
    scale removes the error of the scale that the bundle was solved in: e' = (I - d a^T) e + d s,
    with e small motions of all poses, a the scale read from them, d the motion caused by a change
    of scale, and s the error of the new scale.
    """
    assert solved.problem is not None, "poses that were given have no covariance"
    net = pose_net(*solved.problem)
    covariances = net_marginals(net)
    if scale is not None:
        local = np.einsum(
            "nji,nj->ni",
            solved.T_map_cam[:, :3, :3],
            solved.T_map_cam[:, :3, 3] - solved.T_map_cam[anchor, :3, 3],
        )
        # in the units in which the bundle was solved
        moved = np.concatenate([np.zeros_like(local), local / scale.metres], axis=1)
        read = scale.by_pose[:, [3, 4, 5, 0, 1, 2]]
        with_scale = covariance_with(net, read)
        of_scale = float((read * with_scale).sum())
        cross = with_scale[:, :, None] * moved[:, None, :]
        covariances = covariances - cross - cross.swapaxes(1, 2)
        covariances += (of_scale + scale.sigma**2) * moved[:, :, None] * moved[:, None, :]
        in_metres = np.repeat([1.0, scale.metres], 3)
        covariances = in_metres[:, None] * covariances * in_metres
    return in_map_axes(covariances, solved.T_map_cam)


def depth_growth(
    solved: Bundle, cameras: Sequence[Camera], keypoint_depth: Sequence[np.ndarray]
) -> np.ndarray:
    """Return the factor (N,) by which the depth of each keyframe has grown.

    keypoint_depth: for each of the N keyframes the depth (K,) of its keypoints that was used
    before, metres, 0 = unknown.
    """
    observations = solved.observations
    _, depth = reprojection(observations, cameras, solved.T_map_cam, solved.points)
    before = np.zeros(len(depth))
    for i in np.unique(observations.image):
        of = observations.image == i
        before[of] = keypoint_depth[i][observations.keypoint[of]]
    known = (before > 0) & (depth > 0)
    if not known.any():
        return np.ones(len(cameras))
    ratio = np.where(known, depth / np.where(known, before, 1), np.nan)
    out = np.full(len(cameras), np.median(ratio[known]))
    for i in np.unique(observations.image[known]):
        of = ratio[known & (observations.image == i)]
        out[i] = np.median(of) if len(of) >= LEAST_DEPTHS else out[i]
    return out


def _grown(
    loop: Loop, index: Mapping[int, int], growth: np.ndarray, T_map_cam: np.ndarray
) -> Loop:
    """Return the Loop with its motion in the new scale and its residual with the poses."""
    assert loop.T_source_target is not None and loop.information is not None
    source, target = index[loop.source_id], index[loop.target_id]
    # The motion was measured with the depth of both keyframes.
    factor = float(np.sqrt(growth[source] * growth[target]))
    motion = np.array(loop.T_source_target, float)
    motion[:3, 3] *= factor
    shrink = np.repeat([1 / factor, 1.0], 3)
    off = se3.inverse(motion) @ se3.inverse(T_map_cam[source]) @ T_map_cam[target]
    return replace(
        loop,
        T_source_target=motion,
        information=shrink[:, None] * loop.information * shrink,
        residual_m=float(np.linalg.norm(off[:3, 3])),
        residual_rad=float(se3.rotation_angle(off)),
    )
