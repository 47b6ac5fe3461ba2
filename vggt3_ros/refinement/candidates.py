"""Which keyframe pairs are worth matching: neighbours in time, keyframes seen from nearby, and
places that look alike.
"""

import numpy as np
from scipy.spatial import cKDTree


def sequence(count, reach=2):
    """(i, j) with j the last `reach` keyframes before i: they tie the odometry down. Indices, i >
    j.
    """
    return [(i, j) for i in range(count) for j in range(max(0, i - reach), i)]


def across(step, count, reach):
    """(i, j) with j < step <= i and i - j <= reach, the nearest first: what bridges the step to
    keyframe `step`.
    """
    pairs = [
        (i, j)
        for i in range(step, min(count, step + reach))
        for j in range(max(0, i - reach), step)
    ]
    return sorted(pairs, key=lambda pair: pair[0] - pair[1])


def alike_across(step, places, count, known, reach=200):
    """The `count` pairs (i, j), j < step <= i, that look most alike, spread over both sides: no
    two within two keyframes at both ends.

    places: PlaceIndex over the keyframes; known: set of pairs not to propose. Keyframes farther
    than `reach` from the step are left out.
    """
    first, last = max(0, step - reach), min(len(places.vectors), step + reach)
    likeness = places.vectors[step:last] @ places.vectors[first:step].T
    chosen = []
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


def proximity(T_map_cam, config, known, asked=None, spread=False):
    """Pairs (i, j), i > j, of keyframes near each other and looking the same way, best first, at
    most `pairs_per_keyframe` each.

    Best is most overlap, yet spread along the path: a second pair two keyframes from the first
    says little new. known: a set of pairs not to propose again; each of them takes its place in
    the count. asked: indices of keyframes to find partners for, before or after them; all by
    default. The effort grows with them and their neighbours, not with the map. spread: the poses
    may be wrong for part of the path; each stretch of it gets its share of the pairs, so that
    those of a misplaced one are not all on its own side.
    """
    positions, forward = T_map_cam[:, :3, 3], T_map_cam[:, :3, 2]
    tree = cKDTree(positions)
    asked = (
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
    pairs = []
    for i in asked:
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
        chosen = []
        for j in _in_order(earlier[near], cost, config.pairs_per_keyframe if spread else 1):
            if len(chosen) == config.pairs_per_keyframe:
                break
            if i - j > 2 and all(abs(j - k) > 2 for k in chosen):
                chosen.append(j)
        pairs += [(i, int(j)) for j in chosen if (i, int(j)) not in known]
    return pairs


def _in_order(indices, cost, stretches):
    """Indices (ascending) by their cost (the same shape), but first the best of each of so many
    equal stretches of them.
    """
    order = np.argsort(cost)
    stretch = np.arange(len(indices)) * stretches // max(len(indices), 1)
    leads = np.zeros(len(order), bool)
    leads[np.unique(stretch[order], return_index=True)[1]] = True
    return indices[np.concatenate([order[leads], order[~leads]])]
