"""What is left of a front end's faults after loops are closed: odometry broken on purpose, false
loops among the right ones, scored.

Features and verified loops are made once a data set; a fault changes the odometry and with it
which pairs are tried, so the rest takes seconds. Poses alone: no map is fused, and a memory
distilled only where a second run has to be found. Without depth, loops depend on the depth that
the faulty odometry leads to, so that each run verifies its own.
"""

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.features.frame import encode_frame
from vggt3_ros.features.matching import Matcher
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.features.xfeat import XFeatEncoder
from vggt3_ros.geometry import se3
from vggt3_ros.memory.folding import folded
from vggt3_ros.memory.localizer import Localizer, Scene
from vggt3_ros.refinement.closing import close_loops
from vggt3_ros.refinement.loops import LoopVerifier
from vggt3_ros.refinement.monocular.structure import Structure
from vggt3_ros.refinement.odometry_breaks import told
from vggt3_ros.refinement.sessions import in_one_frame
from vggt3_ros.store.keyframes import NO_STEP
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.store.stored_poses import StoredPoses
from vggt3_ros.surface.fusion import empty_map

# where a second run's odometry has its frame
ELSEWHERE = se3.exp([4.0, -1.0, 0.5, 0.1, -0.2, 2.0])
ALLOWED = 1.3  # times the error without the fault
FALSE_M, FALSE_RAD = 0.3, 0.2  # an accepted loop that is farther from the truth is a false one
SCALED = 10  # steps that are measured too long


def frozen(count):
    """The front end sends the same pose for so many keyframes, and goes on from there."""

    def fault(steps, at, rng):
        steps[at : at + count] = np.eye(4)

    return fault


def jumped(metres, degrees):
    """One step is off by so much, in any direction."""

    def fault(steps, at, rng):
        off = rng.standard_normal((2, 3))
        off *= np.array([[metres], [np.radians(degrees)]]) / np.linalg.norm(
            off, axis=1, keepdims=True
        )
        steps[at] = steps[at] @ se3.exp(off.ravel())

    return fault


def scaled(by):
    """Ten steps are so many times as long."""

    def fault(steps, at, rng):
        steps[at : at + SCALED, :3, 3] *= by

    return fault


FAULTS = {
    "frozen for 1": (frozen(1),),
    "frozen for 3": (frozen(3),),
    "frozen for 10": (frozen(10),),
    "jump 0.5 m 30 deg": (jumped(0.5, 30),),
    "turn 20 deg": (jumped(0.0, 20),),
    "scale 1.3": (scaled(1.3),),
    "frozen for 3, then a jump": (frozen(3), jumped(0.5, 30)),
    "two jumps": (jumped(0.5, 30), jumped(0.5, 30)),
}


