"""Encode all keyframes before any other stage needs them, and set aside those that cannot be
read.
"""

import logging
from collections.abc import Callable, Sequence

from vggt3_ros.features.frame import FrameSource
from vggt3_ros.store.keyframes import DamagedKeyframe
from vggt3_ros.store.suspicion import any_suspected
from vggt3_ros.system import threads

_log = logging.getLogger(__name__)
AT_ONCE = {"cuda": 16}  # images per batch, by device type; a CPU gains nothing from more than one


def encode_all(
    frames: FrameSource, ids: Sequence[int], device_type: str, step: Callable[[float], None]
) -> set[int]:
    """Encode the keyframes that are not in the cache; return the ids that cannot be read.

    device_type: "cpu" or "cuda". step(fraction) is called between batches and may raise to stop.

    While a keyframe is suspected of having crashed the process, images are encoded one at a time,
    so that a further crash can be attributed to one of them.
    """
    damaged: set[int] = set()
    missing = frames.missing(ids)
    at_once = 1 if any_suspected(frames.store) else AT_ONCE.get(device_type, 1)
    with threads.pool(threads.count() if at_once > 1 else 1) as over:
        for first in range(0, len(missing), at_once):
            group = missing[first : first + at_once]
            try:
                frames.encode(group, over)
            except DamagedKeyframe:
                damaged |= _set_aside(frames, group)
            step((first + len(group)) / len(missing))
    return damaged


def _set_aside(frames: FrameSource, ids: Sequence[int]) -> set[int]:
    """Encode keyframes one by one; set aside in the store, and return, those that cannot be
    read.
    """
    damaged: set[int] = set()
    for keyframe_id in ids:
        try:
            frames(keyframe_id)
        except DamagedKeyframe as error:
            damaged.add(keyframe_id)
            frames.store.set_aside(keyframe_id, str(error))
            _log.error("keyframe %d is set aside: %s", keyframe_id, error)
    return damaged
