"""The scene memory through a map's refinements: new keyframes are folded in, the others' slots
move with them, idle time betters it.
"""

import logging
from dataclasses import replace

import numpy as np
import torch
from scipy.spatial import cKDTree

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.local_frame import origin_near, shifted
from vggt3_ros.geometry.overlap import near_pose
from vggt3_ros.memory.distillation import trained
from vggt3_ros.memory.folding import Folding, empty
from vggt3_ros.memory.pairs import pairs_of
from vggt3_ros.memory.recall import first_look, recall, to_ask
from vggt3_ros.memory.scene_memory import SceneMemory
from vggt3_ros.store.snapshot import MEMORY_FILE, OLD_MEMORIES

_log = logging.getLogger(__name__)
# keyframes that moved against those around them by more are folded in anew: slots are shared with
# those
STRAIN_M = 0.02
LEVER_M = 1.5  # a turn moves what a keyframe sees this far away
AROUND = 4  # keyframes that a keyframe is compared with
REFOLDED = 64  # at most in one refinement, the worst first; the others wait for the next
EVERY = 12  # of so many keyframes one is held out, where it shows what is known already
LEAST_GAIN = 0.01  # more keypoints recognised, as a share, for idle time to have gained something
TEACHERS = 48  # keyframes around a place that the optimizer learns from
PUPILS = 16_384  # slots there that it betters
TAUGHT_M = 0.05  # what lies farther from every slot can be taught to none
LEAST_PAIRS = 64
JUDGED = 8  # keyframes held out that are asked what the memory is worth


class MemoryKeeper:
    """frames: FrameSource; config: BackendConfig. Not for several threads at once."""

    def __init__(self, frames, config, device):
        self._frames, self._config, self._localizer, self._device = (
            frames,
            config.memory,
            config.localizer,
            device,
        )
        self._scale = 1.0
        self._settled = set()  # keyframes held out around which idle time gained nothing

    def configure(self, config, scale):
        """Use another MemoryConfig, in a scene `scale` times as large as a room."""
        self._config, self._scale = config, scale

    def load(self, folder, snapshot):
        """The SceneMemory saved in a snapshot's folder, placed where its keyframes are, or None;
        ValueError when it is damaged.

        A map of an older version, whose memories were MLPs, gets one of its keyframes as they are;
        the next refinement writes it.
        """
        if not (folder / MEMORY_FILE).exists():
            if not any((folder / name).exists() for name in OLD_MEMORIES):
                return None
            _log.info(
                "%s was written by an older version: its scene memory is made anew from %d keyframes",
                folder,
                len(snapshot),
            )
            return self.kept(
                None, snapshot.keyframe_ids.tolist(), snapshot.T_map_cam, lambda fraction: None
            )
        memory = SceneMemory.load(folder / MEMORY_FILE, self._device)
        strange = set(memory.keyframe_ids.tolist()) - set(snapshot.keyframe_ids.tolist())
        if strange:
            raise ValueError(
                f"{folder / MEMORY_FILE} is not a readable scene memory: it is of other keyframes than its snapshot"
            )
        return memory.placed(_poses(snapshot.keyframe_ids, snapshot.T_map_cam))

    def kept(self, memory, ids, T_map_cam, step):
        """The last SceneMemory (or None) -> that of the keyframes `ids` as they stand now (N, 4,
        4); None where nothing can be remembered. Only keyframes that are new, whose depth changed
        or that moved against their neighbours are read.
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

    def bettered(self, memory, snapshot, step, seconds):
        """Idle `seconds` spent around the place that the optimizer has been at least ->
        SceneMemory, or None when nothing was gained there: keyframes held out are recognised no
        better than before.
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

    def _recognised(self, memory, keyframe_id, pose):
        """How many keypoints of a keyframe agree with the pose that the memory gives it, at a
        first look.
        """
        frame = self._frames(keyframe_id)
        slots = to_ask(memory, frame, None, None, PUPILS, pose, tries=1)[0]
        return first_look(memory, frame, slots, self._localizer).agreeing

    def _trained(self, memory, pose, step, **budget):
        """The memory after an optimizer was at the slots around a pose, on what keyframes around
        it show. It is asked there at a time, too, so that a map's size changes nothing.
        """
        slots = to_ask(memory, None, None, None, PUPILS, pose, tries=1)[0]
        part = memory.only(slots)
        rows = [
            k
            for k in near_pose(memory.T_map_anchor, pose, 2 * TEACHERS, ())
            if not memory.held_out[k]
        ][:TEACHERS]
        keys, points = [], []
        for row in rows:
            step(0.0)
            pairs = pairs_of(self._frames(int(memory.keyframe_ids[row])), self._config.max_depth)
            keys.append(pairs.keys)
            points.append(se3.transform_points(memory.T_map_anchor[row], pairs.points))
        keys, points = np.concatenate(keys), np.concatenate(points)
        # The optimizer has float32: near the place, wherever the map's origin is.
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
            **budget,
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

    def _judged(self, memory, step):
        """With the median distance between where the memory places keyframes held out and where
        they are; infinite without any.

        The newest of them are asked: what steers a refinement is how well the memory knows the
        places where the camera is now.
        """
        errors = []
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
                if found.refined is None
                else np.linalg.norm(found.T_map_cam[:3, 3] - truth[:3, 3])
            )
        return replace(
            memory, validation_error_m=float(np.median(errors)) if errors else float("inf")
        )


def without(memory, ids):
    """A SceneMemory that has never seen these keyframes, but for what they lent to slots of
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


def strained(memory, scale=1.0):
    """Ids of the keyframes, the worst first, that moved against those around them since they were
    folded in. scale: of the scene, see refinement/scene_scale.py.
    """
    lever = LEVER_M * scale
    now, then = memory.T_map_anchor, memory.T_folded
    if len(now) <= AROUND:
        return []
    # A turn of a radian shares as little as a metre and a half of motion.
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
    return memory.keyframe_ids[worst[strain[worst] > STRAIN_M * scale]].tolist()


def _poses(ids, T_map_cam):
    return {int(i): pose for i, pose in zip(ids, T_map_cam)}


def _drawn(keyframe_id):
    """Whether a keyframe may be held out: by its id alone, so that it stays so however the map
    grows.
    """
    return (keyframe_id * 0x9E3779B97F4A7C15 >> 32 & 0xFFFF) % EVERY == 0
