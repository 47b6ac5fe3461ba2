"""Where frames sit on one another when nothing moves: what /tf_static says."""

import numpy as np

from vggt3_ros.geometry import se3


class StaticFrames:
    def __init__(self):
        self._parent = {}  # child -> (parent, T_parent_child)

    def add(self, parent, child, T_parent_child):
        self._parent[child.lstrip("/")] = (parent.lstrip("/"), T_parent_child)

    def between(self, base, camera):
        """T_base_camera (4, 4). A base without a name is the camera itself. ValueError when the two are not connected."""
        if not base or base == camera:
            return np.eye(4)
        (base_root, T_root_base), (camera_root, T_root_camera) = (self._to_root(frame or "") for frame in (base, camera))
        if base_root != camera_root:
            raise ValueError(f"/tf_static does not say where the camera '{camera}' sits on '{base}', whose motion the odometry is: give "
                             "--camera-in-base 'x y z qx qy qz qw'")
        return se3.inverse(T_root_base) @ T_root_camera

    def _to_root(self, frame):
        frame, pose = frame.lstrip("/"), np.eye(4)
        for _ in range(len(self._parent)):  # a circle ends here too
            if frame not in self._parent:
                break
            frame, step = self._parent[frame]
            pose = step @ pose
        return frame, pose
