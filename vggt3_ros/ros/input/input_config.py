"""Where keyframes come from: parameters input.* of the node. Needs no ROS."""

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
    """Where keyframes come from, and how messages of plain topics are put together."""

    source: Source = value(
        "keyframes",
        "keyframes: topic keyframes. Else topics image, camera_info and odometry or (pose, "
        "pose_with_covariance) frontend_pose, of which keyframes are selected",
        live=False,
    )
    image_transport: Literal["raw", "compressed"] = value(
        "raw",
        "raw: topic image; compressed: JPEG or PNG on image/compressed",
        live=False,
    )
    depth_transport: Literal["none", "raw", "compressedDepth", "stereo"] = value(
        "none",
        "raw: topic depth; compressedDepth: PNG on depth/compressedDepth; stereo: by matching "
        "right/image (right/image/compressed) with right/camera_info, whose p[3] is -fx * baseline; none: no "
        "depth is waited for",
        live=False,
    )
    rectified: bool = value(
        False, "The images are rectified: p of camera_info holds, k and d do not", live=False
    )
    base_frame: str = value(
        "",
        "Frame whose poses arrive. Empty: child_frame_id of the odometry; with frontend_pose the camera itself",
        live=False,
    )
    camera_frame: str = value(
        "",
        "Optical frame of the camera (z forward). Empty: header.frame_id of the images",
        live=False,
    )
    base_to_camera: str = value(
        "",
        "Pose of the camera in base_frame: 'x y z qx qy qz qw', metres. Empty: from /tf_static and, where it moves, /tf",
        live=False,
    )
    sync_queue: int = value(
        30, "Images that may wait for their depth and pose", low=1, high=1000, live=False
    )
    timeout: float = value(
        5.0,
        "After so long without input the node says what it waits for; 0: never",
        "s",
        0.0,
        3600.0,
    )

    @model_validator(mode="after")
    def _base_to_camera_is_a_transform(self) -> Self:
        self.T_base_camera()
        return self

    def T_base_camera(self) -> np.ndarray | None:
        """Return the (4, 4) of `base_to_camera`, None when it is empty. ValueError when it is no
        transform.
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
