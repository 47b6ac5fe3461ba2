"""Decide from frames and calibrations whether depth is registered to its image, and how to
register it. The same rule for topics and bags.

Depth with the frame and the K of its image is registered. Other depth is registered with both K
and the transform between the frames, or refused. Depth without a frame is assumed to be in that of
its image.
"""

from collections.abc import Callable

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.frame_tree import same_frame
from vggt3_ros.geometry.registration import registered_depth
from vggt3_ros.geometry.se3 import Floats
from vggt3_ros.messages.fields import KeyframeMessage

SAME_K = 1e-3  # relative to the width: entries of K that differ by less count as equal
SAME_M, SAME_RAD = 1e-4, 1e-4  # frames that differ by less count as equal
REMEDY = (
    "let the driver align it (RealSense: align_depth.enable), or register it with depth_image_proc"
)


def registration(
    depth_frame: str,
    depth_camera: Camera | None,
    image_frame: str,
    camera: Camera,
    transform: Callable[[], Floats | None],
) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return None if depth is registered to the image, else a function that registers depth (h, w),
    metres, to (height, width), metres.

    depth_camera: from the depth's own CameraInfo, None if there is none; camera: that of the image.
    transform() returns T_image_depth (4, 4), or None if nothing connects the frames; it is called
    only if the frames differ, and its exceptions pass through. Raises ValueError that says what is
    missing.
    """
    one_frame = same_frame(depth_frame, image_frame)
    if one_frame and (depth_camera is None or same_view(depth_camera, camera)):
        return None
    named = f"depth is in '{depth_frame}', its image in '{image_frame}'"
    T_cam_depth = np.eye(4) if one_frame else transform()
    if T_cam_depth is None:
        raise ValueError(
            f"{named}, and neither /tf_static nor /tf connects the two: publish their transform, or {REMEDY}"
        )
    if depth_camera is None:
        raise ValueError(
            f"{named}, and the depth has no camera_info of its own: publish it, or {REMEDY}"
        )
    together = (
        np.linalg.norm(T_cam_depth[:3, 3]) < SAME_M and se3.rotation_angle(T_cam_depth) < SAME_RAD
    )
    if together and same_view(depth_camera, camera):
        return None
    return lambda depth: registered_depth(depth, depth_camera, camera, T_cam_depth)


def same_view(a: Camera, b: Camera) -> bool:
    """Tell whether two cameras have the same size and K. Distortion is ignored, because some
    drivers that align depth omit it.
    """
    if (a.width, a.height) != (b.width, b.height):
        return False
    return float(np.abs(a.matrix - b.matrix).max()) <= SAME_K * a.width


def check_registered(message: KeyframeMessage) -> None:
    """Raise ValueError if depth and image of a vggt3_ros/Keyframe are in different frames."""
    if not len(message.depth.data):
        return
    image = message.compressed_image if len(message.compressed_image.data) else message.image
    depth_frame, image_frame = (
        message.depth.header.frame_id,
        image.header.frame_id or message.camera_frame_id,
    )
    if not same_frame(depth_frame, image_frame):
        raise ValueError(
            f"depth.header.frame_id is '{depth_frame[:80]}', but its image is in '{image_frame[:80]}': depth must be registered to the "
            f"image; {REMEDY}"
        )
