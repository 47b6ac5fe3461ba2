"""Structure from motion for keyframes without a depth camera: sparse depth to close loops with, a bundle adjustment over all, dense depth.

Metric scale comes from the odometry. The order: tracks of neighbours in time and their bundle give keypoints depth; loops are then
closed as with a depth camera; the tracks that loops add go into a bundle over everything, which holds the true shape; planes are
swept at its poses; map, memory and localization go on as if a sensor had measured that depth.
"""

from dataclasses import dataclass, replace

import numpy as np
import poselib

from vggt3_ros.features.matching import mutual_nearest
from vggt3_ros.geometry import se3
from vggt3_ros.mapping import bundle, pose_graph
from vggt3_ros.mapping.closing import odometry_noise
from vggt3_ros.mapping.consistent_depth import consistent
from vggt3_ros.mapping.odometry_scale import motion_noise, odometry_scale
from vggt3_ros.mapping.plane_sweep import SweepView, sweep
from vggt3_ros.mapping.tracks import build_tracks, reprojection

SPAN = 5  # neighbours in time that are matched
EPIPOLAR_PX = 1.5
LEAST_MATCHES = 20
MOST = 0.9  # of the keyframes without depth: the camera has none
MOVED, TURNED = 0.02, np.radians(0.1)  # of the baseline; a neighbour that moved by more is swept against again


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """What one keyframe is swept against: ids, T_reference_neighbour (V, 4, 4), the depth range its tracks span."""

    ids: tuple
    motions: np.ndarray
    near: float
    far: float

    def scale_from(self, other):
        """By how much this is larger than `other`, whose sweep then serves here too; None when anything but the scale changed."""
        if other is None or self.ids != other.ids:
            return None
        now, before = self.motions[:, :3, 3], other.motions[:, :3, 3]
        scale = (now * before).sum() / (before**2).sum()
        moved = np.linalg.norm(now - scale * before, axis=1) / np.linalg.norm(now, axis=1)
        turned = se3.rotation_angle(se3.inverse(other.motions) @ self.motions)
        return float(scale) if (moved < MOVED).all() and (turned < TURNED).all() else None


