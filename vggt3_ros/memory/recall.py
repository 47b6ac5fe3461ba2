"""Ask a scene memory where an image was taken. A first look matches all slots; a second look
matches those that should be visible from the first pose.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from vggt3_ros.config import LocalizerConfig
from vggt3_ros.features.frame import Frame
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.overlap import near_pose
from vggt3_ros.memory.appearance import agreement, memory_similarity
from vggt3_ros.memory.folding import NEAREST_M, mutual
from vggt3_ros.memory.pairs import unit
from vggt3_ros.memory.pose_refinement import RefinedPose, ransac, refine
from vggt3_ros.memory.scene_memory import SceneMemory
from vggt3_ros.store.snapshot import Snapshot

CHUNK = 1024  # slots compared at a time, so that their similarities fit the cache
GROUP = 64
LEAST = 8  # agreeing keypoints that justify a second look
SAME_NUMBER = 1e-5  # tolerance for sums of the same products in another order
EXPECTED = 4096  # most slots matched in the wider search, those observed most often
RIVALS = 8  # nearby keypoints that a slot is compared with
# minimum cosine similarity between a keypoint and its slot, in both looks
ALIKE = 0.7
# (search radius, inlier threshold) around a slot's projection, px
SECOND_LOOKS = ((16.0, 6.0), (6.0, 4.0))
# Slots of keyframes farther from a pose are ignored: this distance, or in scenes larger than rooms this
# multiple of the depth of the farthest slot.
REACH_M, REACH = 15.0, 2.5
# cosine: a slot observed from a direction farther than this from the camera's looks different
HALF_VIEW = 0.5
SHARED = 0.1  # least share of a keyframe's expected slots that must agree for the others to count
# a slot this many times farther than the nearest in its part of the image is occluded
OCCLUSION_PX, OCCLUSION = 24, 1.25
VOTERS = 12  # keyframes most similar to an image
# A memory of at most this many batches is asked in the order of how often its slots were observed.
FEW = 4
TRIES = 6  # most batches of slots asked; an image of another place costs all of them


@dataclass(frozen=True, eq=False)
class Recall:
    """The scene memory's answer. T_map_cam (4, 4) or None; `agreeing` of the `tried` matches with
    slots. From the second look, else None: refined, a RefinedPose, and the slots that agree with
    it.
    """

    T_map_cam: np.ndarray | None
    agreeing: int
    tried: int
    refined: RefinedPose | None = None
    slots: np.ndarray | None = None


def recall(
    memory: SceneMemory, query: Frame, order: Iterable[np.ndarray], config: LocalizerConfig
) -> Recall:
    """Localize a Frame. order: arrays of slots, asked one after the other until one of them
    answers.
    """
    best = Recall(None, 0, 0)
    for slots in order:
        found = first_look(memory, query, slots, config)
        if found.T_map_cam is not None and found.agreeing >= LEAST:
            found = second_look(memory, query, found.T_map_cam, config) or found
        best = found if best.T_map_cam is None or found.agreeing > best.agreeing else best
        if best.refined is not None and best.agreeing >= config.settled:
            break
    return best


def first_look(
    memory: SceneMemory, query: Frame, slots: np.ndarray, config: LocalizerConfig
) -> Recall:
    """Match a Frame's best keypoints with `slots` (indices). Returns a Recall without a refined
    pose.
    """
    keys = torch.from_numpy(unit(query.features.descriptors[: config.keypoints]))
    match, slot = _best_of_both(memory, keys, slots)
    pixels = query.features.keypoints[match].astype(float)
    T_map_cam, agree = ransac(
        pixels, memory.map_points[slot], query.camera, config.coarse_threshold
    )
    return Recall(T_map_cam if agree.any() else None, int(agree.sum()), len(match))


@torch.inference_mode()
def _best_of_both(
    memory: SceneMemory, keys: torch.Tensor, slots: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the keypoints and slots that are mutual nearest neighbours, as two arrays. keys (K,
    64): tensor of unit length.

    Maxima without their positions are several times faster. So the group of slots that holds a
    row's maximum is found first, then the slot in it. If the row's maximum is also the slot's,
    they are mutual nearest neighbours.
    """
    device = memory.keys.device
    if not len(slots) or not len(keys):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    index, keys = torch.from_numpy(slots).to(device), keys.to(device)
    index = torch.cat([index, index[-1:].expand(-len(index) % GROUP)])
    group_maxima, slot_maxima = [], []
    for chunk in index.split(CHUNK if device.type == "cpu" else len(index)):
        similarity = keys @ memory.keys[chunk].float().T
        group_maxima.append(similarity.view(len(keys), -1, GROUP).amax(2))
        slot_maxima.append(similarity.amax(0))
    of_slot, groups = torch.cat(slot_maxima).view(-1, GROUP), torch.cat(group_maxima, 1).argmax(1)
    of_row = torch.bmm(memory.keys[index.view(-1, GROUP)[groups]].float(), keys[:, :, None])[
        ..., 0
    ]
    best, within = of_row.max(1)
    keep = (best > ALIKE) & (best > of_slot[groups, within] - SAME_NUMBER)
    return torch.nonzero(keep)[:, 0].cpu().numpy(), index.view(-1, GROUP)[groups, within][
        keep
    ].cpu().numpy()


