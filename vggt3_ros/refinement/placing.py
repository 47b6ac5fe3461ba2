"""Register a saved map, or a run of a front end, in the current map, by the pose on which most of
its localized views agree.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from vggt3_ros.geometry import se3

TRIED = 24  # most views tried
AGREEING = 4  # fewest views that must agree; they must also be more than half of those localized
ENOUGH = 8  # trying ends once this many, and three quarters of those localized, agree
AGREE_M, AGREE_RAD = 0.3, 0.1  # tolerance per view: either map may still be distorted by this much
# largest error of a break in the odometry; places that look alike are farther apart
BREAK_M, BREAK_RAD = 1.5, 1.0


class Localized(Protocol):
    """The part of a Localization that is used here."""

    @property
    def T_map_cam(self) -> np.ndarray | None: ...


class LoadError(ValueError):
    """The map cannot be loaded; nothing was changed. code: unreadable, conflict, no_map or
    not_localized.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def place(
    T_loaded_cam: np.ndarray, localized: Callable[[int], Localized], breaks: bool = False
) -> np.ndarray:
    """Return T_map_loaded (4, 4), on which most views of the loaded map agree.

    T_loaded_cam (N, 4, 4): poses of the views in the loaded map. localized(k) localizes view k in
    the current map. Raises LoadError when too few views agree.

    breaks: the poses are odometry, which may be broken. Then AGREEING views must agree, but it is
    enough that most of the localized views lie on one path, where each follows from the one before
    by odometry.
    """
    count = len(T_loaded_cam)
    chosen = np.unique(np.linspace(0, count - 1, min(TRIED, count)).round().astype(int))
    seen: list[int] = []
    T_map_cam: list[np.ndarray] = []
    agree = np.zeros(0, bool)
    tried = 0
    for k in np.random.default_rng(0).permutation(chosen).tolist():
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
            f"{len(seen)} of {tried} views of it were localized in the current map, and {agree.sum()} agree on its "
            f"pose; at least {AGREEING} must, and most of those localized: do both maps show the same place?",
        )
    T_map_loaded: np.ndarray = se3.mean_motion(
        np.array(T_map_cam)[agree], T_loaded_cam[seen][agree]
    )
    return T_map_loaded


def _agreeing(T_map_cam: np.ndarray, T_loaded_cam: np.ndarray) -> np.ndarray:
    """Return the mask (N,) of the largest set of cameras (N, 4, 4) that agree with the pose of
    the loaded frame according to one of them.
    """
    best = np.zeros(len(T_map_cam), bool)
    for candidate in T_map_cam @ se3.inverse(T_loaded_cam):
        apart = se3.inverse(T_map_cam) @ candidate @ T_loaded_cam
        agree = (np.linalg.norm(apart[:, :3, 3], axis=1) < AGREE_M) & (
            se3.rotation_angle(apart) < AGREE_RAD
        )
        best = agree if agree.sum() > best.sum() else best
    return best


def _longest_path(
    seen: Sequence[int], T_map_cam: np.ndarray, T_loaded_cam: np.ndarray
) -> np.ndarray:
    """Return the mask of the longest sequence of views in which each lies about where odometry
    leads from the one before. A second place that looks the same does not lie on one path with the
    first.
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
