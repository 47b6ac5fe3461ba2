"""Features of all keyframes, before anything else is asked of them; those that cannot be read are
set aside.
"""

import logging

from vggt3_ros.store.keyframes import DamagedKeyframe
from vggt3_ros.store.suspicion import any_suspected
from vggt3_ros.system import threads

_log = logging.getLogger(__name__)
AT_ONCE = {"cuda": 16}  # images; a CPU gains nothing by more than one


def encode_all(frames, ids, device_type, step):
    """FrameSource, keyframe ids, "cpu" or "cuda" -> the set of those that cannot be read.
    step(fraction) may raise to stop.

    While a keyframe is suspected to end the process, images are encoded one at a time: then it is
    known which one was in hand.
    """
    missing, damaged = frames.missing(ids), set()
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


def _set_aside(frames, ids):
    """The set of those keyframes that cannot be read, set aside in the store; the others are
    encoded.
    """
    damaged = set()
    for keyframe_id in ids:
        try:
            frames(keyframe_id)
        except DamagedKeyframe as error:
            damaged.add(keyframe_id)
            frames.store.set_aside(keyframe_id, str(error))
            _log.error("set aside: %s", error)
    return damaged