def second_look(
    memory: SceneMemory, query: Frame, T_map_cam: np.ndarray, config: LocalizerConfig
) -> Recall | None:
    """Match the slots that should be visible from a pose near the truth.

    Returns None if too few of them agree on a pose.
    """
    pixels = query.features.keypoints.astype(float)
    keys = unit(query.features.descriptors)
    if not len(pixels):
        return None
    tree = cKDTree(pixels)
    for radius, threshold in SECOND_LOOKS:
        slots, expected = expected_slots(memory, query.camera, T_map_cam, radius)
        # The last search keeps all slots, for accuracy: 0.9 cm instead of 1.2 cm (kitchen).
        if radius > SECOND_LOOKS[-1][0] and len(slots) > EXPECTED:
            most = np.argpartition(-memory.observed[slots], EXPECTED)[:EXPECTED]
            slots, expected = slots[most], expected[most]
        if not len(slots):
            return None
        near = tree.query(expected, RIVALS, distance_upper_bound=radius)[1]
        which, rank = np.nonzero(near < len(pixels))
        keypoint = near[which, rank]
        kept = memory.keys[torch.from_numpy(slots)].float().cpu().numpy()
        alike = np.einsum("nc,nc->n", kept[which], keys[keypoint])
        keypoint, which = mutual(
            keypoint[alike > ALIKE], which[alike > ALIKE], alike[alike > ALIKE]
        )
        slot, tried = slots[which], len(which)
        found, agree = ransac(pixels[keypoint], memory.map_points[slot], query.camera, threshold)
        if agree.sum() < config.minimum_inliers:
            return None
        T_map_cam, keypoint, slot = found, keypoint[agree], slot[agree]
    refined = refine(
        se3.inverse(T_map_cam),
        query.camera,
        pixels[keypoint],
        memory.map_points[slot],
        memory.spread[slot],
        threshold,
        memory.anchors[slot],
    )
    T_map_cam = se3.inverse(refined.T_cam_map)
    return Recall(T_map_cam, int(refined.inliers.sum()), tried, refined, slot[refined.inliers])


