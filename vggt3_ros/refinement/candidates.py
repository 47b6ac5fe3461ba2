"""Propose keyframe pairs for matching: neighbours in time, keyframes near each other in space, and
places that look alike.
"""

from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet

import numpy as np
from scipy.spatial import cKDTree

from vggt3_ros.config import LoopConfig
from vggt3_ros.features.retrieval import PlaceIndex

Pair = tuple[int, int]  # indices (i, j) of keyframes, i > j


def sequence(count: int, reach: int = 2) -> list[Pair]:
    """Pair each of `count` keyframes with the `reach` keyframes before it. These pairs verify the
    odometry.
    """
    return [(i, j) for i in range(count) for j in range(max(0, i - reach), i)]


def across(step: int, count: int, reach: int) -> list[Pair]:
    """Return the pairs (i, j) that bridge the odometry step to keyframe `step`: j < step <= i and
    i - j <= reach, the closest first.
    """
    pairs = [
        (i, j)
        for i in range(step, min(count, step + reach))
        for j in range(max(0, i - reach), step)
    ]
    return sorted(pairs, key=lambda pair: pair[0] - pair[1])


def alike_across(
    step: int, places: PlaceIndex, count: int, known: AbstractSet[Pair], reach: int = 200
) -> list[Pair]:
    """Return the `count` most similar pairs (i, j) with j < step <= i.

    places: index over the keyframes. known: pairs not to propose. Keyframes more than `reach` from
    the step are not considered. The pairs are spread: no two of them lie within two keyframes of
    each other at both ends.
    """
    first, last = max(0, step - reach), min(len(places.vectors), step + reach)
    likeness = places.vectors[step:last] @ places.vectors[first:step].T
    chosen: list[Pair] = []
    for flat in np.argsort(-likeness, axis=None).tolist():
        i, j = step + flat // likeness.shape[1], first + flat % likeness.shape[1]
        if len(chosen) == count:
            break
        if (
            i - j > 2
            and (i, j) not in known
            and all(abs(i - a) > 2 or abs(j - b) > 2 for a, b in chosen)
        ):
            chosen.append((i, j))
    return chosen


def proximity(
    T_map_cam: np.ndarray,
    config: LoopConfig,
    known: Collection[Pair],
    asked: Iterable[int] | None = None,
    spread: bool = False,
) -> list[Pair]:
    """Return pairs of keyframes that are near each other and look the same way, at most
    `pairs_per_keyframe` for each keyframe, best first.

    T_map_cam (N, 4, 4): poses. known: pairs not to propose again; each still counts as one of its
    keyframe's pairs. asked: indices of the keyframes to find partners for, before or after them;
    all by default. The cost grows with them and their neighbours, not with the map.

    The best pairs have the largest overlap, but are spread along the path: a second pair within
    two keyframes of the first adds little. spread: part of the path may be misplaced. Then the
    pairs are shared out among equal stretches of the path, so that a misplaced keyframe is not
    paired with its own stretch only.
    """
    positions, forward = T_map_cam[:, :3, 3], T_map_cam[:, :3, 2]
    tree = cKDTree(positions)
    rows = (
        range(len(T_map_cam))
        if asked is None
        else sorted(
            set(asked)
            | {
                i
                for j in asked
                for i in tree.query_ball_point(positions[j], config.proximity_radius)
                if i > j
            }
        )
    )
    pairs: list[Pair] = []
    for i in rows:
        earlier = np.array(
            [
                j
                for j in sorted(tree.query_ball_point(positions[i], config.proximity_radius))
                if j < i
            ],
            np.int64,
        )
        distance = np.linalg.norm(positions[earlier] - positions[i], axis=1)
        angle = np.arccos(np.clip(forward[earlier] @ forward[i], -1, 1))
        near = np.flatnonzero(
            (distance < config.proximity_radius) & (angle < config.proximity_angle)
        )
        cost = distance[near] / config.proximity_radius + angle[near] / config.proximity_angle
        chosen: list[int] = []
        for j in _in_order(earlier[near], cost, config.pairs_per_keyframe if spread else 1):
            if len(chosen) == config.pairs_per_keyframe:
                break
            if i - j > 2 and all(abs(j - k) > 2 for k in chosen):
                chosen.append(j)
        pairs += [(i, int(j)) for j in chosen if (i, int(j)) not in known]
    return pairs


def _in_order(indices: np.ndarray, cost: np.ndarray, stretches: int) -> np.ndarray:
    """Sort indices (n,), ascending, by their cost (n,), but put the best of each of `stretches`
    equal stretches of them first.
    """
    order = np.argsort(cost)
    stretch = np.arange(len(indices)) * stretches // max(len(indices), 1)
    leads = np.zeros(len(order), bool)
    leads[np.unique(stretch[order], return_index=True)[1]] = True
    in_order: np.ndarray = indices[np.concatenate([order[leads], order[~leads]])]
    return in_order
