"""Maintain the scene memory over a map's refinements: fold new keyframes in, move slots with their
keyframes, improve it in idle time.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from vggt3_ros.config import BackendConfig, MemoryConfig
from vggt3_ros.features.frame import FrameSource
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.local_frame import origin_near, shifted
from vggt3_ros.geometry.overlap import near_pose
from vggt3_ros.memory.distillation import trained
from vggt3_ros.memory.folding import Folding, empty
from vggt3_ros.memory.pairs import pairs_of
from vggt3_ros.memory.recall import first_look, recall, to_ask
from vggt3_ros.memory.scene_memory import SceneMemory
from vggt3_ros.store.snapshot import MEMORY_FILE, OLD_MEMORIES, Snapshot

_log = logging.getLogger(__name__)
# Keyframes that moved by more relative to their neighbours are folded in again, because they share
# slots with those neighbours.
STRAIN_M = 0.02
LEVER_M = 1.5  # converts a rotation to the motion of points at this distance
AROUND = 4  # neighbours that a keyframe is compared with
REFOLDED = 64  # per refinement at most, the worst first; the others wait for the next one
EVERY = 12  # one keyframe in this many may be held out, if most of its points are known already
LEAST_GAIN = 0.01  # relative increase of recognised keypoints that counts as an improvement
TEACHERS = 48  # keyframes around a place that the optimizer trains on
PUPILS = 16_384  # slots around a place that it optimizes
TAUGHT_M = 0.05  # points farther from every slot are not trained on
LEAST_PAIRS = 64
JUDGED = 8  # held-out keyframes that the memory is validated on


class MemoryKeeper:
    """Loads, updates and improves SceneMemories. Not thread-safe."""

    def __init__(
        self, frames: FrameSource, config: BackendConfig, device: torch.device | str
    ) -> None:
        self._frames, self._config, self._localizer, self._device = (
            frames,
            config.memory,
            config.localizer,
            device,
        )
        self._scale = 1.0
        self._settled: set[int] = set()  # held-out keyframes around which training gained nothing

    def configure(self, config: MemoryConfig, scale: float) -> None:
        """Use another MemoryConfig, in a scene `scale` times as large as a room."""
        self._config, self._scale = config, scale

    def load(self, folder: Path, snapshot: Snapshot) -> SceneMemory | None:
        """Return the SceneMemory saved in a snapshot's folder, moved to the current poses of its
        keyframes.

        Returns None if there is none. Raises ValueError if the file is damaged or belongs to other
        keyframes. For a map of an older version, whose memories were MLPs, it builds a memory from
        the keyframes; the next refinement saves it.
        """
        if not (folder / MEMORY_FILE).exists():
            if not any((folder / name).exists() for name in OLD_MEMORIES):
                return None
            _log.info(
                "%s was written by an older version: rebuilding its scene memory from %d keyframes",
                folder,
                len(snapshot),
            )
            return self.update(
                None, snapshot.keyframe_ids.tolist(), snapshot.T_map_cam, lambda fraction: None
            )
        memory = SceneMemory.load(folder / MEMORY_FILE, self._device)
        unknown = set(memory.keyframe_ids.tolist()) - set(snapshot.keyframe_ids.tolist())
        if unknown:
            raise ValueError(
                f"{folder / MEMORY_FILE} is not a readable scene memory: it belongs to other keyframes than its snapshot"
            )
        return memory.placed(_poses(snapshot.keyframe_ids, snapshot.T_map_cam))

    def update(
        self,
        memory: SceneMemory | None,
        ids: Sequence[int],
        T_map_cam: np.ndarray,
        step: Callable[[float], object],
    ) -> SceneMemory | None:
        """Update the last SceneMemory (or None) to the keyframes `ids` at their current poses
        T_map_cam (N, 4, 4).

        Reads only keyframes that are new, whose depth changed, or that moved relative to their
        neighbours. step(fraction) reports progress. Returns None if no point can be stored.
        """
        pose_of = _poses(ids, T_map_cam)
        memory = empty(self._device) if memory is None else memory
        memory = without(
            memory,
            {
                int(i)
                for i in memory.keyframe_ids
                if int(i) not in pose_of or int(i) in self._frames.renewed
            },
        )
        memory = memory.placed(pose_of)
        memory = without(memory, strained(memory, self._scale))
        held = set(memory.keyframe_ids.tolist())
        new = [i for i in map(int, ids) if i not in held]
        folding = Folding(memory, self._config.max_depth)
        for done, keyframe_id in enumerate(new):
            step(0.9 * done / len(new))
            folding.add(
                self._frames(keyframe_id), pose_of[keyframe_id], may_hold_out=_drawn(keyframe_id)
            )
        memory = folding.memory(self._config.max_slots, self._config.density)
        self._frames.renewed.clear()
        if new:
            self._settled.clear()
        if not len(memory):
            step(1.0)
            return None
        if self._config.steps and new:
            memory = self._trained(
                memory,
                pose_of[new[-1]],
                lambda fraction: step(0.9 * fraction),
                steps=self._config.steps,
            )
        memory = self._judged(memory, step)
        step(1.0)
        return memory

    def improve(
        self,
        memory: SceneMemory,
        snapshot: Snapshot,
        step: Callable[[float], object],
        seconds: float,
    ) -> SceneMemory | None:
        """Train for idle `seconds` around the place that was trained least.

        Returns None if that gained nothing: held-out keyframes there are recognised no better than
        before.
        """
        judges = [
            k
            for k in np.flatnonzero(memory.held_out).tolist()
            if int(memory.keyframe_ids[k]) not in self._settled
        ]
        if not judges:
            return None
        judge = judges[len(self._settled) % len(judges)]
        keyframe_id, pose = int(memory.keyframe_ids[judge]), memory.T_map_anchor[judge]
        better = self._trained(memory, pose, step, seconds=seconds)
        before, after = (
            self._recognised(candidate, keyframe_id, pose) for candidate in (memory, better)
        )
        if after <= before * (1 + LEAST_GAIN):
            self._settled.add(keyframe_id)
            return None
        return self._judged(better, step)

    def _recognised(self, memory: SceneMemory, keyframe_id: int, pose: np.ndarray) -> int:
        """Return the number of a keyframe's keypoints that agree with the pose found in a first
        look.
        """
        frame = self._frames(keyframe_id)
        slots = to_ask(memory, frame, None, None, PUPILS, pose, tries=1)[0]
        return first_look(memory, frame, slots, self._localizer).agreeing

    def _trained(
        self,
        memory: SceneMemory,
        pose: np.ndarray,
        step: Callable[[float], object],
        steps: int | None = None,
        seconds: float | None = None,
    ) -> SceneMemory:
        """Return the memory after training the slots around a pose on the keyframes around it.

        Training is local so that its cost does not depend on the size of the map.
        """
        slots = to_ask(memory, None, None, None, PUPILS, pose, tries=1)[0]
        part = memory.only(slots)
        rows = [
            k
            for k in near_pose(memory.T_map_anchor, pose, 2 * TEACHERS, ())
            if not memory.held_out[k]
        ][:TEACHERS]
        keys_of, points_of = [], []
        for row in rows:
            step(0.0)
            pairs = pairs_of(self._frames(int(memory.keyframe_ids[row])), self._config.max_depth)
            keys_of.append(pairs.keys)
            points_of.append(se3.transform_points(memory.T_map_anchor[row], pairs.points))
        keys, points = np.concatenate(keys_of), np.concatenate(points_of)
        # The optimizer uses float32: move the origin near the place.
        origin = origin_near(pose[:3, 3])
        part, points = (
            replace(part, T_map_anchor=shifted(part.T_map_anchor, -origin)),
            points - origin,
        )
        near = cKDTree(part.map_points).query(points)[0] < TAUGHT_M
        if near.sum() < LEAST_PAIRS:
            return memory
        part = trained(
            part,
            torch.from_numpy(keys[near]),
            torch.from_numpy(points[near]).float(),
            self._config,
            progress=step,
            generator=torch.Generator().manual_seed(memory.steps),
            steps=steps,
            seconds=seconds,
        )
        all_keys, all_points = memory.keys.clone(), memory.points.copy()
        all_keys[torch.from_numpy(slots)], all_points[slots] = part.keys, part.points
        return replace(
            memory,
            keys=all_keys,
            points=all_points,
            temperature=part.temperature,
            steps=part.steps,
        )

    def _judged(self, memory: SceneMemory, step: Callable[[float], object]) -> SceneMemory:
        """Return the memory with its validation error: the median distance between where it
        localizes held-out keyframes and their poses, metres; infinite without any.

        Uses the newest ones: a refinement depends on how well the memory knows the places where
        the camera is now.
        """
        errors: list[float] = []
        for row in np.flatnonzero(memory.held_out)[-JUDGED:]:
            step(0.9)
            frame, truth = self._frames(int(memory.keyframe_ids[row])), memory.T_map_anchor[row]
            found = recall(
                memory,
                frame,
                to_ask(memory, frame, None, None, self._localizer.slots_asked, truth),
                self._localizer,
            )
            errors.append(
                np.inf
                if found.refined is None or found.T_map_cam is None
                else float(np.linalg.norm(found.T_map_cam[:3, 3] - truth[:3, 3]))
            )
        return replace(
            memory, validation_error_m=float(np.median(errors)) if errors else float("inf")
        )


def without(memory: SceneMemory, ids: Collection[int]) -> SceneMemory:
    """Return the SceneMemory without these keyframes, except for what they contributed to slots of
    others.
    """
    if not ids:
        return memory
    keep = ~np.isin(memory.keyframe_ids, list(ids))
    memory = memory.only(np.flatnonzero(keep[memory.anchors]))
    return replace(
        memory,
        anchors=(np.cumsum(keep) - 1)[memory.anchors].astype(np.int32),
        keyframe_ids=memory.keyframe_ids[keep],
        T_map_anchor=memory.T_map_anchor[keep],
        T_folded=memory.T_folded[keep],
        held_out=memory.held_out[keep],
    )


def strained(memory: SceneMemory, scale: float = 1.0) -> list[int]:
    """Return the ids of the keyframes that moved relative to their neighbours since they were
    folded in, the worst first. scale: of the scene, see refinement/scene_scale.py.
    """
    lever = LEVER_M * scale
    now, then = memory.T_map_anchor, memory.T_folded
    if len(now) <= AROUND:
        return []
    # Weight rotation by the lever, as in the strain below: in a room a radian counts like 1.5 m.
    where = np.concatenate([then[:, :3, 3], lever * then[:, :3, 2]], axis=1)
    around = cKDTree(where).query(where, AROUND + 1)[1][:, 1:]
    apart = (
        se3.inverse(se3.inverse(then[:, None]) @ then[around])
        @ se3.inverse(now[:, None])
        @ now[around]
    )
    strain = np.median(
        np.linalg.norm(apart[..., :3, 3], axis=2) + lever * se3.rotation_angle(apart), axis=1
    )
    worst = np.argsort(-strain)[:REFOLDED]
    ids: list[int] = memory.keyframe_ids[worst[strain[worst] > STRAIN_M * scale]].tolist()
    return ids


def _poses(ids: Iterable[int], T_map_cam: np.ndarray) -> dict[int, np.ndarray]:
    return {int(i): pose for i, pose in zip(ids, T_map_cam)}


def _drawn(keyframe_id: int) -> bool:
    """Return whether a keyframe may be held out.

    Depends on its id alone, so that the answer does not change as the map grows.
    """
    return (keyframe_id * 0x9E3779B97F4A7C15 >> 32 & 0xFFFF) % EVERY == 0
