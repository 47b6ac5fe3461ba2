"""Where frames sit on one another when nothing moves: what /tf_static says, live or in a bag."""

import numpy as np

from vggt3_ros.geometry import se3


MAX_FRAMES = 10_000


class StaticFrames:
    """Not thread-safe. Frame names may begin with a slash, as ROS 1 drivers still write them."""

    def __init__(self):
        self._parents = {}  # child -> (parent, T_parent_child)

    def add(self, parent, child, T_parent_child):
        """The newest word on a child holds. T_parent_child (4, 4). ValueError when there are too many to be a robot's."""
        if len(self._parents) >= MAX_FRAMES and _bare(child) not in self._parents:
            raise ValueError(f"{MAX_FRAMES} frames are known already")
        self._parents[_bare(child)] = _bare(parent), T_parent_child

    def lookup(self, target, source):
        """T_target_source (4, 4), or None while the two are not connected."""
        to_target, to_source = self._ancestors(_bare(target)), self._ancestors(_bare(source))
        common = next((frame for frame in to_target if frame in to_source), None)
        return None if common is None else se3.orthonormalize(se3.inverse(to_target[common]) @ to_source[common])

    def _ancestors(self, frame):
        """{ancestor: T_ancestor_frame} of a frame, itself among them, nearest first; a loop of frames ends the walk."""
        found, transform = {frame: np.eye(4)}, np.eye(4)
        while frame in self._parents and self._parents[frame][0] not in found:
            frame, T_parent_frame = self._parents[frame]
            transform = T_parent_frame @ transform
            found[frame] = transform
        return found


def _bare(frame):
    return frame.lstrip("/")
