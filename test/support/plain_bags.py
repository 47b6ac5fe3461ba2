"""Bags of plain topics whose frames can be anything, made of numbers alone."""

import numpy as np
from bags import Bag

from vggt3_ros.geometry.camera import Camera

CAMERA = Camera(64, 48, 60.0, 61.0, 31.5, 23.5)
START = 1_700_000_000 * 10**9
STEP = 100_000_000
IMAGE, INFO, ODOMETRY = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CameraInfo",
    "nav_msgs/msg/Odometry",
)
TF_MESSAGE = "tf2_msgs/msg/TFMessage"


def write_plain(
    path,
    poses,
    frame="camera",
    child="camera",
    info_frame=None,
    tf=(),
    stamp=lambda i: START + i * STEP,
    image=lambda message, i: message,
    odometry=lambda message, i: message,
    more=lambda bag, i, stamp_ns: None,
    storage="mcap",
):
    """One image of CAMERA, its CameraInfo and one odometry message for each of the poses (N, 4,
    4), a tenth of a second apart.

    tf: [(parent, child, T), ...] for /tf_static; image(message, i), odometry(message, i): what is
    sent instead; more(bag, i, stamp_ns) writes what it likes.
    """
    rng = np.random.default_rng(0)
    with Bag(path, storage) as bag:
        if tf:
            bag.write(
                "/tf_static",
                TF_MESSAGE,
                bag.make(TF_MESSAGE, transforms=[bag.transform(*edge, START) for edge in tf]),
                START,
            )
        for i, pose in enumerate(poses):
            logged, stamp_ns = START + i * STEP, stamp(i)
            header = bag.header(stamp_ns, frame)
            pixels = rng.integers(0, 256, (CAMERA.height, CAMERA.width, 3), np.uint8)
            bag.write(
                "/camera_info",
                INFO,
                bag.camera_info(
                    CAMERA, bag.header(stamp_ns, frame if info_frame is None else info_frame)
                ),
                logged,
            )
            bag.write(
                "/odom",
                ODOMETRY,
                odometry(bag.odometry(pose, bag.header(stamp_ns, "odom"), child), i),
                logged,
            )
            bag.write("/image", IMAGE, image(bag.image(pixels, "rgb8", header), i), logged)
            more(bag, i, stamp_ns)
    return path
