"""What closing the loops said, in the poses and the scale of the bundle that came after:
covariances, motions of loops, residuals.
"""

from dataclasses import replace

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.refinement.marginals import covariance_with, net_marginals, pose_net
from vggt3_ros.refinement.monocular.tracks import reprojection
from vggt3_ros.refinement.pose_graph import in_map_axes

LEAST_DEPTHS = 8  # of a keyframe that say by how much they grew; with fewer it is as all of them


def in_poses_of(closing, poses, solved, scale, growth):
    """Closing, StoredPoses, Bundle in metres, the Scale that it was given (None: none), growth
    (N,) of each keyframe's depth since the loops were measured by it -> Closing.
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


def pose_covariances(solved, scale, anchor=0):
    """(N, 6, 6) covariances of the poses of a Bundle in metres, about the keyframe of index
    `anchor`, in the map's axes as ROS has them.

    scale: the Scale it was given by the odometry, or None where its own holds. The scale that the
    bundle came out in is gone with it: e' = (I - d a^T) e + d s, with e small motions of all
    poses, a the scale that is read from them, d what scale moves them by, and s the new one's own
    error.
    """
    net = pose_net(*solved.problem)
    covariances = net_marginals(net)
    if scale is not None:
        local = np.einsum(
            "nji,nj->ni",
            solved.T_map_cam[:, :3, :3],
            solved.T_map_cam[:, :3, 3] - solved.T_map_cam[anchor, :3, 3],
        )
        # in the units that the bundle was solved in
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


def depth_growth(solved, cameras, keypoint_depth):
    """Bundle, N Cameras, N times (K,) metres of keypoints' depth that was used before, 0 = unknown
    -> (N,) by how much it is larger now.
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


def _grown(loop, index, growth, T_map_cam):
    """The Loop with its motion in the new scale, and by how much the poses disagree with it."""
    source, target = index[loop.source_id], index[loop.target_id]
    # both depths took part in measuring it
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
