"""All keyframes -> corrected poses: propose pairs, verify them, solve, look again from the
corrected poses, solve for good.
"""

import logging
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.overlap import near_pose
from vggt3_ros.refinement import candidates, pose_graph
from vggt3_ros.refinement.consensus import agreed_steps, weigh
from vggt3_ros.refinement.loops import LoopVerifier, odometry_contradiction
from vggt3_ros.refinement.network_prior.prior import beside_loops
from vggt3_ros.refinement.odometry_breaks import breaks, reported, told
from vggt3_ros.refinement.odometry_steps import judge, odometry_noise, repaired

_log = logging.getLogger(__name__)
# median error on pairs it was not trained on; unseen views are several times worse
SURE_MEMORY_M = 0.06
MOVED = 0.1  # of the radius and the angle of proximity
THIN = 6  # loops across a step that nothing confirms: with fewer, as many pairs more are tried
# keyframes between which a step that nothing confirms is bridged; pairs tried so, for each new
# keyframe
BRIDGE, BRIDGES = 4, 3
EXACT = 1e-6  # variance of a pose the user declared fixed


@dataclass(frozen=True, eq=False)
class Closing:
    """T_map_cam (N, 4, 4), covariances (N, 6, 6) in map axes, loops (tuple of Loop, rejected ones
    too), report: counts and residuals. odometry_noise (N, 6, 6): of the odometry's steps as the
    poses were solved with, wide where it is broken; None where poses are fixed.
    """

    T_map_cam: np.ndarray
    covariances: np.ndarray
    loops: tuple
    report: dict
    odometry_noise: np.ndarray | None = None


