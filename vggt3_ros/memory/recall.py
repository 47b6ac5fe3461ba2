"""Asking a scene memory where an image was taken: a first look at all slots, a second at those
that the first pose expects to be seen.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.overlap import near_pose
from vggt3_ros.memory.appearance import agreement, remembered
from vggt3_ros.memory.folding import NEAREST_M, mutual
from vggt3_ros.memory.pairs import unit
from vggt3_ros.memory.pose_refinement import RefinedPose, ransac, refine

CHUNK = 1024  # slots compared at a time: their similarities fit a cache
GROUP = 64
LEAST = 8  # keypoints that agree by which a second look pays
SAME_NUMBER = 1e-5  # two sums of the same products in another order
EXPECTED = 4096  # slots looked for at most in a wider search, those seen most often
RIVALS = 8  # keypoints nearby that a slot is compared with
# least similarity of an image's keypoint to its slot, at the first look and at the second
ALIKE = 0.7
# px around where a slot is expected, px within which it then agrees
SECOND_LOOKS = ((16.0, 6.0), (6.0, 4.0))
# slots of keyframes farther from a pose are not looked for: so many metres, or times the depth of
# the farthest slot where scenes are larger than rooms
REACH_M, REACH = 15.0, 2.5
# cosine: a slot seen from a direction farther from the camera's than this looks different
HALF_VIEW = 0.5
SHARED = 0.1  # of a keyframe's slots that are expected must agree for the others to be missed
# a slot this many times farther than the nearest in its part of the image is hidden
OCCLUSION_PX, OCCLUSION = 24, 1.25
VOTERS = 12  # keyframes that look most like an image
# times as many slots as are asked at a time: so small a memory is asked in the order of how often
# slots were seen
FEW = 4
TRIES = 6  # times that other slots are asked: an image of another place costs them all


@dataclass(frozen=True, eq=False)
class Recall:
    """T_map_cam (4, 4) or None; agreeing of tried: matches with slots. Of the second look, or
    None: refined, a RefinedPose; slots that agree with it.
    """

    T_map_cam: np.ndarray | None
    agreeing: int
    tried: int
    refined: RefinedPose | None = None
    slots: np.ndarray | None = None


def recall(memory, query, order, config):
    """A Frame -> Recall. order: arrays of slots to ask one after the other, until one answers;
    config: LocalizerConfig.
    """
    best = Recall(None, 0, 0)
    for slots in order:
        found = first_look(memory, query, slots, config)
        if found.agreeing >= LEAST:
            found = second_look(memory, query, found.T_map_cam, config) or found
        best = found if best.T_map_cam is None or found.agreeing > best.agreeing else best
        if best.refined is not None and best.agreeing >= config.settled:
            break
    return best


def first_look(memory, query, slots, config):
    """A Frame's best keypoints compared with `slots` (indices) -> Recall without a refined
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
def _best_of_both(memory, keys, slots):
    """Keypoints and slots that are each other's best, as two arrays. keys (K, 64) tensor of unit
    length.

    Maxima without their places are several times faster; so of a row's maximum first the group of
    slots is known, then the slot, and where the row's maximum is the slot's too they are each
    other's best.
    """
    device = memory.keys.device
    if not len(slots) or not len(keys):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    index, keys = torch.from_numpy(slots).to(device), keys.to(device)
    index = torch.cat([index, index[-1:].expand(-len(index) % GROUP)])
    of_group, of_slot = [], []
    for chunk in index.split(CHUNK if device.type == "cpu" else len(index)):
        similarity = keys @ memory.keys[chunk].float().T
        of_group.append(similarity.view(len(keys), -1, GROUP).amax(2))
        of_slot.append(similarity.amax(0))
    of_slot, groups = torch.cat(of_slot).view(-1, GROUP), torch.cat(of_group, 1).argmax(1)
    of_row = torch.bmm(memory.keys[index.view(-1, GROUP)[groups]].float(), keys[:, :, None])[
        ..., 0
    ]
    best, within = of_row.max(1)
    keep = (best > ALIKE) & (best > of_slot[groups, within] - SAME_NUMBER)
    return torch.nonzero(keep)[:, 0].cpu().numpy(), index.view(-1, GROUP)[groups, within][
        keep
    ].cpu().numpy()


def second_look(memory, query, T_map_cam, config):
    """A pose near the truth -> Recall with what the slots that it expects to see agree on; None
    where they do not.
    """
    pixels = query.features.keypoints.astype(float)
    keys = unit(query.features.descriptors)
    if not len(pixels):
        return None
    tree = cKDTree(pixels)
    for radius, threshold in SECOND_LOOKS:
        slots, expected = expected_slots(memory, query.camera, T_map_cam, radius)
        # all count for the pose itself: 0.9 cm instead of 1.2 (kitchen)
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


def expected_slots(memory, camera, T_map_cam, margin=0.0):
    """Slots that a camera should see, none hidden behind others or known from another side only,
    and their pixels (N, 2).
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


def resemblance(memory, query, found):
    """A Frame and its Recall -> (median similarity, share of the image that the memory expects
    anything in): whether all of the image looks as it should, not only what agreed on the pose.
    Slots of keyframes that share none of it are left out: a wall may stand between, of which the
    memory knows little.
    """
    slots, pixels = expected_slots(memory, query.camera, found.T_map_cam)
    agreed, expected = (
        np.bincount(memory.anchors[s], minlength=len(memory.keyframe_ids))
        for s in (found.slots, slots)
    )
    sharing = (agreed >= SHARED * expected)[memory.anchors[slots]]
    slots, pixels = slots[sharing], pixels[sharing]
    keys = memory.keys[torch.from_numpy(slots)].float().cpu().numpy()
    return agreement(remembered(query, pixels, keys))


def to_ask(memory, query, places, snapshot, most, hint=None, tries=TRIES):
    """Arrays of slots, at most `most` each, the likeliest first: those that were seen most often,
    in large maps near keyframes that look like the image (PlaceIndex of the snapshot's keyframes,
    or None), or near the hint (T_map_cam).
    """
    if len(memory) <= FEW * most or (places is None and hint is None):
        order = np.argsort(-memory.observed, kind="stable")
        return [order[k : k + most] for k in range(0, len(order), most)][:tries]
    row = {int(i): k for k, i in enumerate(memory.keyframe_ids)}
    starts = [hint] if hint is not None else []
    if places is not None:
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
