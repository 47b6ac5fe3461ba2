"""Fold keyframes into slots one at a time: average repeated observations of a slot, create slots
for new points.

This is the closed form of the distillation. It needs no optimizer, takes milliseconds per
keyframe, and never reads a folded keyframe again.
"""

from collections.abc import Iterable

import numpy as np
import torch
from scipy.spatial import cKDTree

from vggt3_ros.config import MemoryConfig
from vggt3_ros.features.frame import Frame
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.memory.pairs import CHANNELS, Pairs, pairs_of
from vggt3_ros.memory.scene_memory import SceneMemory

# A point and a slot are the same if the slot projects this close to the point,
SAME_PX = 4.0
# at the same depth (relative; covers errors of registration and of depth sensors at edges),
SAME_DEPTH = 0.04
SAME_KEY = 0.85  # and with a similar key (cosine).
# A point whose key is this similar to a nearby slot creates no new slot, even if that slot is
# assigned to another point of the image.
KNOWN_KEY = 0.95
NEAREST_M = 0.1
RIVALS = 8  # nearby slots that a point is compared with
POINT_SIGMA = 0.005  # metres, for a point observed once
EDGE_M = 0.25  # edge of the cells in which the slot density is limited
DECIDED = 0.5  # share of a keyframe's points that must be known already for it to be held out


def empty(device: torch.device | str) -> SceneMemory:
    """Return a memory without slots and keyframes."""
    none = np.zeros(0, np.float32)
    return SceneMemory(
        torch.zeros((0, CHANNELS), dtype=torch.float16, device=device),
        np.zeros((0, 3), np.float32),
        np.zeros(0, np.int32),
        none,
        none,
        np.zeros(0, np.int64),
        np.zeros((0, 4, 4)),
        np.zeros((0, 4, 4)),
        np.zeros(0, bool),
        torch.zeros(CHANNELS, device=device),
    )


def folded(
    frames: Iterable[Frame],
    poses: Iterable[np.ndarray],
    config: MemoryConfig,
    device: torch.device | str = "cpu",
) -> SceneMemory:
    """Fold frames at their T_map_cam (N, 4, 4) into one new SceneMemory."""
    folding = Folding(empty(device), config.max_depth)
    for frame, pose in zip(frames, poses):
        folding.add(frame, pose)
    return folding.memory(config.max_slots, config.density)