class Structure:
    """frames: FrameSource, which gets the dense depth. Matches between pairs are remembered, a few kB each."""

    def __init__(self, frames, config, device):
        self.frames, self.config, self.device = frames, config, device
        self._matches, self._swept = {}, {}

    def serves(self, ids):
        """Whether these keyframes are to get depth here: depth.estimate. What a camera with depth now and then lacks is not worth it."""
        choice = self.config.depth.estimate
        if choice != "auto":
            return choice == "always" and bool(self.wanted(ids))
        return len(self.frames.store.without_depth().intersection(ids)) >= MOST * len(ids)

    def wanted(self, ids):
        """Keyframe ids whose depth no sensor measured."""
        return [i for i in ids if not (frame := self.frames(i)).has_depth or frame.estimated]

    def sparse(self, poses, step):
        """StoredPoses -> frames(id) -> Frame, those without depth having that of the tracks of their neighbours in time."""
        ids = [int(i) for i in poses.ids]
        pairs = [(i, j) for i in range(len(ids)) for j in range(max(0, i - SPAN), i)]
        solved = self._bundle(poses, pairs, poses.T_odom_cam, (), lambda done: step(0.9 * done))
        cameras = [self.frames(i).camera for i in ids]
        _, depth = reprojection(solved.observations, cameras, solved.T_map_cam, solved.points)
        known = {}
        for index, keyframe_id in enumerate(ids):
            of = solved.observations.image == index
            known[keyframe_id] = solved.observations.keypoint[of], depth[of]

        def frame_of(keyframe_id):
            frame = self.frames(keyframe_id)
            if frame.has_depth:
                return frame
            keypoint_depth = np.zeros_like(frame.keypoint_depth)
            keypoints, depths = known[keyframe_id]
            keypoint_depth[keypoints] = depths
            return replace(frame, keypoint_depth=keypoint_depth)

        step(1.0)
        return frame_of

    def bundled(self, poses, closing, step):
        """After the loops are closed: StoredPoses, Closing -> Bundle over all tracks, in the scale of the odometry."""
        index = {int(keyframe_id): i for i, keyframe_id in enumerate(poses.ids)}
        pairs = {(i, j) for i in range(len(index)) for j in range(max(0, i - SPAN), i)}
        accepted = [loop for loop in closing.loops if loop.accepted]
        pairs |= {(max(a, b), min(a, b)) for a, b in ((index[loop.source_id], index[loop.target_id]) for loop in accepted)}
        measured = [pose_graph.Edge(index[loop.source_id], index[loop.target_id], loop.T_source_target, loop.information)
                    for loop in accepted if not self.wanted((loop.source_id, loop.target_id))]
        solved = self._bundle(poses, sorted(pairs), closing.T_map_cam, measured, step)
        if measured or self.config.fixed_poses:
            return solved
        noise = motion_noise(poses.T_odom_cam, odometry_noise(poses, self.config.pose_graph), [given is None for given in poses.covariances])
        return rescaled(solved, odometry_scale(poses.T_odom_cam, noise, solved.T_map_cam))

    def dense(self, poses, solved, step):
        """Sweep every keyframe without measured depth whose neighbourhood changed, keep what its neighbours confirm."""
        ids = [int(i) for i in poses.ids]
        wanted = set(self.wanted(ids))
        around = {i: self._neighbourhood(ids, k, solved) for k, i in enumerate(ids) if i in wanted}
        todo = [i for i, neighbourhood in around.items() if neighbourhood is not None and not self._kept(i, neighbourhood)]
        for done, keyframe_id in enumerate(todo):
            step(0.9 * done / len(todo))
            neighbourhood = around[keyframe_id]
            views = [self._view(i, T) for i, T in zip(neighbourhood.ids, neighbourhood.motions)]
            swept = sweep(self._view(keyframe_id, np.eye(4)), views, neighbourhood.near, neighbourhood.far, self.config.depth.planes,
                          self.device)
            self._swept[keyframe_id] = neighbourhood, swept
        T_map_cam = dict(zip(ids, solved.T_map_cam))
        known = [i for i, neighbourhood in around.items() if neighbourhood is not None]
        for done, keyframe_id in enumerate(known):
            step(0.9 + 0.1 * done / len(known))
            neighbours = [(self._swept[i][1], self.frames(i).camera, T_map_cam[i]) for i in around[keyframe_id].ids if i in self._swept]
            self.frames.estimate(keyframe_id, *consistent(self._swept[keyframe_id][1], self.frames(keyframe_id).camera,
                                                          T_map_cam[keyframe_id], neighbours))
        step(1.0)

    def _kept(self, keyframe_id, neighbourhood):
        """Whether the last sweep still holds, apart from its scale, which is then brought up to date."""
        before, swept = self._swept.get(keyframe_id, (None, None))
        scale = neighbourhood.scale_from(before)
        if scale is None:
            return False
        self._swept[keyframe_id] = neighbourhood, replace(swept, inverse=swept.inverse / np.float32(scale), step=swept.step / scale)
        return True

    def _bundle(self, poses, pairs, initial, edges, step):
        ids = [int(i) for i in poses.ids]
        matches = {}
        for done, (i, j) in enumerate(pairs):
            found = self.matched(ids[i], ids[j])
            if len(found):
                matches[i, j] = found
            step(0.7 * (done + 1) / len(pairs))
        frames = [self.frames(i) for i in ids]
        observations = build_tracks([frame.features.keypoints for frame in frames], matches)
        cameras = [frame.camera for frame in frames]
        if self.config.fixed_poses:
            return bundle.triangulated(cameras, observations, poses.T_odom_cam)
        return bundle.adjust(poses.T_odom_cam, odometry_noise(poses, self.config.pose_graph), cameras, observations,
                             self.config.pose_graph, initial, edges, lambda done: step(0.7 + 0.3 * done))

    def matched(self, source, target):
        """(M, 2) keypoint indices that agree on an epipolar geometry."""
        if (source, target) not in self._matches:
            first, second = self.frames(source), self.frames(target)
            matches = mutual_nearest(first.features, second.features)[0]
            if len(matches) >= LEAST_MATCHES:
                pixels = first.features.keypoints[matches[:, 0]], second.features.keypoints[matches[:, 1]]
                _, found = poselib.estimate_relative_pose(*(p.astype(np.float64) for p in pixels), first.camera.pinhole,
                                                          second.camera.pinhole, {"max_epipolar_error": EPIPOLAR_PX,
                                                          "max_iterations": 500, "seed": 0}, {})
                matches = matches[np.asarray(found["inliers"], bool)]
            self._matches[source, target] = (matches if len(matches) >= LEAST_MATCHES else matches[:0]).astype(np.uint16)
        return self._matches[source, target]

    def _neighbourhood(self, ids, k, solved):
        """Keyframes that share tracks with k under a useful angle, the best first, spread around it; None without any."""
        observations, T_map_cam = solved.observations, solved.T_map_cam
        mine = np.flatnonzero(observations.image == k)
        tracks = np.unique(observations.track[mine])
        if len(tracks) < LEAST_MATCHES:
            return None
        seen = se3.transform_points(se3.inverse(T_map_cam[k]), solved.points[tracks])[:, 2]
        near, far = np.quantile(seen, 0.02) * 0.7, np.quantile(seen, 0.98) * 1.6
        with_me = observations.image[np.isin(observations.track, tracks)]
        shared = np.bincount(with_me, minlength=len(ids)).astype(float)
        shared[k] = 0
        baseline = np.linalg.norm(T_map_cam[:, :3, 3] - T_map_cam[k, :3, 3], axis=1)
        angle = baseline / np.median(seen)
        # A tenth of the distance apart is best: less says little, more looks different.
        score = shared * np.exp(-np.square(np.log(np.maximum(angle, 1e-3) / 0.1)))
        score[shared < LEAST_MATCHES] = 0
        chosen = [int(j) for j in np.argsort(-score)[:self.config.depth.neighbours] if score[j] > 0]
        if not chosen:
            return None
        motions = se3.inverse(T_map_cam[k]) @ T_map_cam[chosen]
        return Neighbourhood(tuple(ids[j] for j in chosen), motions, max(float(near), 0.1), float(far))

    def _view(self, keyframe_id, T):
        frame = self.frames(keyframe_id)
        return SweepView(frame.camera, frame.gray, frame.features.dense, T)


def rescaled(solved, scale):
    """The Bundle `scale` times as large, about its first keyframe."""
    origin = solved.T_map_cam[0, :3, 3]
    T_map_cam = solved.T_map_cam.copy()
    T_map_cam[:, :3, 3] = origin + scale * (T_map_cam[:, :3, 3] - origin)
    return replace(solved, T_map_cam=T_map_cam, points=origin + scale * (solved.points - origin))
