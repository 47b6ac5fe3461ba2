"""Structure from motion for keyframes without a depth camera: sparse depth to close loops with, a
bundle adjustment over all keyframes, and dense depth.

Metric scale comes from the odometry. The steps are: tracks of neighbours in time and their bundle
give depth to keypoints; loops are closed as with a depth camera; the tracks that loops add enter a
bundle over everything, which determines the shape; planes are swept at its poses. Map, memory and
localization then work as if a sensor had measured that depth.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from vggt3_ros.config import BackendConfig
from vggt3_ros.features.frame import Frame, FrameSource
from vggt3_ros.geometry import se3
from vggt3_ros.refinement.closing import Closing
from vggt3_ros.refinement.monocular import bundle
from vggt3_ros.refinement.monocular.bundle_closing import depth_growth, in_poses_of
from vggt3_ros.refinement.monocular.consistent_depth import consistent
from vggt3_ros.refinement.monocular.odometry_scale import motion_noise, odometry_scale
from vggt3_ros.refinement.monocular.pair_matches import LEAST_MATCHES, PairMatches
from vggt3_ros.refinement.monocular.plane_sweep import InverseDepth, SweepView, sweep
from vggt3_ros.refinement.monocular.sweeps import Neighbourhood, Sweeps
from vggt3_ros.refinement.monocular.tracks import build_tracks, reprojection
from vggt3_ros.refinement.odometry_steps import odometry_noise
from vggt3_ros.refinement.pose_graph import Edge
from vggt3_ros.store.stored_poses import StoredPoses
from vggt3_ros.system.stages import Stages

SPAN = 5  # neighbours in time that are matched
MOST = 0.9  # share of keyframes without depth from which on the camera has none
# memory for sweeps and matches, as shares of resources.frame_cache_mb and in addition to it
SWEEPS, MATCHES = 1 / 8, 1 / 16

Step = Callable[[float], object]


class Structure:
    """Structure from motion over the keyframes of `frames`, which are given the dense depth.

    frames: FrameSource, or any function from an id to a Frame when :meth:`dense` is not called.
    Matches and sweeps are kept in its store, a part of them in memory.
    """

    def __init__(
        self, frames: FrameSource, config: BackendConfig, device: torch.device | str
    ) -> None:
        self.frames, self.config, self.device = frames, config, device
        limit = config.resources.frame_cache_mb * 2**20
        self.matched = PairMatches(frames, int(MATCHES * limit))
        self.sweeps = Sweeps(
            getattr(frames, "store", None),
            f"{getattr(frames, 'version', '')}/{config.depth.planes}",
            int(SWEEPS * limit),
        )

    def serves(self, ids: Collection[int]) -> bool:
        """Tell whether the keyframes are to get depth from motion, as depth.estimate says. With
        "auto" a camera that measures depth now and then is left as it is.
        """
        choice = self.config.depth.estimate
        if choice != "auto":
            return choice == "always" and bool(self.wanted(ids))
        return len(self.frames.store.without_depth().intersection(ids)) >= MOST * len(ids)

    def wanted(self, ids: Iterable[int]) -> list[int]:
        """Return those of the keyframe ids whose depth no sensor measured."""
        return [i for i in ids if not (frame := self.frames(i)).has_depth or frame.estimated]

    def closed(
        self,
        poses: StoredPoses,
        close: Callable[[Callable[[int], Frame]], Closing],
        stages: Stages,
    ) -> Closing:
        """Run all steps; return the Closing of the bundle over all keyframes. The frames have
        dense depth from then on.

        close(frames) closes the loops with the Frames that frames(id) returns; it is called once.
        """
        with stages("structure") as step:
            frames = self.sparse(poses, step)
        closing = close(frames)
        with stages("bundle") as step:
            solved, closing = self.bundled(poses, closing, frames, step)
        with stages("depth") as step:
            self.dense(poses, solved, step)
        return closing

    def sparse(self, poses: StoredPoses, step: Step) -> Callable[[int], Frame]:
        """Bundle the tracks of neighbours in time. Return frames(id) -> Frame, where keyframes
        without depth have that of their tracks.
        """
        ids = [int(i) for i in poses.ids]
        pairs = [(i, j) for i in range(len(ids)) for j in range(max(0, i - SPAN), i)]
        solved = self._bundle(poses, pairs, poses.T_odom_cam, (), lambda done: step(0.9 * done))
        cameras = [self.frames(i).camera for i in ids]
        _, depth = reprojection(solved.observations, cameras, solved.T_map_cam, solved.points)
        known: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for index, keyframe_id in enumerate(ids):
            of = solved.observations.image == index
            known[keyframe_id] = solved.observations.keypoint[of], depth[of]

        def frame_of(keyframe_id: int) -> Frame:
            frame = self.frames(keyframe_id)
            if frame.has_depth:
                return frame
            keypoint_depth = np.zeros_like(frame.keypoint_depth)
            keypoints, depths = known[keyframe_id]
            keypoint_depth[keypoints] = depths
            return replace(frame, keypoint_depth=keypoint_depth)

        step(1.0)
        return frame_of

    def bundled(
        self,
        poses: StoredPoses,
        closing: Closing,
        frames: Callable[[int], Frame],
        step: Step,
    ) -> tuple[bundle.Bundle, Closing]:
        """Bundle all tracks, those across the loops included.

        frames: what :meth:`sparse` returned, and the loops were closed with. Return (Bundle in the
        scale of the odometry, the Closing with its poses, and with covariances that include the
        uncertainty of scale).
        """
        index = {int(keyframe_id): i for i, keyframe_id in enumerate(poses.ids)}
        pairs = {(i, j) for i in range(len(index)) for j in range(max(0, i - SPAN), i)}
        accepted = [loop for loop in closing.loops if loop.accepted]
        pairs |= {
            (max(a, b), min(a, b))
            for a, b in ((index[loop.source_id], index[loop.target_id]) for loop in accepted)
        }
        measured = [
            Edge(
                index[loop.source_id],
                index[loop.target_id],
                loop.T_source_target,
                loop.information,
            )
            for loop in accepted
            if loop.T_source_target is not None
            and loop.information is not None
            and not self.wanted((loop.source_id, loop.target_id))
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
        # measured depth does not change with the scale
        growth[[int(i) not in wanted for i in poses.ids]] = 1.0
        return solved, in_poses_of(closing, poses, solved, scale, growth)

    def dense(self, poses: StoredPoses, solved: bundle.Bundle, step: Step) -> None:
        """Sweep every keyframe without measured depth whose neighbourhood has changed, and keep
        what its neighbours confirm.
        """
        ids = [int(i) for i in poses.ids]
        wanted = set(self.wanted(ids))
        around = {
            i: neighbourhood
            for k, i in enumerate(ids)
            if i in wanted and (neighbourhood := self._neighbourhood(ids, k, solved)) is not None
        }
        scale = {
            i: grown
            for i, neighbourhood in around.items()
            if (grown := self.sweeps.scale(i, neighbourhood)) is not None
        }
        todo = [i for i in around if i not in scale]
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
                (self._swept(i, scale[i]), self.frames(i).camera, T_map_cam[i])
                for i in around[keyframe_id].ids
                if i in around
            ]
            self.frames.estimate(
                keyframe_id,
                *consistent(
                    self._swept(keyframe_id, scale[keyframe_id]),
                    self.frames(keyframe_id).camera,
                    T_map_cam[keyframe_id],
                    neighbours,
                ),
            )
        step(1.0)

    def _swept(self, keyframe_id: int, scale: float) -> InverseDepth:
        swept = self.sweeps.get(keyframe_id, scale)
        if swept is None:
            raise RuntimeError(f"the sweep of keyframe {keyframe_id} cannot be read back")
        return swept

    def _bundle(
        self,
        poses: StoredPoses,
        pairs: Sequence[tuple[int, int]],
        initial: np.ndarray,
        edges: Sequence[Edge],
        step: Step,
        noise: np.ndarray | None = None,
    ) -> bundle.Bundle:
        ids = [int(i) for i in poses.ids]
        matches: dict[tuple[int, int], np.ndarray] = {}
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

    def _neighbourhood(
        self, ids: Sequence[int], k: int, solved: bundle.Bundle
    ) -> Neighbourhood | None:
        """Return the keyframes that share tracks with keyframe ids[k] at a useful angle, best
        first; None when there is none.
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
        # The best baseline is a tenth of the distance: a shorter one gives little parallax, from a
        # longer one things look different.
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

    def _view(self, keyframe_id: int, T: np.ndarray) -> SweepView:
        frame = self.frames(keyframe_id)
        return SweepView(frame.camera, frame.gray, frame.features.dense, T)


def rescaled(solved: bundle.Bundle, scale: float, anchor: int = 0) -> bundle.Bundle:
    """Return the Bundle enlarged by `scale` about the keyframe of index `anchor`."""
    origin = solved.T_map_cam[anchor, :3, 3]
    T_map_cam = solved.T_map_cam.copy()
    T_map_cam[:, :3, 3] = origin + scale * (T_map_cam[:, :3, 3] - origin)
    return replace(solved, T_map_cam=T_map_cam, points=origin + scale * (solved.points - origin))
