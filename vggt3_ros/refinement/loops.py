"""Verify candidate pairs: match them, measure the motion by PnP on depth, and accept or reject them
with a reason.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from vggt3_ros.config import LoopConfig
from vggt3_ros.features.frame import Frame, Over
from vggt3_ros.features.matching import Matcher, guided, mutual_nearest
from vggt3_ros.features.subpixel import align_patches
from vggt3_ros.geometry import se3
from vggt3_ros.refinement.odometry_steps import AGREES, Steps
from vggt3_ros.refinement.pose_graph import Edge
from vggt3_ros.refinement.relative_pose import RelativePose, View, estimate
from vggt3_ros.store.snapshot import Loop
from vggt3_ros.system import threads

PAIRS_PER_THREAD = 4  # in one group; cancelling waits for a group to end


class Pair(NamedTuple):
    """Two Frames to verify. origin: what proposed them. thorough: try LighterGlue if need be."""

    origin: str
    source: Frame
    target: Frame
    thorough: bool


class LoopVerifier:
    """Verify pairs of keyframes. threads: how many verify_all may use."""

    def __init__(self, config: LoopConfig, matcher: Matcher, threads: int = 1) -> None:
        self.config, self.matcher, self.threads = config, matcher, threads

    def verify(self, origin: str, source: Frame, target: Frame, thorough: bool) -> Loop:
        """Verify two Frames. Return a Loop with T_source_target and its information, or a rejected
        one with the reason.
        """
        return self._verified([Pair(origin, source, target, thorough)], map)[0]

    def verify_all(
        self,
        pairs: Sequence[tuple[str, int, int, bool]],
        frames: Callable[[int], Frame],
        step: Callable[[int], object],
    ) -> list[Loop]:
        """Verify pairs (origin, source id, target id, thorough); return their Loops in order.

        frames(id) returns a keyframe's Frame; only the calling thread calls it. step(pairs done)
        is called between groups of pairs.

        Mutual nearest neighbours cost a tenth of LighterGlue and decide two thirds of the pairs.
        Of the others, LighterGlue matches those that are `thorough`.
        """
        loops: list[Loop] = []
        at_once = PAIRS_PER_THREAD * self.threads if self.threads > 1 else 1
        with threads.pool(self.threads) as over:
            for first in range(0, len(pairs), at_once):
                step(first)
                group = [
                    Pair(origin, frames(source), frames(target), thorough)
                    for origin, source, target, thorough in pairs[first : first + at_once]
                ]
                loops += self._verified(group, over)
        step(len(pairs))
        return loops

    def _verified(self, pairs: Sequence[Pair], over: Over) -> list[Loop]:
        measured: list[RelativePose | None] = list(over(self._matched_fast, pairs))
        hard = [k for k, pair in enumerate(pairs) if measured[k] is None and pair.thorough]
        matches = self.matcher.lighterglue_many(
            [(pairs[k].source.features, pairs[k].target.features) for k in hard]
        )
        found = over(
            lambda k, matches: self._measure(pairs[k].source, pairs[k].target, matches),
            hard,
            [m for m, _ in matches],
        )
        for k, result in zip(hard, list(found)):
            measured[k] = result
        return list(over(self._loop, pairs, measured))

    def _matched_fast(self, pair: Pair) -> RelativePose | None:
        return self._measure(
            pair.source,
            pair.target,
            mutual_nearest(pair.source.features, pair.target.features, device=self.matcher.device)[
                0
            ],
        )

    def _loop(self, pair: Pair, measured: RelativePose | None) -> Loop:
        origin, source, target, _ = pair
        if measured is None:
            reason = f"fewer than {self.config.minimum_inliers} matches agree on a motion (loops.minimum_inliers)"
            return Loop(source.id, target.id, False, reason, origin, 0)
        measured = (
            self._measure(
                source,
                target,
                self._guided(source, target, measured.T_source_target),
                measured.T_source_target,
            )
            or measured
        )
        return Loop(
            source.id,
            target.id,
            True,
            "",
            origin,
            int(measured.inliers.sum()),
            measured.T_source_target,
            measured.information,
        )

    def _guided(self, source: Frame, target: Frame, T_source_target: np.ndarray) -> np.ndarray:
        """Match again, guided by the roughly known motion. This gives about twice as many matches,
        spread more widely, and so a more accurate motion.
        """
        points = target.camera.unproject(target.features.keypoints, target.keypoint_depth)
        moved = se3.transform_points(T_source_target, points)
        visible = (target.keypoint_depth > 0) & (moved[:, 2] > 0.05)
        expected = np.where(visible[:, None], source.camera.project(moved), np.nan)
        return guided(
            source.features,
            target.features,
            expected,
            3 * self.config.reprojection_threshold,
            device=self.matcher.device,
        )[0]

    def _measure(
        self,
        source: Frame,
        target: Frame,
        matches: np.ndarray,
        T_source_target: np.ndarray | None = None,
    ) -> RelativePose | None:
        if len(matches) < self.config.minimum_inliers:
            return None
        first, second = matches.T
        pixels = (
            source.features.keypoints[first].astype(float),
            target.features.keypoints[second].astype(float),
        )
        if T_source_target is not None:
            pixels = (
                pixels[0],
                align_patches(
                    source.gray, target.gray, *pixels, target.camera.fx / source.camera.fx
                ),
            )
        views = (
            View(source.camera, pixels[0], source.keypoint_depth[first].astype(float)),
            View(target.camera, pixels[1], target.keypoint_depth[second].astype(float)),
        )
        return estimate(
            *views,
            self.config.reprojection_threshold,
            self.config.minimum_inliers,
            T_source_target,
        )


def odometry_contradiction(
    loop: Loop | Edge,
    source: int,
    target: int,
    T_odom_cam: np.ndarray,
    config: LoopConfig,
    steps: Steps | None = None,
) -> str:
    """Return why a loop, whose motion was measured, between keyframe indices contradicts the
    odometry; "" when it does not.

    T_odom_cam (N, 4, 4): odometry. Two rooms with the same furniture match perfectly; only the
    path between them tells them apart. So a loop may disagree with the odometry by no more than
    this may have drifted. steps: where the images saw nothing, the odometry may also be wrong by
    the motion that a camera makes unseen.
    """
    T_source_target = loop.T_source_target
    assert T_source_target is not None, "only a measured motion can contradict the odometry"
    if source < target:
        source, target, T_source_target = target, source, se3.inverse(T_source_target)
    path = np.linalg.norm(np.diff(T_odom_cam[target : source + 1, :3, 3], axis=0), axis=1).sum()
    by_odometry = se3.inverse(T_odom_cam[source]) @ T_odom_cam[target]
    disagreement = np.linalg.norm(
        se3.inverse(T_source_target)[:3, 3] - se3.inverse(by_odometry)[:3, 3]
    )
    allowed = config.drift_allowance + config.drift_per_metre * path
    if disagreement <= allowed or (
        steps is not None and _moved_unseen(T_source_target, T_odom_cam, target, source, steps)
    ):
        return ""
    return (
        f"the odometry disagrees by {disagreement:.2f} m over a path of {path:.1f} m; a drift of {allowed:.2f} m is "
        "allowed (loops.drift_allowance, loops.drift_per_metre)"
    )


def _moved_unseen(
    T_source_target: np.ndarray, T_odom_cam: np.ndarray, target: int, source: int, steps: Steps
) -> bool:
    """Tell whether the loop holds if the camera moved differently, by a plausible amount, in one
    run of steps in which the images saw nothing.
    """
    dark = target + 1 + np.flatnonzero(steps.dark[target + 1 : source + 1])
    drift = steps.noise[target + 1 : source + 1].sum(axis=0)
    for run in np.split(dark, np.flatnonzero(np.diff(dark) > 1) + 1) if len(dark) else ():
        before, after = run[0] - 1, run[-1]
        motion = (
            se3.inverse(T_odom_cam[before])
            @ T_odom_cam[target]
            @ se3.inverse(T_source_target)
            @ se3.inverse(T_odom_cam[source])
            @ T_odom_cam[after]
        )
        off = se3.log(se3.inverse(se3.inverse(T_odom_cam[before]) @ T_odom_cam[after]) @ motion)
        if off @ np.linalg.solve(steps.unseen[run].sum(axis=0) + drift, off) < AGREES:
            return True
    return False
