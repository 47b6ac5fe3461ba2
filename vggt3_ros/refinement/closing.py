"""Correct the poses of all keyframes: propose pairs, verify them, solve, propose again from the
corrected poses, and solve for good.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vggt3_ros.config import BackendConfig
from vggt3_ros.features.frame import Frame
from vggt3_ros.features.matching import Matcher
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.overlap import near_pose
from vggt3_ros.memory.localizer import Localizer
from vggt3_ros.memory.scenes import Scene
from vggt3_ros.refinement import candidates, pose_graph
from vggt3_ros.refinement.consensus import agreed_steps, weigh
from vggt3_ros.refinement.loops import LoopVerifier, odometry_contradiction
from vggt3_ros.refinement.network_prior.network_stage import Advice
from vggt3_ros.refinement.network_prior.prior import beside_loops
from vggt3_ros.refinement.odometry_breaks import breaks, reported, told
from vggt3_ros.refinement.odometry_steps import Steps, judge, odometry_noise, repaired
from vggt3_ros.refinement.pose_graph import Edge, Solution
from vggt3_ros.store.snapshot import Loop
from vggt3_ros.store.stored_poses import StoredPoses
from vggt3_ros.system.stages import Stages

_log = logging.getLogger(__name__)
# median error of the memory on held-out pairs; on unseen views it is several times worse
SURE_MEMORY_M = 0.06
MOVED = 0.1  # share of the radius and angle of proximity beyond which a keyframe has moved
THIN = 6  # loops across an unconfirmed step; where there are fewer, this many pairs more are tried
# most keyframes that a pair may span to bridge an unconfirmed step; pairs tried per new keyframe
BRIDGE, BRIDGES = 4, 3
EXACT = 1e-6  # variance of a pose that the user declared fixed

Candidate = tuple[int, int, str, bool]  # indices i > j, origin, whether to match thoroughly


@dataclass(frozen=True, eq=False)
class Closing:
    """T_map_cam (N, 4, 4). covariances (N, 6, 6): in map axes, x y z rotX rotY rotZ. loops:
    accepted and rejected ones. report: counts and residuals. odometry_noise (N, 6, 6): covariances
    of the odometry steps as used to solve, widened where the odometry is broken; None when the
    poses are fixed.
    """

    T_map_cam: np.ndarray
    covariances: np.ndarray
    loops: tuple[Loop, ...]
    report: dict[str, Any]
    odometry_noise: np.ndarray | None = None


def close_loops(
    poses: StoredPoses,
    frames: Callable[[int], Frame],
    scene: Scene | None,
    places: PlaceIndex | None,
    matcher: Matcher,
    localizer: Localizer,
    config: BackendConfig,
    stages: Stages,
    advice: Advice | None = None,
    T_map_cam: np.ndarray | None = None,
    threads: int = 1,
    verifier: LoopVerifier | None = None,
) -> Closing:
    """Find loops between keyframes and solve for their poses.

    frames(id) returns a keyframe's Frame. scene: the last Scene, None before the first refinement.
    places: index over the keyframes. stages(name) times and reports a stage. advice: what the
    network says; its edges join the graph and its candidates are tried. T_map_cam (N, 4, 4): the
    poses as far as known (see sessions.in_one_frame), those of the odometry by default. threads:
    how many verify pairs; with one, a crash can be attributed to a pair. verifier: instead of
    LoopVerifier(config.loops, matcher, threads).

    Only pairs with a new or moved keyframe are matched. The motions measured in earlier
    refinements are judged again.
    """
    if config.fixed_poses:
        report = {"network": advice.report} if advice else {}
        return Closing(
            poses.T_odom_cam, np.tile(np.eye(6) * EXACT, (len(poses), 1, 1)), (), report
        )
    verifier = verifier or LoopVerifier(config.loops, matcher, threads)
    closer = _Closer(poses, frames, scene, places, verifier, localizer, config, advice, T_map_cam)
    with stages("loops") as step:
        closer.verify(closer.sequence_candidates(), lambda done: step(0.2 * done))
        closer.judge_odometry()
        closer.verify(closer.bridges(), lambda done: step(0.2 + 0.1 * done))
        closer.repair_odometry()
        closer.verify(closer.first_candidates(), lambda done: step(0.3 + 0.4 * done))
    with stages("pose_graph"):
        closer.solve(covariances=False)
    with stages("loops") as step:
        closer.verify(
            closer.proximity_candidates() + closer.thin_cuts(), lambda done: step(0.7 + 0.3 * done)
        )
    with stages("pose_graph") as step:
        solution = closer.solve(covariances=True, progress=step)
    return Closing(
        solution.T_map_cam,
        solution.covariances,
        tuple(closer.loops),
        closer.report(),
        closer.steps.widened(closer.broken),
    )


class _Closer:
    """The state of one refinement: candidate pairs, loops, and the poses so far."""

    steps: Steps  # of the odometry, from judge_odometry() on

    def __init__(
        self,
        poses: StoredPoses,
        frames: Callable[[int], Frame],
        scene: Scene | None,
        places: PlaceIndex | None,
        verifier: LoopVerifier,
        localizer: Localizer,
        config: BackendConfig,
        advice: Advice | None = None,
        T_map_cam: np.ndarray | None = None,
    ) -> None:
        self.poses, self.frames, self.scene, self.localizer, self.config = (
            poses,
            frames,
            scene,
            localizer,
            config,
        )
        self.places = places
        self.advice, self.advised_kept = advice, 0
        self.fresh: frozenset[int] = advice.fresh if advice else frozenset()
        self.index = {int(keyframe_id): i for i, keyframe_id in enumerate(poses.ids)}
        self.verifier = verifier
        self.noise = odometry_noise(poses, config.pose_graph)
        self.T_map_cam = self.assumed = poses.T_odom_cam if T_map_cam is None else T_map_cam
        self.loops = [
            loop
            for loop in (scene.snapshot.loops if scene else ())
            if loop.source_id in self.index
            and loop.target_id in self.index
            and loop.source_id not in self.fresh
            and loop.target_id not in self.fresh
        ]
        self.tried = {
            (self.index[loop.source_id], self.index[loop.target_id]) for loop in self.loops
        }
        self.thorough: Counter[int] = Counter()
        self.chain = poses.T_odom_cam  # the odometry, with its breaks repaired
        self.broken = np.zeros(len(poses), bool)

    def new(self) -> list[int]:
        """Return the indices of keyframes that the last snapshot lacks, or had with other
        depth.
        """
        held = set(map(int, self.scene.snapshot.keyframe_ids)) - self.fresh if self.scene else ()
        return [i for i, keyframe_id in enumerate(self.poses.ids) if int(keyframe_id) not in held]

    def moved(self) -> list[int]:
        """Return the indices of keyframes that have moved so far since the last snapshot that they
        may have new neighbours.
        """
        if self.scene is None:
            return []
        snapshot, loops = self.scene.snapshot, self.config.loops
        held = {int(keyframe_id): k for k, keyframe_id in enumerate(snapshot.keyframe_ids)}
        here, there = (
            np.array(
                [
                    (i, held[keyframe_id])
                    for keyframe_id, i in self.index.items()
                    if keyframe_id in held
                ]
            )
            .reshape(-1, 2)
            .T
        )
        motion = se3.inverse(snapshot.T_map_cam[there]) @ self.T_map_cam[here]
        far = np.linalg.norm(motion[:, :3, 3], axis=1) > MOVED * loops.proximity_radius
        turned = se3.rotation_angle(motion) > MOVED * loops.proximity_angle
        indices: list[int] = here[far | turned].tolist()
        return indices

    def sequence_candidates(self) -> list[Candidate]:
        new, sessions = set(self.new()), self.poses.sessions
        return [
            (i, j, "sequence", i - j == 1)
            for i, j in candidates.sequence(len(self.poses))
            if sessions[i] == sessions[j] and (i in new or j in new)
        ]

    def bridges(self) -> list[Candidate]:
        """Return pairs that bridge the steps that nothing confirms: one blurred image must not
        break the path.
        """
        new, sessions = set(self.new()), self.poses.sessions
        pairs: list[candidates.Pair] = []
        for k in (
            np.flatnonzero(self.steps.doubted).tolist()
            + np.flatnonzero(self.steps.open & ~self.steps.doubted).tolist()
        ):
            pairs += [
                pair
                for pair in candidates.across(k, len(self.poses), BRIDGE)
                if sessions[pair[0]] == sessions[pair[1]]
                and not new.isdisjoint(pair)
                and pair not in self.tried
            ]
        return [
            (i, j, "sequence", True)
            for i, j in list(dict.fromkeys(pairs))[: BRIDGES * max(len(new), 1)]
        ]

    def judge_odometry(self) -> None:
        """Judge the odometry steps by the motions measured so far."""
        self.steps = judge(
            self.poses.T_odom_cam, self.noise, [edge for _, edge in self._measured()]
        )

    def repair_odometry(self) -> None:
        """Replace broken odometry by the motion on which neighbours in time agree, before further
        candidates and contradictions are looked for.
        """
        self.judge_odometry()
        odometry, sessions = self.poses.T_odom_cam, self.poses.sessions
        self.steps, motions = agreed_steps(
            odometry, self.steps, [edge for _, edge in self._measured()], BRIDGE
        )
        self.chain = repaired(odometry, odometry, motions, sessions)
        self.T_map_cam = self.assumed = repaired(self.T_map_cam, odometry, motions, sessions)

    def first_candidates(self) -> list[Candidate]:
        new = set(self.new())
        return (
            list(self._remembered(sorted(new)))
            + list(self._look_alikes(sorted(new)))
            + list(self._covisible(new))
            + self.proximity_candidates()
        )

    def proximity_candidates(self) -> list[Candidate]:
        asked = self.new() + self.moved()
        return [
            (i, j, "proximity", False)
            for i, j in candidates.proximity(
                self.T_map_cam,
                self.config.loops,
                self.tried,
                asked,
                bool(self.steps.doubted.any()),
            )
        ]

    def thin_cuts(self) -> list[Candidate]:
        """Return more pairs, the most similar ones, across unconfirmed steps that few loops
        bridge.
        """
        if self.places is None:
            return []
        new = set(self.new())
        pairs: list[Candidate] = []
        ends = np.array(
            [(edge.source, edge.target) for k, edge in self._measured() if self.loops[k].accepted]
        ).reshape(-1, 2)
        for k in np.flatnonzero(self.steps.open).tolist():
            if (((ends < k).sum(axis=1)) == 1).sum() < THIN and not new.isdisjoint(
                range(k - 1, k + 2)
            ):
                alike = candidates.alike_across(
                    k, self.places, THIN, self.tried.union((i, j) for i, j, *_ in pairs)
                )
                pairs += [(i, j, "place", rank < THIN // 2) for rank, (i, j) in enumerate(alike)]
        return pairs[: BRIDGES * max(len(new), 1)]

    def _remembered(self, new: Iterable[int]) -> Iterator[Candidate]:
        """Propose the keyframes around where the last snapshot's memory, which was not trained on
        the new keyframes, localizes each of them.
        """
        if self.scene is None or self.scene.memory is None:
            return
        snapshot = self.scene.snapshot
        for i in new:
            coarse = self.localizer.coarse(self.scene, self.frames(int(self.poses.ids[i])))
            if coarse.T_map_cam is None:
                continue
            for rank, k in enumerate(
                near_pose(
                    snapshot.T_map_cam, coarse.T_map_cam, self.config.loops.memory_candidates, ()
                )
            ):
                j = self.index.get(int(snapshot.keyframe_ids[k]))
                if j is not None and abs(i - j) > 2:
                    yield max(i, j), min(i, j), "memory", rank == 0

    def _look_alikes(self, new: Iterable[int]) -> Iterator[Candidate]:
        """Propose look-alikes by place recognition, until the memory is accurate enough to localize
        a view that it was not trained on.
        """
        count = self.config.loops.place_candidates
        memory = self.scene.memory if self.scene else None
        if (
            not count
            or self.places is None
            or len(self.poses) < 10
            or (memory is not None and memory.validation_error_m < SURE_MEMORY_M)
        ):
            return
        positions, index = self.T_map_cam[:, :3, 3], np.arange(len(self.poses))
        for i in new:
            # Keyframes near by odometry are tried anyway.
            far = (
                np.linalg.norm(positions - positions[i], axis=1)
                > self.config.loops.proximity_radius
            )
            for rank, j in enumerate(self.places.similar(i, count, far & (index < i - 10))):
                yield i, j, "place", rank == 0

    def _covisible(self, new: set[int]) -> Iterator[Candidate]:
        """Propose pairs in which the network sees the same surface, spread along the path as those
        of candidates.proximity are.
        """
        partners: dict[int, list[int]] = {}
        for i, j in self.advice.candidates if self.advice else ():
            chosen = partners.setdefault(i, [])
            if (
                (i in new or j in new)
                and len(chosen) < self.config.network.candidates
                and all(abs(j - k) > 2 for k in chosen)
            ):
                chosen.append(j)
                yield i, j, "network", len(chosen) == 1

    def verify(self, pairs: Sequence[Candidate], progress: Callable[[float], object]) -> None:
        """Verify those of the pairs that have not been tried yet, and add them to the loops."""
        wanted = []
        for i, j, origin, thorough in pairs:
            if (i, j) in self.tried:
                continue
            self.tried.add((i, j))
            thorough = thorough and (
                origin == "sequence" or self.thorough[i] < self.config.loops.thorough_per_keyframe
            )
            if origin != "sequence":
                self.thorough[i] += thorough
            wanted.append((origin, int(self.poses.ids[i]), int(self.poses.ids[j]), thorough))
        self.loops += self.verifier.verify_all(
            wanted, self.frames, lambda done: progress(done / max(len(wanted), 1))
        )

    def _measured(self) -> list[tuple[int, Edge]]:
        """Return (index in loops, Edge) of every loop whose motion was measured, accepted or not: a
        loop rejected before may be accepted now.
        """
        return [
            (
                k,
                Edge(
                    self.index[loop.source_id],
                    self.index[loop.target_id],
                    loop.T_source_target,
                    loop.information,
                ),
            )
            for k, loop in enumerate(self.loops)
            if loop.T_source_target is not None and loop.information is not None
        ]

    def _permitted(self) -> list[tuple[int, Edge]]:
        """Return those of _measured() that the odometry permits; reject the others."""
        out = []
        for k, edge in self._measured():
            one_session = self.poses.sessions[edge.source] == self.poses.sessions[edge.target]
            reason = odometry_contradiction(
                edge,
                edge.source,
                edge.target,
                self.chain if one_session else self.assumed,
                self.config.loops,
                self.steps,
            )
            if reason:
                self.loops[k] = replace(self.loops[k], accepted=False, reason=reason)
            else:
                out.append((k, edge))
        return out

    def solve(
        self, covariances: bool, progress: Callable[[float], object] | None = None
    ) -> Solution:
        """Solve the pose graph with the measured loops, and reject those that the solution
        contradicts.
        """
        permitted = self._permitted()
        edges = [edge for _, edge in permitted]
        edges += beside_loops(self.advice.edges, edges) if self.advice else ()
        odometry, config = self.poses.T_odom_cam, self.config.pose_graph
        solution, self.broken = weigh(
            odometry, self.steps, self.broken, edges, config, self.T_map_cam, self.poses.anchor
        )
        _, distance = self.steps.off(odometry, solution.T_map_cam)
        self.broken |= self.steps.open & (distance > self.steps.bound(distance))
        if covariances:
            solution = pose_graph.solve(
                odometry,
                self.steps.widened(self.broken),
                edges,
                config,
                solution.T_map_cam,
                True,
                progress,
                self.poses.anchor,
                solution.kept,
            )
        for (k, _), kept, metres, radians in zip(
            permitted, solution.kept, solution.residual_m, solution.residual_rad
        ):
            reason = (
                ""
                if kept
                else f"the solved graph disagrees by {metres:.2f} m and {np.degrees(radians):.1f} deg"
            )
            self.loops[k] = replace(
                self.loops[k],
                accepted=bool(kept),
                reason=reason,
                residual_m=float(metres),
                residual_rad=float(radians),
            )
        self.T_map_cam, self.advised_kept = (
            solution.T_map_cam,
            int(solution.kept[len(permitted) :].sum()),
        )
        return solution

    def report(self) -> dict[str, Any]:
        accepted = [loop for loop in self.loops if loop.accepted]
        residuals = [loop.residual_m for loop in accepted]
        out: dict[str, Any] = {
            "loops_accepted": len(accepted),
            "loops_rejected": len(self.loops) - len(accepted),
            "loop_residual_m": float(np.median(residuals)) if residuals else float("nan"),
            "loop_origins": dict(Counter(loop.origin for loop in accepted)),
        }
        found = breaks(self.poses, self.steps, self.broken, self.T_map_cam)
        known = (
            {(b.before, b.after) for b in told(self.scene.snapshot.report)} if self.scene else ()
        )
        for broken in found:
            if (broken.before, broken.after) not in known:
                _log.warning("%s, according to loops and neighbouring images", broken)
        out |= reported(found)
        if self.advice:
            out["network"] = dict(
                self.advice.report, edges=len(self.advice.edges), edges_kept=self.advised_kept
            )
        return out
