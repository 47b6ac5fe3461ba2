"""All keyframes -> corrected poses: propose pairs, verify them, solve, look again from the corrected poses, solve for good."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.mapping import candidates, pose_graph
from vggt3_ros.mapping.loops import LoopVerifier, odometry_contradiction
from vggt3_ros.mapping.prior import beside_loops

SURE_MEMORY_M = 0.06  # median error on pairs it was not trained on; unseen views are several times worse
MOVED = 0.1  # of the radius and the angle of proximity
EXACT = 1e-6  # variance of a pose the user declared fixed


@dataclass(frozen=True, eq=False)
class Closing:
    """T_map_cam (N, 4, 4), covariances (N, 6, 6) in map axes, loops (tuple of Loop, rejected ones too), report: counts and residuals."""

    T_map_cam: np.ndarray
    covariances: np.ndarray
    loops: tuple
    report: dict


def close_loops(poses, frames, scene, places, matcher, localizer, config, stages, advice=None, T_map_cam=None, threads=1):
    """StoredPoses, frames(id) -> Frame, the last Scene or None, PlaceIndex over the poses or None -> Closing.

    stages(name) times and reports a stage. Only pairs with a keyframe that is new or has moved are matched; what was tried before
    stays as it was found. advice: network_stage.Advice, whose edges join the graph and whose candidates are tried.
    T_map_cam (N, 4, 4): where the keyframes are as far as is known, see sessions.in_one_frame; where odometry has them by default.
    threads: that verify pairs; with one, it is known which pair was in hand when something ends the process.
    """
    if config.fixed_poses:
        report = {"network": advice.report} if advice else {}
        return Closing(poses.T_odom_cam, np.tile(np.eye(6) * EXACT, (len(poses), 1, 1)), (), report)
    closer = _Closer(poses, frames, scene, places, matcher, localizer, config, advice, T_map_cam, threads)
    with stages("loops") as step:
        closer.verify(closer.first_candidates(), lambda done: step(0.7 * done))
    with stages("pose_graph"):
        closer.solve(covariances=False)
    with stages("loops") as step:
        closer.verify(closer.proximity_candidates(), lambda done: step(0.7 + 0.3 * done))
    with stages("pose_graph") as step:
        solution = closer.solve(covariances=True, progress=step)
    return Closing(solution.T_map_cam, solution.covariances, tuple(closer.loops), closer.report())


class _Closer:
    def __init__(self, poses, frames, scene, places, matcher, localizer, config, advice=None, T_map_cam=None, threads=1):
        self.poses, self.frames, self.scene, self.localizer, self.config = poses, frames, scene, localizer, config
        self.places = places
        self.advice, self.advised_kept = advice, 0
        self.fresh = advice.fresh if advice else frozenset()
        self.index = {int(keyframe_id): i for i, keyframe_id in enumerate(poses.ids)}
        self.verifier = LoopVerifier(config.loops, matcher, threads)
        self.noise = odometry_noise(poses, config.pose_graph)
        self.T_map_cam = self.believed = poses.T_odom_cam if T_map_cam is None else T_map_cam
        self.loops = [loop for loop in (scene.snapshot.loops if scene else ())
                      if loop.source_id in self.index and loop.target_id in self.index
                      and loop.source_id not in self.fresh and loop.target_id not in self.fresh]
        self.tried = {(self.index[loop.source_id], self.index[loop.target_id]) for loop in self.loops}
        self.thorough = Counter()

    def new(self):
        """Indices of keyframes that the last snapshot does not hold, or not with the depth they have now."""
        held = set(map(int, self.scene.snapshot.keyframe_ids)) - self.fresh if self.scene else ()
        return [i for i, keyframe_id in enumerate(self.poses.ids) if int(keyframe_id) not in held]

    def moved(self):
        """Indices of keyframes that have moved since the last snapshot by so much that they may see others now."""
        if self.scene is None:
            return []
        snapshot, loops = self.scene.snapshot, self.config.loops
        held = {int(keyframe_id): k for k, keyframe_id in enumerate(snapshot.keyframe_ids)}
        here, there = np.array([(i, held[keyframe_id]) for keyframe_id, i in self.index.items() if keyframe_id in held]).reshape(-1, 2).T
        motion = se3.inverse(snapshot.T_map_cam[there]) @ self.T_map_cam[here]
        far = np.linalg.norm(motion[:, :3, 3], axis=1) > MOVED * loops.proximity_radius
        return here[far | (se3.rotation_angle(motion) > MOVED * loops.proximity_angle)].tolist()

    def first_candidates(self):
        new = set(self.new())
        sessions = self.poses.sessions
        sequence = [(i, j) for i, j in candidates.sequence(len(self.poses)) if sessions[i] == sessions[j] and (i in new or j in new)]
        return ([(i, j, "sequence", i - j == 1) for i, j in sequence]
                + list(self._remembered(sorted(new)))
                + list(self._look_alikes(sorted(new)))
                + list(self._covisible(new))
                + self.proximity_candidates())

    def proximity_candidates(self):
        asked = self.new() + self.moved()
        return [(i, j, "proximity", False) for i, j in candidates.proximity(self.T_map_cam, self.config.loops, self.tried, asked)]

    def _remembered(self, new):
        """Around where the last snapshot's memory sees each new keyframe; it was not trained on them."""
        if self.scene is None or self.scene.memory is None:
            return
        snapshot = self.scene.snapshot
        for i in new:
            coarse = self.localizer.coarse(self.scene, self.frames(int(self.poses.ids[i])))
            if coarse.T_map_cam is None:
                continue
            for rank, k in enumerate(candidates.near_pose(snapshot.T_map_cam, coarse.T_map_cam, self.config.loops.memory_candidates, ())):
                j = self.index.get(int(snapshot.keyframe_ids[k]))
                if j is not None and abs(i - j) > 2:
                    yield max(i, j), min(i, j), "memory", rank == 0

    def _look_alikes(self, new):
        """Place recognition, until the memory knows the scene well enough to place a view it was not trained on."""
        count = self.config.loops.place_candidates
        memory = self.scene.memory if self.scene else None
        if not count or self.places is None or len(self.poses) < 10 or (memory is not None and memory.validation_error_m < SURE_MEMORY_M):
            return
        positions, index = self.T_map_cam[:, :3, 3], np.arange(len(self.poses))
        for i in new:
            # What odometry places nearby is tried anyway.
            far = np.linalg.norm(positions - positions[i], axis=1) > self.config.loops.proximity_radius
            for rank, j in enumerate(self.places.similar(i, count, far & (index < i - 10))):
                yield i, j, "place", rank == 0

    def _covisible(self, new):
        """Pairs that the network sees the same surface in, spread along the path as those of proximity are."""
        partners = {}
        for i, j in self.advice.candidates if self.advice else ():
            chosen = partners.setdefault(i, [])
            if (i in new or j in new) and len(chosen) < self.config.network.candidates and all(abs(j - k) > 2 for k in chosen):
                chosen.append(j)
                yield i, j, "network", len(chosen) == 1

    def verify(self, pairs, progress):
        wanted = []
        for i, j, origin, thorough in pairs:
            if (i, j) in self.tried:
                continue
            self.tried.add((i, j))
            thorough = thorough and (origin == "sequence" or self.thorough[i] < self.config.loops.thorough_per_keyframe)
            if origin != "sequence":
                self.thorough[i] += thorough
            wanted.append((origin, int(self.poses.ids[i]), int(self.poses.ids[j]), thorough))
        for loop in self.verifier.verify_all(wanted, self.frames, lambda done: progress(done / max(len(wanted), 1))):
            if loop.accepted:
                i, j = self.index[loop.source_id], self.index[loop.target_id]
                one_session = self.poses.sessions[i] == self.poses.sessions[j]
                believed = self.poses.T_odom_cam if one_session else self.believed
                reason = odometry_contradiction(loop, i, j, believed, self.config.loops)
                loop = replace(loop, accepted=False, reason=reason, T_source_target=None, information=None) if reason else loop
            self.loops.append(loop)

    def solve(self, covariances, progress=None):
        """Solve with the accepted loops; those that the solution contradicts become rejected ones."""
        accepted = [k for k, loop in enumerate(self.loops) if loop.accepted]
        edges = [pose_graph.Edge(self.index[loop.source_id], self.index[loop.target_id], loop.T_source_target, loop.information)
                 for loop in (self.loops[k] for k in accepted)]
        edges += beside_loops(self.advice.edges, edges) if self.advice else ()
        solution = pose_graph.solve(self.poses.T_odom_cam, self.noise, edges, self.config.pose_graph, self.T_map_cam, covariances,
                                    progress, self.poses.anchor)
        for k, kept, metres, radians in zip(accepted, solution.kept, solution.residual_m, solution.residual_rad):
            loop = replace(self.loops[k], residual_m=float(metres), residual_rad=float(radians))
            if not kept:
                loop = replace(loop, accepted=False, T_source_target=None, information=None,
                               reason=f"the solved graph disagrees by {metres:.2f} m and {np.degrees(radians):.1f} deg")
            self.loops[k] = loop
        self.T_map_cam, self.advised_kept = solution.T_map_cam, int(solution.kept[len(accepted):].sum())
        return solution

    def report(self):
        accepted = [loop for loop in self.loops if loop.accepted]
        residuals = [loop.residual_m for loop in accepted]
        out = {"loops_accepted": len(accepted), "loops_rejected": len(self.loops) - len(accepted),
               "loop_residual_m": float(np.median(residuals)) if residuals else float("nan"),
               "loop_origins": dict(Counter(loop.origin for loop in accepted))}
        if self.advice:
            out["network"] = dict(self.advice.report, edges=len(self.advice.edges), edges_kept=self.advised_kept)
        return out


def odometry_noise(poses, config):
    """(N, 6, 6) covariance of the step to each keyframe: the front end's, else in proportion to the step's length and turn."""
    steps = se3.inverse(poses.T_odom_cam[:-1]) @ poses.T_odom_cam[1:]
    metres = np.linalg.norm(steps[:, :3, 3], axis=1)
    radians = se3.rotation_angle(steps) if len(steps) else np.zeros(0)
    out = np.tile(np.eye(6), (len(poses), 1, 1))
    for i, given in enumerate(poses.covariances):
        if given is not None:
            out[i] = given
        elif i:
            translation = config.odometry_translation_noise + config.odometry_noise_per_metre * metres[i - 1]
            rotation = config.odometry_rotation_noise + config.odometry_noise_per_radian * radians[i - 1]
            out[i] = np.diag([translation**2] * 3 + [rotation**2] * 3)
    return out
