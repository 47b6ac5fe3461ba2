"""The place index over all keyframes, from that of the last refinement where it is not
outgrown.
"""

from vggt3_ros.features.retrieval import PlaceIndex


def place_index(ids, frames, old, old_ids, step):
    """Keyframe ids and frames(id) -> PlaceIndex over them; None when none has a keypoint.

    old: the PlaceIndex of before, over old_ids, or None; what it knows of keyframes is kept.
    step() in between may raise to stop.
    """
    if old is None or old.outgrown(len(ids)):
        return PlaceIndex.build(_Each(ids, frames, step))
    row = {int(i): k for k, i in enumerate(old_ids)}
    return old.regrown([row.get(i, -1) for i in ids], lambda k: frames(ids[k]).features)


class _Each:
    """Features of keyframes, as often as they are gone through; each may have to be read from the
    store.
    """

    def __init__(self, ids, frames, step):
        self._ids, self._frames, self._step = ids, frames, step

    def __iter__(self):
        for i in self._ids:
            self._step()
            yield self._frames(i).features