class Folding:
    """Adds keyframes to a copy of a SceneMemory. max_depth: metres; points farther away are not
    stored.
    """

    def __init__(self, memory: SceneMemory, max_depth: float) -> None:
        self._memory, self._max_depth = memory, max_depth
        self._keys, self._points = _Rows(memory.keys.float().cpu().numpy()), _Rows(memory.points)
        self._map_points, self._anchors = _Rows(memory.map_points), _Rows(memory.anchors)
        self._observed, self._spread = _Rows(memory.observed), _Rows(memory.spread)
        self._ids, self._poses = memory.keyframe_ids.tolist(), list(memory.T_map_anchor)
        self._folded, self._held_out = list(memory.T_folded), memory.held_out.tolist()

    def add(self, frame: Frame, T_map_cam: np.ndarray, may_hold_out: bool = False) -> None:
        """Fold one keyframe in.

        may_hold_out: hold the keyframe out permanently if most of its points are known already.
        """
        pairs = pairs_of(frame, self._max_depth)
        row = len(self._ids)
        self._ids.append(frame.id)
        self._folded.append(self._beside(T_map_cam))
        self._poses.append(T_map_cam)
        seen, slots, known = self.association(pairs, frame.camera, T_map_cam)
        self._held_out.append(
            bool(may_hold_out and len(pairs) and known.sum() >= DECIDED * len(pairs))
        )
        if self._held_out[-1]:
            return
        self._average(pairs, seen, slots)
        new = ~known
        self._keys.extend(pairs.keys[new])
        self._points.extend(pairs.points[new])
        self._map_points.extend(se3.transform_points(T_map_cam, pairs.points[new]))
        self._anchors.extend(np.full(new.sum(), row, np.int32))
        self._observed.extend(np.ones(new.sum(), np.float32))
        self._spread.extend(np.full(new.sum(), POINT_SIGMA, np.float32))

    def memory(self, most: int, density: int) -> SceneMemory:
        """Return the SceneMemory of at most `most` slots, and at most `density` per cell of 0.25
        m. Keeps the slots observed most often.
        """
        whole = self._memory
        rows = {
            "points": self._points,
            "anchors": self._anchors,
            "observed": self._observed,
            "spread": self._spread,
        }
        keep = densest(self._map_points.all(), self._observed.all(), most, density)
        return SceneMemory(
            torch.from_numpy(self._keys.all()[keep]).half().to(whole.keys.device),
            **{name: held.all()[keep] for name, held in rows.items()},
            keyframe_ids=np.array(self._ids, np.int64),
            T_map_anchor=np.array(self._poses).reshape(-1, 4, 4),
            T_folded=np.array(self._folded).reshape(-1, 4, 4),
            held_out=np.array(self._held_out, bool),
            centre=whole.centre,
            temperature=whole.temperature,
            validation_error_m=whole.validation_error_m,
            steps=whole.steps,
        )

    def _beside(self, T_map_cam: np.ndarray) -> np.ndarray:
        """Return a keyframe's pose in the frame in which all keyframes were folded in.

        The pose relative to the nearest keyframe is the current one. Thus deformations of the map
        accumulate over several refinements.
        """
        if not self._poses:
            return T_map_cam
        nearest = int(
            np.argmin(np.linalg.norm(np.array(self._poses)[:, :3, 3] - T_map_cam[:3, 3], axis=1))
        )
        return se3.orthonormalize(
            self._folded[nearest] @ se3.inverse(self._poses[nearest]) @ T_map_cam
        )

    def association(
        self, pairs: Pairs, camera: Camera, T_map_cam: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Assign pairs to slots, one to one.

        Returns (indices of pairs, indices of their slots, mask of the pairs that match any slot).
        """
        known = np.zeros(len(pairs), bool)
        none = np.zeros(0, np.int64)
        T_cam_map, points = se3.inverse(T_map_cam), self._map_points.all()
        depth = points @ T_cam_map[2, :3] + T_cam_map[2, 3]
        ahead = np.flatnonzero((depth > NEAREST_M) & (depth < self._max_depth * (1 + SAME_DEPTH)))
        expected = camera.project(se3.transform_points(T_cam_map, points[ahead]))
        inside = (
            (expected > -SAME_PX) & (expected < (camera.width + SAME_PX, camera.height + SAME_PX))
        ).all(1)
        ahead, expected = ahead[inside], expected[inside]
        if not len(ahead) or not len(pairs):
            return none, none, known
        _, rivals = cKDTree(expected).query(pairs.pixels, RIVALS, distance_upper_bound=SAME_PX)
        pair, rank = np.nonzero(rivals < len(ahead))
        slot = ahead[rivals[pair, rank]]
        same = np.abs(depth[slot] - pairs.points[pair, 2]) < SAME_DEPTH * pairs.points[pair, 2]
        pair, slot = pair[same], slot[same]
        alike = np.einsum("nc,nc->n", pairs.keys[pair], self._keys.all()[slot])
        known[pair[alike > KNOWN_KEY]] = True
        likely = alike > SAME_KEY
        first, second = mutual(pair[likely], slot[likely], alike[likely])
        known[first] = True
        return first, second, known

    def _average(self, pairs: Pairs, seen: np.ndarray, slots: np.ndarray) -> None:
        """Update the running means of keys and points, and the spread of the points."""
        count = self._observed.all()[slots][:, None]
        keys = self._keys.all()[slots] * count + pairs.keys[seen]
        self._keys.all()[slots] = keys / np.maximum(
            np.linalg.norm(keys, axis=1, keepdims=True), 1e-6
        )
        poses = np.array(self._poses)
        here = se3.transform_points(poses[-1], pairs.points[seen])
        T_anchor_map = se3.inverse(poses)[self._anchors.all()[slots]]
        step = (
            np.einsum("sij,sj->si", T_anchor_map[:, :3, :3], here)
            + T_anchor_map[:, :3, 3]
            - self._points.all()[slots]
        )
        self._points.all()[slots] += (step / (count + 1)).astype(np.float32)
        self._map_points.all()[slots] += (here - self._map_points.all()[slots]) / (count + 1)
        variance = (
            np.square(self._spread.all()[slots]) * count[:, 0]
            + (step**2).sum(1) * count[:, 0] / (count[:, 0] + 1)
        ) / (count[:, 0] + 1)
        self._spread.all()[slots] = np.sqrt(variance)
        self._observed.all()[slots] += 1


def mutual(
    first: np.ndarray, second: np.ndarray, score: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return those of the candidate pairs of indices (N,) whose score is the best of both, as two
    arrays.
    """
    best = _best_of(first, score) & _best_of(second, score)
    return first[best], second[best]


def _best_of(group: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return a mask of the highest score in each group, exactly one per group."""
    order = np.lexsort((-score, group))
    mask = np.zeros(len(group), bool)
    mask[order[np.unique(group[order], return_index=True)[1]]] = True
    return mask


def densest(points: np.ndarray, observed: np.ndarray, most: int, density: int) -> np.ndarray:
    """Return the indices of the points (S, 3) to keep: at most `most` in total and `density` per
    cell, those with the most observations (S,).
    """
    cells = np.floor(points / EDGE_M).astype(np.int64)
    order = np.lexsort((-observed, *cells.T))
    begins = np.ones(len(order), bool)
    begins[1:] = (cells[order[1:]] != cells[order[:-1]]).any(1)
    rank = np.arange(len(order)) - np.maximum.accumulate(
        np.where(begins, np.arange(len(order)), 0)
    )
    keep = np.sort(order[rank < density])
    if len(keep) > most:
        keep = np.sort(keep[np.argsort(-observed[keep], kind="stable")[:most]])
    return keep


class _Rows:
    """An array that grows at its end in amortized constant time."""

    def __init__(self, first: np.ndarray) -> None:
        self._array, self._count = first.copy(), len(first)

    def all(self) -> np.ndarray:
        return self._array[: self._count]

    def extend(self, rows: np.ndarray) -> None:
        end = self._count + len(rows)
        if end > len(self._array):
            grown = np.empty(
                (max(end, 2 * len(self._array)), *self._array.shape[1:]), self._array.dtype
            )
            grown[: self._count] = self.all()
            self._array = grown
        self._array[self._count : end] = rows
        self._count = end
