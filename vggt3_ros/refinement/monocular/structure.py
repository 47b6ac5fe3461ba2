"""Structure from motion for keyframes without a depth camera: sparse depth to close loops with, a
bundle adjustment over all, dense depth.

Metric scale comes from the odometry. The order: tracks of neighbours in time and their bundle give
keypoints depth; loops are then closed as with a depth camera; the tracks that loops add go into a
bundle over everything, which holds the true shape; planes are swept at its poses; map, memory and
localization go on as if a sensor had measured that depth.
"""

from dataclasses import replace

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.refinement import pose_graph
from vggt3_ros.refinement.closing import odometry_noise
from vggt3_ros.refinement.monocular import bundle
from vggt3_ros.refinement.monocular.bundle_closing import depth_growth, in_poses_of
from vggt3_ros.refinement.monocular.consistent_depth import consistent
from vggt3_ros.refinement.monocular.odometry_scale import motion_noise, odometry_scale
from vggt3_ros.refinement.monocular.pair_matches import LEAST_MATCHES, PairMatches
from vggt3_ros.refinement.monocular.plane_sweep import SweepView, sweep
from vggt3_ros.refinement.monocular.sweeps import Neighbourhood, Sweeps
from vggt3_ros.refinement.monocular.tracks import build_tracks, reprojection

SPAN = 5  # neighbours in time that are matched
MOST = 0.9  # of the keyframes without depth: the camera has none
SWEEPS, MATCHES = 1 / 8, 1 / 16  # of resources.frame_cache_mb, besides


