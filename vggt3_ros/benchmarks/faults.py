"""Measure how well loop closing repairs faults of a front end: inject odometry faults and false
loops, and score the result.

Features and verified loops are computed once per data set. A fault changes the odometry, and
thereby which pairs are tried, so that each further run takes seconds. Only poses are estimated: no
map is fused, and a memory is distilled only where a second session must be located in it. Without
depth, loops depend on the depth estimated from the faulty odometry, so that each run verifies its
own.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Items
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from vggt3_ros.config import BackendConfig
from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.features.frame import Frame, encode_frame
from vggt3_ros.features.matching import Matcher
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.features.xfeat import XFeatEncoder
from vggt3_ros.geometry import se3
from vggt3_ros.memory.folding import folded
from vggt3_ros.memory.localizer import Localizer
from vggt3_ros.memory.scenes import Scene
from vggt3_ros.refinement.closing import Closing, close_loops
from vggt3_ros.refinement.loops import LoopVerifier
from vggt3_ros.refinement.monocular.structure import Structure
from vggt3_ros.refinement.odometry_breaks import told
from vggt3_ros.refinement.sessions import in_one_frame
from vggt3_ros.store.keyframes import NO_STEP
from vggt3_ros.store.snapshot import Loop, Snapshot
from vggt3_ros.store.stored_poses import StoredPoses
from vggt3_ros.surface.fusion import empty_map

# Odometry frame of the second session.
ELSEWHERE = se3.exp([4.0, -1.0, 0.5, 0.1, -0.2, 2.0])
ALLOWED = 1.3  # allowed error relative to the error without the fault
# fault(steps (N, 4, 4), index, rng) modifies the steps of an odometry in place
Fault: TypeAlias = Callable[[np.ndarray, int, np.random.Generator], None]
FALSE_M, FALSE_RAD = 0.3, 0.2  # an accepted loop farther from the truth counts as false
SCALED = 10  # steps with a wrong scale


def frozen(count: int) -> Fault:
    """Return a fault: the front end repeats the same pose for `count` keyframes, then continues
    from there.
    """

    def fault(steps: np.ndarray, at: int, rng: np.random.Generator) -> None:
        steps[at : at + count] = np.eye(4)

    return fault


def jumped(metres: float, degrees: float) -> Fault:
    """Return a fault: one step is wrong by this translation and rotation, in a random direction."""

    def fault(steps: np.ndarray, at: int, rng: np.random.Generator) -> None:
        off = rng.standard_normal((2, 3))
        off *= np.array([[metres], [np.radians(degrees)]]) / np.linalg.norm(
            off, axis=1, keepdims=True
        )
        steps[at] = steps[at] @ se3.exp(off.ravel())

    return fault


def scaled(by: float) -> Fault:
    """Return a fault: ten steps are scaled by a factor."""

    def fault(steps: np.ndarray, at: int, rng: np.random.Generator) -> None:
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


def faulty(T_odom_cam: np.ndarray, name: str, seed: int) -> np.ndarray:
    """Return odometry (N, 4, 4), N >= 28, with a fault of FAULTS.

    If there are two faults, one lies in each half; a single one lies in the half selected by the
    seed.
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
    """A LoopVerifier that verifies each pair only once.

    share: fraction of the accepted loops that are made false, deterministically for a seed.
    """

    def __init__(self, verifier: LoopVerifier) -> None:
        self.verifier, self.share, self.seed = verifier, 0.0, 0
        # ((source id, target id), thorough) -> its Loop
        self.known: dict[tuple[tuple[int, int], bool], Loop] = {}

    def verify_all(
        self,
        pairs: Items[tuple[str, int, int, bool]],
        frames: Callable[[int], Frame],
        step: Callable[[int], object],
    ) -> list[Loop]:
        """Verify pairs of (origin, source id, target id, thorough), as LoopVerifier does."""
        loops: list[Loop] = []
        for origin, source, target, thorough in pairs:
            step(len(loops))
            loops.append(self._verified(origin, frames(source), frames(target), thorough))
        step(len(pairs))
        return loops

    def _verified(self, origin: str, source: Frame, target: Frame, thorough: bool) -> Loop:
        key = source.id, target.id
        for way in ((key, False), (key, True))[: 1 + thorough]:
            if way not in self.known:
                self.known[way] = self.verifier.verify(origin, source, target, way[1])
            loop = self.known[way]
            if loop.accepted:
                return self._maybe_false(replace(loop, origin=origin))
        return replace(loop, origin=origin)

    def _maybe_false(self, loop: Loop) -> Loop:
        digest = hashlib.sha256(f"{loop.source_id} {loop.target_id} {self.seed}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        if rng.random() >= self.share:
            return loop
        wrong = np.concatenate([rng.uniform(-3, 3, 3), rng.uniform(-1.5, 1.5, 3)])
        return replace(loop, T_source_target=loop.T_source_target @ se3.exp(wrong))


@dataclass(frozen=True)
class Row:
    """The result of one run. odometry_m, corrected_m: error (ATE); unharmed_m: the error without
    the fault but with the same false loops; accepted: number of loops in the graph; false: how
    many of them are wrong; breaks: reported odometry breaks.
    """

    fault: str
    seed: int
    false_share: float
    odometry_m: float
    unharmed_m: float
    corrected_m: float
    accepted: int
    false: int
    breaks: tuple[str, ...]

    @property
    def passes(self) -> bool:
        """Whether the error is within ALLOWED and no false loop was accepted."""
        return self.corrected_m <= ALLOWED * self.unharmed_m and not self.false


class Bench:
    """The encoded keyframes of a Sequence with ground truth. encoder, matcher: created for
    config.device by default.

    without_depth: ignore depth and estimate structure by bundle adjustment; errors are then
    computed after Sim(3) alignment. sessions: the second half is a session of its own with another
    odometry frame; the scene memory must locate it in the map of the first.
    """

    def __init__(
        self,
        sequence: Sequence,
        config: BackendConfig,
        progress: Callable[[float], object] = lambda fraction: None,
        encoder: XFeatEncoder | None = None,
        matcher: Matcher | None = None,
        without_depth: bool = False,
        sessions: bool = False,
    ) -> None:
        assert sequence.groundtruth is not None
        self.truth, self.stamps_ns = sequence.groundtruth, sequence.stamps_ns
        self.T_odom_cam, self.config = sequence.T_odom_cam, config
        device = "cpu" if config.device == "auto" else config.device
        encoder = encoder or XFeatEncoder(config.features, device)
        frames: list[Frame] = []
        self.covariances: list[np.ndarray | None] = [None] * len(self.truth)
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

    def closed(self, T_odom_cam: np.ndarray, false_share: float = 0.0, seed: int = 0) -> Closing:
        """Close the loops of odometry (N, 4, 4). Returns the closing of the first session alone if
        the second cannot be located in it.
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

    def _closed(
        self,
        poses: StoredPoses,
        frames: Callable[[int], Frame],
        T_map_cam: np.ndarray | None = None,
    ) -> Closing:
        """Close the loops of `poses` with the known features and places."""
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

    def _closed_in_turn(self, poses: StoredPoses) -> Closing:
        """Close the loops of the first session, then of both, with the second placed in the map of
        the first.
        """
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

    def rows(
        self, faults: Iterable[str], seeds: Items[int], false_shares: Items[float]
    ) -> Iterator[Row]:
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

    def _error(self, T_map_cam: np.ndarray) -> float:
        if len(T_map_cam) < len(self.truth):
            return float("inf")  # some keyframes are not in the map
        return trajectory_error(
            T_map_cam, self.truth, self.stamps_ns, correct_scale=self.structure is not None
        ).ate_m

    def _is_false(self, loop: Loop) -> bool:
        true = se3.inverse(self.truth[loop.source_id]) @ self.truth[loop.target_id]
        off = se3.inverse(true) @ loop.T_source_target
        return bool(np.linalg.norm(off[:3, 3]) > FALSE_M or se3.rotation_angle(off) > FALSE_RAD)


@contextmanager
def untimed(name: str) -> Iterator[Callable[[float], None]]:
    """A stage of close_loops whose progress is not reported."""
    yield lambda fraction: None