def faulty(T_odom_cam, name, seed):
    """Odometry (N, 4, 4), N >= 28, with a fault of FAULTS -> (N, 4, 4). Two breaks lie in either
    half, one in that which the seed says.
    """
    count, rng = len(T_odom_cam), np.random.default_rng([seed, 77])
    places = [
        int(rng.integers(count // 8, count // 2 - 2)),
        int(rng.integers(count // 2, count - count // 8 - SCALED + 1)),
    ]
    faults = FAULTS[name]
    steps = se3.inverse(T_odom_cam[:-1]) @ T_odom_cam[1:]
    for fault, at in zip(faults, places if len(faults) > 1 else [places[seed % 2]]):
        fault(steps, at, rng)
    poses = [T_odom_cam[0]]
    for step in steps:
        poses.append(poses[-1] @ step)
    return se3.orthonormalize(np.array(poses))


class RememberingVerifier:
    """As LoopVerifier, but looks at each pair once. share of the loops it accepts are made false,
    the same for the same seed.
    """

    def __init__(self, verifier):
        self.verifier, self.known, self.share, self.seed = verifier, {}, 0.0, 0

    def verify_all(self, pairs, frames, step):
        loops = []
        for origin, source, target, thorough in pairs:
            step(len(loops))
            loops.append(self._verified(origin, frames(source), frames(target), thorough))
        step(len(pairs))
        return loops

    def _verified(self, origin, source, target, thorough):
        key = source.id, target.id
        for way in ((key, False), (key, True))[: 1 + thorough]:
            if way not in self.known:
                self.known[way] = self.verifier.verify(origin, source, target, way[1])
            loop = self.known[way]
            if loop.accepted:
                return self._maybe_false(replace(loop, origin=origin))
        return replace(loop, origin=origin)

    def _maybe_false(self, loop):
        digest = hashlib.sha256(f"{loop.source_id} {loop.target_id} {self.seed}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        if rng.random() >= self.share:
            return loop
        wrong = np.concatenate([rng.uniform(-3, 3, 3), rng.uniform(-1.5, 1.5, 3)])
        return replace(loop, T_source_target=loop.T_source_target @ se3.exp(wrong))


@dataclass(frozen=True)
class Row:
    """One run. odometry_m, corrected_m: error (ATE); unharmed_m: the same without the fault but
    with the same false loops; accepted, false: loops in the graph, and those of them that are
    wrong; breaks: what was reported.
    """

    fault: str
    seed: int
    false_share: float
    odometry_m: float
    unharmed_m: float
    corrected_m: float
    accepted: int
    false: int
    breaks: tuple

    @property
    def passes(self):
        return self.corrected_m <= ALLOWED * self.unharmed_m and not self.false


class Bench:
    """The keyframes of a Sequence with ground truth, encoded. encoder, matcher: made for
    config.device by default.

    without_depth: as if one camera had taken them, with the bundle adjustment over all; errors are
    then after Sim(3) alignment. sessions: the second half is a run of its own, its odometry in
    another frame, that is found in the map of the first by the scene memory.
    """

    def __init__(
        self,
        sequence,
        config,
        progress=lambda fraction: None,
        encoder=None,
        matcher=None,
        without_depth=False,
        sessions=False,
    ):
        self.truth, self.stamps_ns, self.T_odom_cam, self.config = (
            sequence.groundtruth,
            sequence.stamps_ns,
            sequence.T_odom_cam,
            config,
        )
        device = "cpu" if config.device == "auto" else config.device
        encoder, frames = encoder or XFeatEncoder(config.features, device), []
        self.covariances = [None] * len(self.truth)
        for i in range(len(self.truth)):
            keyframe = sequence.keyframes[i]
            seen = replace(keyframe, depth=None) if without_depth else keyframe
            frames.append(replace(encode_frame(seen, encoder), id=i))
            self.covariances[i] = keyframe.odometry_covariance
            progress((i + 1) / len(self.truth))
        matcher = matcher or Matcher(device)
        self.frames, self.places = frames, PlaceIndex.build([frame.features for frame in frames])
        self.runs = (
            np.arange(len(frames)) // (len(frames) - len(frames) // 2)
            if sessions
            else np.zeros(len(frames), np.int64)
        )
        self.localizer = Localizer(config.localizer, encoder, matcher)
        self.verifier = RememberingVerifier(LoopVerifier(config.loops, matcher))
        self.structure = Structure(frames.__getitem__, config, device) if without_depth else None

    def closed(self, T_odom_cam, false_share=0.0, seed=0):
        """Closing of odometry (N, 4, 4); of the first run alone where the second is not found in
        it.
        """
        self.verifier.share, self.verifier.seed = false_share, seed
        T_odom_cam = np.where(self.runs[:, None, None] == 0, T_odom_cam, ELSEWHERE @ T_odom_cam)
        covariances = [
            np.eye(6) * NO_STEP if k and self.runs[k] != self.runs[k - 1] else known
            for k, known in enumerate(self.covariances)
        ]
        poses = StoredPoses(
            np.arange(len(self.truth)), self.stamps_ns, T_odom_cam, covariances, self.runs
        )
        if self.runs.any():
            return self._closed_in_turn(poses)
        if self.structure is None:
            return self._closed(poses, self.frames.__getitem__)
        self.verifier.known.clear()
        frames = self.structure.sparse(poses, lambda done: None)
        return self.structure.bundled(
            poses, self._closed(poses, frames), frames, lambda done: None
        )[1]

    def _closed(self, poses, frames, T_map_cam=None):
        places = replace(self.places, vectors=self.places.vectors[poses.ids])
        return close_loops(
            poses,
            frames,
            None,
            places,
            None,
            None,
            self.config,
            untimed,
            T_map_cam=T_map_cam,
            verifier=self.verifier,
        )

    def _closed_in_turn(self, poses):
        """Closing of two runs, the second of which joins the map of the first."""
        frames, first = self.frames.__getitem__, poses.only(self.runs == 0)
        closing = self._closed(first, frames)
        memory = folded(
            map(frames, first.ids),
            closing.T_map_cam,
            self.config.memory,
            self.localizer.encoder.device,
        )
        snapshot = Snapshot(
            1,
            first.ids,
            first.stamps_ns,
            closing.T_map_cam,
            first.T_odom_cam,
            closing.covariances,
            (),
            empty_map(),
        )
        scene = Scene(snapshot, memory, None, None)
        poses, T_map_cam, _ = in_one_frame(
            poses, snapshot, [], lambda id: self.localizer.coarse(scene, frames(id)), lambda: None
        )
        return self._closed(poses, frames, T_map_cam)

    def rows(self, faults, seeds, false_shares):
        """Yield a Row for every fault (name of FAULTS), seed and share of false loops."""
        unharmed = {}
        for fault in faults:
            for seed in seeds:
                odometry = faulty(self.T_odom_cam, fault, seed)
                for share in false_shares:
                    if (seed, share) not in unharmed:
                        unharmed[seed, share] = self._error(
                            self.closed(self.T_odom_cam, share, seed).T_map_cam
                        )
                    closing = self.closed(odometry, share, seed)
                    accepted = [loop for loop in closing.loops if loop.accepted]
                    yield Row(
                        fault,
                        seed,
                        share,
                        self._error(odometry),
                        unharmed[seed, share],
                        self._error(closing.T_map_cam),
                        len(accepted),
                        sum(map(self._is_false, accepted)),
                        tuple(map(str, told(closing.report))),
                    )

    def _error(self, T_map_cam):
        if len(T_map_cam) < len(self.truth):
            return float("inf")  # of what is not in the map
        return trajectory_error(
            T_map_cam, self.truth, self.stamps_ns, correct_scale=self.structure is not None
        ).ate_m

    def _is_false(self, loop):
        true = se3.inverse(self.truth[loop.source_id]) @ self.truth[loop.target_id]
        off = se3.inverse(true) @ loop.T_source_target
        return bool(np.linalg.norm(off[:3, 3]) > FALSE_M or se3.rotation_angle(off) > FALSE_RAD)


@contextmanager
def untimed(name):
    """A stage of close_loops that nobody watches."""
    yield lambda fraction: None