def close_loops(
    poses,
    frames,
    scene,
    places,
    matcher,
    localizer,
    config,
    stages,
    advice=None,
    T_map_cam=None,
    threads=1,
    verifier=None,
):
    """StoredPoses, frames(id) -> Frame, the last Scene or None, PlaceIndex over the poses or None
    -> Closing.

    stages(name) times and reports a stage. Only pairs with a keyframe that is new or has moved are
    matched; a motion measured before is judged again. advice: network_stage.Advice, whose edges
    join the graph and whose candidates are tried. T_map_cam (N, 4, 4): where the keyframes are as
    far as is known, see sessions.in_one_frame; where odometry has them by default. threads: that
    verify pairs; with one, it is known which pair was in hand when something ends the process.
    verifier: instead of LoopVerifier(config.loops, matcher, threads).
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
        closer.follow_what_holds()
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
    def __init__(
        self,
        poses,
        frames,
        scene,
        places,
        verifier,
        localizer,
        config,
        advice=None,
        T_map_cam=None,
    ):
        self.poses, self.frames, self.scene, self.localizer, self.config = (
            poses,
            frames,
            scene,
            localizer,
            config,
        )
        self.places = places
        self.advice, self.advised_kept = advice, 0
        self.fresh = advice.fresh if advice else frozenset()
        self.index = {int(keyframe_id): i for i, keyframe_id in enumerate(poses.ids)}
        self.verifier = verifier
        self.noise = odometry_noise(poses, config.pose_graph)
        self.T_map_cam = self.believed = poses.T_odom_cam if T_map_cam is None else T_map_cam
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
        self.thorough = Counter()
        # odometry with what is broken in it mended
        self.steps, self.chain = None, poses.T_odom_cam
        self.broken = np.zeros(len(poses), bool)

    def new(self):
        """Indices of keyframes that the last snapshot does not hold, or not with the depth they
        have now.
        """
        held = set(map(int, self.scene.snapshot.keyframe_ids)) - self.fresh if self.scene else ()
        return [i for i, keyframe_id in enumerate(self.poses.ids) if int(keyframe_id) not in held]

    def moved(self):
        """Indices of keyframes that have moved since the last snapshot by so much that they may
        see others now.
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
        return here[far | (se3.rotation_angle(motion) > MOVED * loops.proximity_angle)].tolist()

    def sequence_candidates(self):
        new, sessions = set(self.new()), self.poses.sessions
        return [
            (i, j, "sequence", i - j == 1)
            for i, j in candidates.sequence(len(self.poses))
            if sessions[i] == sessions[j] and (i in new or j in new)
        ]

    def bridges(self):
        """Pairs of keyframes before and after the steps that nothing confirms: one blurred image
        need not part the path.
        """
        new, sessions, pairs = set(self.new()), self.poses.sessions, []
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

    def judge_odometry(self):
        self.steps = judge(
            self.poses.T_odom_cam, self.noise, [edge for _, edge in self._measured()]
        )

    def follow_what_holds(self):
        """Where odometry is broken, go on from what neighbours in time agree on: candidates and
        contradictions are looked for there.
        """
        self.judge_odometry()
        odometry, sessions = self.poses.T_odom_cam, self.poses.sessions
        self.steps, motions = agreed_steps(
            odometry, self.steps, [edge for _, edge in self._measured()], BRIDGE
        )
        self.chain = repaired(odometry, odometry, motions, sessions)
        self.T_map_cam = self.believed = repaired(self.T_map_cam, odometry, motions, sessions)

    def first_candidates(self):
        new = set(self.new())
        return (
            list(self._remembered(sorted(new)))
            + list(self._look_alikes(sorted(new)))
            + list(self._covisible(new))
            + self.proximity_candidates()
        )

    def proximity_candidates(self):
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

    def thin_cuts(self):
        """More tries where few loops tie what comes before a step that nothing confirms to what
        comes after: what looks most alike.
        """
        if self.places is None:
            return []
        new, pairs = set(self.new()), []
        ends = np.array(
            [(edge.source, edge.target) for k, edge in self._measured() if self.loops[k].accepted]
        ).reshape(-1, 2)
        for k in np.flatnonzero(self.steps.open):
            if (((ends < k).sum(axis=1)) == 1).sum() < THIN and not new.isdisjoint(
                range(k - 1, k + 2)
            ):
                alike = candidates.alike_across(
                    k, self.places, THIN, self.tried.union((i, j) for i, j, *_ in pairs)
                )
                pairs += [(i, j, "place", rank < THIN // 2) for rank, (i, j) in enumerate(alike)]
        return pairs[: BRIDGES * max(len(new), 1)]

    def _remembered(self, new):
        """Around where the last snapshot's memory sees each new keyframe; it was not trained on
        them.
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

    def _look_alikes(self, new):
        """Place recognition, until the memory knows the scene well enough to place a view it was
        not trained on.
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
            # What odometry places nearby is tried anyway.
            far = (
                np.linalg.norm(positions - positions[i], axis=1)
                > self.config.loops.proximity_radius
            )
            for rank, j in enumerate(self.places.similar(i, count, far & (index < i - 10))):
                yield i, j, "place", rank == 0

    def _covisible(self, new):
        """Pairs that the network sees the same surface in, spread along the path as those of
        proximity are.
        """
        partners = {}
        for i, j in self.advice.candidates if self.advice else ():
            chosen = partners.setdefault(i, [])
            if (
                (i in new or j in new)
                and len(chosen) < self.config.network.candidates
                and all(abs(j - k) > 2 for k in chosen)
            ):
                chosen.append(j)
                yield i, j, "network", len(chosen) == 1

    def verify(self, pairs, progress):
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

    def _measured(self):
        """(place in loops, Edge) of those whose motion was measured, whatever became of them: what
        was wrong once may be right now.
        """
        return [
            (
                k,
                pose_graph.Edge(
                    self.index[loop.source_id],
                    self.index[loop.target_id],
                    loop.T_source_target,
                    loop.information,
                ),
            )
            for k, loop in enumerate(self.loops)
            if loop.T_source_target is not None
        ]

    def _believed(self):
        """Those of _measured() that the odometry allows; the others become rejected ones."""
        out = []
        for k, edge in self._measured():
            one_session = self.poses.sessions[edge.source] == self.poses.sessions[edge.target]
            reason = odometry_contradiction(
                edge,
                edge.source,
                edge.target,
                self.chain if one_session else self.believed,
                self.config.loops,
                self.steps,
            )
            if reason:
                self.loops[k] = replace(self.loops[k], accepted=False, reason=reason)
            else:
                out.append((k, edge))
        return out

    def solve(self, covariances, progress=None):
        """Solve with the measured loops; those that the solution contradicts become rejected
        ones.
        """
        believed = self._believed()
        edges = [edge for _, edge in believed]
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
            believed, solution.kept, solution.residual_m, solution.residual_rad
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
            int(solution.kept[len(believed) :].sum()),
        )
        return solution

    def report(self):
        accepted = [loop for loop in self.loops if loop.accepted]
        residuals = [loop.residual_m for loop in accepted]
        out = {
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
                _log.warning("%s; loops and neighbouring images say so", broken)
        out |= reported(found)
        if self.advice:
            out["network"] = dict(
                self.advice.report, edges=len(self.advice.edges), edges_kept=self.advised_kept
            )
        return out