def expected_slots(
    memory: SceneMemory, camera: Camera, T_map_cam: np.ndarray, margin: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the slots that a camera at T_map_cam should see, and their pixels (N, 2).

    Leaves out slots that are occluded by others or were only observed from another side. margin:
    pixels around the image.
    """
    reach = max(REACH_M, REACH * memory.points[:, 2].max(initial=0.0))
    near = np.linalg.norm(memory.T_map_anchor[:, :3, 3] - T_map_cam[:3, 3], axis=1) < reach
    near &= memory.T_map_anchor[:, :3, 2] @ T_map_cam[:3, 2] > HALF_VIEW - 0.5
    slots = np.flatnonzero(near[memory.anchors])
    T_cam_map = se3.inverse(T_map_cam)
    points = se3.transform_points(T_cam_map, memory.map_points[slots])
    ahead = points[:, 2] > NEAREST_M
    slots, points = slots[ahead], points[ahead]
    pixels = camera.project(points)
    inside = ((pixels > -margin) & (pixels < (camera.width + margin, camera.height + margin))).all(
        1
    )
    slots, points, pixels = slots[inside], points[inside], pixels[inside]
    rays = memory.map_points[slots] - T_map_cam[:3, 3]
    then = memory.map_points[slots] - memory.T_map_anchor[memory.anchors[slots], :3, 3]
    side = np.einsum("ni,ni->n", rays, then) > HALF_VIEW * np.linalg.norm(
        rays, axis=1
    ) * np.linalg.norm(then, axis=1)
    columns = camera.width // OCCLUSION_PX + 3
    cell = (np.clip(pixels // OCCLUSION_PX, -1, None).astype(int) + 1) @ (1, columns)
    nearest = np.full(max(cell.max(initial=0) + 1, 1), np.inf)
    np.minimum.at(nearest, cell, points[:, 2])
    seen = side & (points[:, 2] < OCCLUSION * nearest[cell])
    return slots[seen], pixels[seen]


def resemblance(memory: SceneMemory, query: Frame, found: Recall) -> tuple[float, float]:
    """Return (median similarity, share of the image for which the memory predicts anything) for a
    Frame and its Recall.

    Compares the whole image, not only the keypoints that agreed on the pose. Ignores slots of
    keyframes of which almost none agreed: a wall of which the memory knows little may stand
    between.
    """
    if found.T_map_cam is None or found.slots is None:
        return 0.0, 0.0
    slots, pixels = expected_slots(memory, query.camera, found.T_map_cam)
    agreed, expected = (
        np.bincount(memory.anchors[s], minlength=len(memory.keyframe_ids))
        for s in (found.slots, slots)
    )
    sharing = (agreed >= SHARED * expected)[memory.anchors[slots]]
    slots, pixels = slots[sharing], pixels[sharing]
    keys = memory.keys[torch.from_numpy(slots)].float().cpu().numpy()
    return agreement(memory_similarity(query, pixels, keys))


def to_ask(
    memory: SceneMemory,
    query: Frame | None,
    places: PlaceIndex | None,
    snapshot: Snapshot | None,
    most: int,
    hint: np.ndarray | None = None,
    tries: int = TRIES,
) -> list[np.ndarray]:
    """Return arrays of slots to ask, at most `most` each, the likeliest first.

    Likeliest are the slots observed most often; in large maps those of keyframes near the hint
    (T_map_cam) or near keyframes that look like the image. places: PlaceIndex of the snapshot's
    keyframes, or None.
    """
    if len(memory) <= FEW * most or (places is None and hint is None):
        order = np.argsort(-memory.observed, kind="stable")
        return [order[k : k + most] for k in range(0, len(order), most)][:tries]
    row = {int(i): k for k, i in enumerate(memory.keyframe_ids)}
    starts = [hint] if hint is not None else []
    if places is not None and query is not None and snapshot is not None:
        starts += [snapshot.T_map_cam[index] for index, _ in places.ranked(query.features, VOTERS)]
    of_anchor = np.bincount(memory.anchors, minlength=len(row))
    ranks = np.full(len(row), np.inf)
    for start, pose in enumerate(starts):
        for rank, k in enumerate(near_pose(memory.T_map_anchor, pose, len(row), ())[: VOTERS * 4]):
            ranks[k] = min(ranks[k], rank + 2 * start)
    order = np.argsort(ranks, kind="stable")
    order = order[np.isfinite(ranks[order])]
    batch = np.full(len(row), -1)
    batch[order] = (np.cumsum(of_anchor[order]) - 1) // most
    return [
        np.flatnonzero(batch[memory.anchors] == k)
        for k in range(tries)
        if (batch[memory.anchors] == k).any()
    ]
