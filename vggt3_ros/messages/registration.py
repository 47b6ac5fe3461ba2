"""Whether depth is registered to its image, by what the messages say of themselves; and how to
make it so. One rule for topics and bags.

The frames and calibrations count: the same frame and the same K are one view, anything else is
registered by both K and the transform between the frames, or refused. Depth without a frame is
taken to be in that of its image.
"""

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.frame_tree import same_frame
from vggt3_ros.geometry.registration import registered_depth

SAME_K = 1e-3  # of the width: calibrations whose numbers differ by less are one
SAME_M, SAME_RAD = 1e-4, 1e-4  # frames that lie so near are one
MEND = (
    "let the driver align it (RealSense: align_depth.enable), or register it with depth_image_proc"
)


def registration(depth_frame, depth_camera, image_frame, camera, transform):
    """None where depth is registered to the image, else a function (h, w) metres -> (height,
    width) metres that does it.

    depth_camera: Camera of the depth by its own CameraInfo, None where there is none; camera: that
    of the image. transform() -> (4, 4) T_image_depth, None where nothing ties the two frames
    together; asked where they differ, and what it raises passes. ValueError says what is missing.
    """
    one_frame = same_frame(depth_frame, image_frame)
    if one_frame and (depth_camera is None or same_view(depth_camera, camera)):
        return None
    named = f"depth is in '{depth_frame}', its image in '{image_frame}'"
    T_cam_depth = np.eye(4) if one_frame else transform()
    if T_cam_depth is None:
        raise ValueError(
            f"{named}, and neither /tf_static nor /tf says how the two lie: publish that, or {MEND}"
        )
    if depth_camera is None:
        raise ValueError(
            f"{named}, and the depth's own camera_info is missing: publish that, or {MEND}"
        )
    together = (
        np.linalg.norm(T_cam_depth[:3, 3]) < SAME_M and se3.rotation_angle(T_cam_depth) < SAME_RAD
    )
    if together and same_view(depth_camera, camera):
        return None
    return lambda depth: registered_depth(depth, depth_camera, camera, T_cam_depth)


def same_view(a, b):
    """Whether two Cameras have the same size and K. Distortion is not looked at: drivers that
    align depth leave it out, or do not.
    """
    if (a.width, a.height) != (b.width, b.height):
        return False
    return float(np.abs(a.matrix - b.matrix).max()) <= SAME_K * a.width


def check_registered(message):
    """A vggt3_ros/Keyframe: ValueError where depth and image name different frames."""
    if not len(message.depth.data):
        return
    image = message.compressed_image if len(message.compressed_image.data) else message.image
    depth_frame, image_frame = (
        message.depth.header.frame_id,
        image.header.frame_id or message.camera_frame_id,
    )
    if not same_frame(depth_frame, image_frame):
        raise ValueError(
            f"depth.header.frame_id is '{depth_frame[:80]}', that of its image '{image_frame[:80]}': depth must be registered to the "
            f"image; {MEND}"
        )
