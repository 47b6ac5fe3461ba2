"""Build the place index over all keyframes, from that of the last refinement where possible."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from vggt3_ros.features.frame import Frame
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.features.xfeat import Features


def place_index(
    ids: Sequence[int],
    frames: Callable[[int], Frame],
    old: PlaceIndex | None,
    old_ids: Iterable[int],
    step: Callable[[], None],
) -> PlaceIndex | None:
    """Return a PlaceIndex over the keyframes `ids`; None when none of them has a keypoint.

    frames(id) returns a keyframe's Frame. old: the previous PlaceIndex, over `old_ids`, or None;
    its vocabulary and vectors are kept unless it is outgrown. step() is called between keyframes
    and may raise to stop.
    """
    if old is None or old.outgrown(len(ids)):
        return PlaceIndex.build(_Each(ids, frames, step))
    row = {int(i): k for k, i in enumerate(old_ids)}
    return old.regrown([row.get(i, -1) for i in ids], lambda k: frames(ids[k]).features)


class _Each:
    """Iterate, any number of times, over the Features of keyframes. Features not in memory are
    read from the store each time.
    """

    def __init__(
        self, ids: Sequence[int], frames: Callable[[int], Frame], step: Callable[[], None]
    ) -> None:
        self._ids, self._frames, self._step = ids, frames, step

    def __iter__(self) -> Iterator[Features]:
        for i in self._ids:
            self._step()
            yield self._frames(i).features
