"""Parameters input.* of the node: the source of keyframes. Needs no ROS."""

from typing import Literal, Self

import numpy as np
from pydantic import model_validator
from pydantic.dataclasses import dataclass

from vggt3_ros.frontend.pairing import PairingConfig
from vggt3_ros.geometry import se3
from vggt3_ros.system.checked import value

Source = Literal["keyframes", "odometry", "pose", "pose_with_covariance"]


@dataclass(frozen=True)
class InputConfig(PairingConfig):
    """The source of keyframes, and how messages of plain topics are combined."""

    source: Source = value(
        "keyframes",
        "keyframes: topic keyframes. Otherwise keyframes are selected from the topics image, camera_info and "
        "odometry or (pose, pose_with_covariance) frontend_pose",
        live=False,
    )
    image_transport: Literal["raw", "compressed"] = value(
        "raw",
        "raw: topic image; compressed: JPEG or PNG on image/compressed",
        live=False,
    )
    depth_transport: Literal["none", "raw", "compressedDepth", "stereo"] = value(
        "none",
        "raw: topic depth; compressedDepth: PNG on depth/compressedDepth; stereo: by stereo matching "
        "with right/image (right/image/compressed) and right/camera_info, whose p[3] is -fx * baseline; none: do "
        "not wait for depth",
        live=False,
    )
    rectified: bool = value(
        False, "The images are rectified: use p of camera_info, not k and d", live=False
    )
    base_frame: str = value(
        "",
        "Frame that the incoming poses describe. Empty: child_frame_id of the odometry; for frontend_pose the camera",
        live=False,
    )
    camera_frame: str = value(
        "",
        "Optical frame of the camera (z forward). Empty: header.frame_id of the images",
        live=False,
    )
    base_to_camera: str = value(
        "",
        "Pose of the camera in base_frame: 'x y z qx qy qz qw', metres. Empty: from /tf_static and, if it moves, /tf",
        live=False,
    )
    sync_queue: int = value(
        30, "Number of images that may wait for their depth and pose", low=1, high=1000, live=False
    )
    timeout: float = value(
        5.0,
        "Time without input after which the node reports what it is waiting for; 0: never",
        "s",
        0.0,
        3600.0,
    )

    @model_validator(mode="after")
    def _base_to_camera_is_a_transform(self) -> Self:
        self.T_base_camera()
        return self

    def T_base_camera(self) -> np.ndarray | None:
        """Return `base_to_camera` as (4, 4), None if it is empty. Raises ValueError if it is not a
        valid transform.
        """
        if not self.base_to_camera.strip():
            return None
        try:
            numbers = np.array(
                [float(word) for word in self.base_to_camera.replace(",", " ").split()]
            )
            if numbers.shape != (7,) or not np.all(np.isfinite(numbers)):
                raise ValueError(f"{len(numbers)} numbers")
            return se3.from_quaternion(numbers[:3], numbers[3:])
        except ValueError as error:
            raise ValueError(
                "base_to_camera must be 'x y z qx qy qz qw' with a quaternion of unit length, "
                f"got '{self.base_to_camera}' ({error})"
            ) from error
