"""Where a saved map, or a run of a front end, lies in the map held: what most of its views that
are found there agree on.
"""

import numpy as np

from vggt3_ros.geometry import se3

TRIED = 24  # images localized at most to place a map
AGREEING = 4  # of these must agree on where it lies, and be most of those localized
ENOUGH = 8  # when so many agree, and three quarters of those localized, no more are tried
AGREE_M, AGREE_RAD = 0.3, 0.1  # per camera: both maps may still be bent by so much
# what a front end may lose at once; places that look alike lie farther apart
BREAK_M, BREAK_RAD = 1.5, 1.0


class LoadError(ValueError):
    """The map cannot be loaded, and nothing was changed. code: unreadable, conflict, no_map or
    not_localized.
    """

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def place(T_loaded_cam, localized, breaks=False):
    """T_map_loaded (4, 4) that most of the loaded map's views agree on. localized(k) ->
    Localization of the one taken at T_loaded_cam[k], of (N, 4, 4). breaks: they are odometry,
    which may be broken: it is enough that most of those found lie on one path, which is that of
    odometry from one to the next, and that some agree. LoadError when they do not.
    """
    count = len(T_loaded_cam)
    chosen = np.unique(np.linspace(0, count - 1, min(TRIED, count)).round().astype(int))
    seen, T_map_cam, agree = [], [], np.zeros(0, bool)
    tried = 0
    for k in np.random.default_rng(0).permutation(chosen):
        tried += 1
        found = localized(k)
        if found.T_map_cam is not None:
            seen.append(k)
            T_map_cam.append(found.T_map_cam)
            agree = _agreeing(np.array(T_map_cam), T_loaded_cam[seen])
        if agree.sum() >= ENOUGH and 4 * agree.sum() >= 3 * len(seen):
            break
    together = _longest_path(seen, np.array(T_map_cam), T_loaded_cam) if breaks and seen else agree
    if (agree & together).sum() < AGREEING or 2 * together.sum() <= len(seen):
        raise LoadError(
            "not_localized",
            f"{len(seen)} of {tried} views of it were found in the map held, {agree.sum()} agree on "
            f"where it lies; {AGREEING} must, and most of those found: do both maps show the same place?",
        )
    return se3.mean_motion(np.array(T_map_cam)[agree], T_loaded_cam[seen][agree])


def _agreeing(T_map_cam, T_loaded_cam):
    """The largest set, as a mask, of cameras (N, 4, 4) that see the loaded frame where one of them
    does.
    """
    best = np.zeros(len(T_map_cam), bool)
    for candidate in T_map_cam @ se3.inverse(T_loaded_cam):
        apart = se3.inverse(T_map_cam) @ candidate @ T_loaded_cam
        agree = (np.linalg.norm(apart[:, :3, 3], axis=1) < AGREE_M) & (
            se3.rotation_angle(apart) < AGREE_RAD
        )
        best = agree if agree.sum() > best.sum() else best
    return best


def _longest_path(seen, T_map_cam, T_loaded_cam):
    """The most views, as a mask, each of which is about where odometry leads from the one before.
    A second place that looks the same is on no such path with the first.
    """
    order = np.argsort(seen)
    found, odometry = T_map_cam[order], T_loaded_cam[np.array(seen)[order]]
    length, before = np.ones(len(order), int), np.full(len(order), -1)
    for k in range(1, len(order)):
        apart = (
            se3.inverse(se3.inverse(found[:k]) @ found[k])
            @ se3.inverse(odometry[:k])
            @ odometry[k]
        )
        near = (np.linalg.norm(apart[:, :3, 3], axis=1) < BREAK_M) & (
            se3.rotation_angle(apart) < BREAK_RAD
        )
        if near.any():
            before[k] = np.argmax(np.where(near, length[:k], 0))
            length[k] = length[before[k]] + 1
    mask, k = np.zeros(len(order), bool), int(np.argmax(length))
    while k >= 0:
        mask[order[k]] = True
        k = before[k]
    return mask