class Structure:
    """frames: FrameSource, which gets the dense depth; any function from id to Frame where nothing
    is swept. Matches and sweeps are kept in its store, a share of them in memory.
    """

    def __init__(self, frames, config, device):
        self.frames, self.config, self.device = frames, config, device
        limit = config.resources.frame_cache_mb * 2**20
        # (source id, target id) -> (M, 2) keypoint indices
        self.matched = PairMatches(frames, MATCHES * limit)
        self.sweeps = Sweeps(
            getattr(frames, "store", None),
            f"{getattr(frames, 'version', '')}/{config.depth.planes}",
            SWEEPS * limit,
        )

    def serves(self, ids):
        """Whether these keyframes are to get depth here: depth.estimate. What a camera with depth
        now and then lacks is not worth it.
        """
        choice = self.config.depth.estimate
        if choice != "auto":
            return choice == "always" and bool(self.wanted(ids))
        return len(self.frames.store.without_depth().intersection(ids)) >= MOST * len(ids)

    def wanted(self, ids):
        """Keyframe ids whose depth no sensor measured."""
        return [i for i in ids if not (frame := self.frames(i)).has_depth or frame.estimated]

    def closed(self, poses, close, stages):
        """The whole of it: StoredPoses, close(frames(id) -> Frame) -> Closing, which is called
        once -> the Closing of the bundle over all. The frames have dense depth from then on.
        stages(name): see system.stages.
        """
        with stages("structure") as step:
            frames = self.sparse(poses, step)
        closing = close(frames)
        with stages("bundle") as step:
            solved, closing = self.bundled(poses, closing, frames, step)
        with stages("depth") as step:
            self.dense(poses, solved, step)
        return closing

    def sparse(self, poses, step):
        """StoredPoses -> frames(id) -> Frame, those without depth having that of the tracks of
        their neighbours in time.
        """
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

    def bundled(self, poses, closing, frames, step):
        """After the loops are closed, by what frames(id) of :meth:`sparse` had: StoredPoses,
        Closing -> (Bundle over all tracks, in the scale of the odometry, the Closing in its poses,
        with covariances that the scale is part of).
        """
        index = {int(keyframe_id): i for i, keyframe_id in enumerate(poses.ids)}
        pairs = {(i, j) for i in range(len(index)) for j in range(max(0, i - SPAN), i)}
        accepted = [loop for loop in closing.loops if loop.accepted]
        pairs |= {
            (max(a, b), min(a, b))
            for a, b in ((index[loop.source_id], index[loop.target_id]) for loop in accepted)
        }
        measured = [
            pose_graph.Edge(
                index[loop.source_id],
                index[loop.target_id],
                loop.T_source_target,
                loop.information,
            )
            for loop in accepted
            if not self.wanted((loop.source_id, loop.target_id))
        ]
        noise = odometry_noise(poses, self.config.pose_graph)
        believed = noise if closing.odometry_noise is None else closing.odometry_noise
        solved = self._bundle(poses, sorted(pairs), closing.T_map_cam, measured, step, believed)
        if self.config.fixed_poses:
            return solved, closing
        scale = None
        if not measured:
            broken = (believed != noise).any((1, 2))
            guessed = np.array([covariance is None for covariance in poses.covariances]) & ~broken
            scale = odometry_scale(
                poses.T_odom_cam,
                motion_noise(poses.T_odom_cam, believed, guessed),
                solved.T_map_cam,
            )
            solved = rescaled(solved, scale.metres, poses.anchor) if scale else solved
        growth = depth_growth(
            solved,
            [self.frames(int(i)).camera for i in poses.ids],
            [frames(int(i)).keypoint_depth for i in poses.ids],
        )
        wanted = set(self.wanted([int(i) for i in poses.ids]))
        # what a sensor measured is what it is
        growth[[int(i) not in wanted for i in poses.ids]] = 1.0
        return solved, in_poses_of(closing, poses, solved, scale, growth)

    def dense(self, poses, solved, step):
        """Sweep every keyframe without measured depth whose neighbourhood changed, keep what its
        neighbours confirm.
        """
        ids = [int(i) for i in poses.ids]
        wanted = set(self.wanted(ids))
        around = {i: self._neighbourhood(ids, k, solved) for k, i in enumerate(ids) if i in wanted}
        around = {
            i: neighbourhood for i, neighbourhood in around.items() if neighbourhood is not None
        }
        scale = {i: self.sweeps.scale(i, neighbourhood) for i, neighbourhood in around.items()}
        todo = [i for i in around if scale[i] is None]
        for done, keyframe_id in enumerate(todo):
            step(0.9 * done / len(todo))
            neighbourhood = around[keyframe_id]
            views = [self._view(i, T) for i, T in zip(neighbourhood.ids, neighbourhood.motions)]
            swept = sweep(
                self._view(keyframe_id, np.eye(4)),
                views,
                neighbourhood.near,
                neighbourhood.far,
                self.config.depth.planes,
                self.device,
            )
            self.sweeps.put(keyframe_id, neighbourhood, swept)
            scale[keyframe_id] = 1.0
        T_map_cam = dict(zip(ids, solved.T_map_cam))
        for done, keyframe_id in enumerate(around):
            step(0.9 + 0.1 * done / len(around))
            neighbours = [
                (self.sweeps.get(i, scale[i]), self.frames(i).camera, T_map_cam[i])
                for i in around[keyframe_id].ids
                if i in around
            ]
            self.frames.estimate(
                keyframe_id,
                *consistent(
                    self.sweeps.get(keyframe_id, scale[keyframe_id]),
                    self.frames(keyframe_id).camera,
                    T_map_cam[keyframe_id],
                    neighbours,
                ),
            )
        step(1.0)

    def _bundle(self, poses, pairs, initial, edges, step, noise=None):
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
        noise = odometry_noise(poses, self.config.pose_graph) if noise is None else noise
        return bundle.adjust(
            poses.T_odom_cam,
            noise,
            cameras,
            observations,
            self.config.pose_graph,
            initial,
            edges,
            lambda done: step(0.7 + 0.3 * done),
            poses.anchor,
        )

    def _neighbourhood(self, ids, k, solved):
        """Keyframes that share tracks with k under a useful angle, the best first, spread around
        it; None without any.
        """
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
        chosen = [
            int(j) for j in np.argsort(-score)[: self.config.depth.neighbours] if score[j] > 0
        ]
        if not chosen:
            return None
        motions = se3.inverse(T_map_cam[k]) @ T_map_cam[chosen]
        return Neighbourhood(
            tuple(ids[j] for j in chosen), motions, max(float(near), 0.1), float(far)
        )

    def _view(self, keyframe_id, T):
        frame = self.frames(keyframe_id)
        return SweepView(frame.camera, frame.gray, frame.features.dense, T)


def rescaled(solved, scale, anchor=0):
    """The Bundle `scale` times as large, about the keyframe of index `anchor`."""
    origin = solved.T_map_cam[anchor, :3, 3]
    T_map_cam = solved.T_map_cam.copy()
    T_map_cam[:, :3, 3] = origin + scale * (T_map_cam[:, :3, 3] - origin)
    return replace(solved, T_map_cam=T_map_cam, points=origin + scale * (solved.points - origin))
