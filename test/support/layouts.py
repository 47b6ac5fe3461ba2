"""A Sequence written as other tools lay their data sets out: 7-Scenes and EuRoC folders, bags."""

import cv2
import numpy as np
import yaml
from bags import Bag

from vggt3_ros.datasets.camera_file import write_camera
from vggt3_ros.datasets.tum_files import write_trajectory_tum
from vggt3_ros.geometry import se3

# an optical frame on a body with x forward, z up
BODY = se3.from_quaternion([0.1, -0.05, 0.2], [-0.5, 0.5, -0.5, 0.5])


def write_seven_scenes(folder, sequence):
    """Frames numbered by their stamps at 30 Hz; depth in mm, 65535 where there is none;
    odometry.txt beside them.
    """
    folder.mkdir(parents=True)
    stamps = []
    for frame, truth in zip(sequence.keyframes, sequence.groundtruth):
        number = round(frame.stamp_ns * 30 / 10**9)
        stamps.append(number * 10**9 // 30)
        name = folder / f"frame-{number:06d}"
        cv2.imwrite(f"{name}.color.png", frame.image[..., ::-1])
        depth = np.round(frame.depth * 1000).astype(np.uint16)
        cv2.imwrite(f"{name}.depth.png", np.where(depth == 0, 65535, depth).astype(np.uint16))
        np.savetxt(f"{name}.pose.txt", truth, fmt="%16.9e")
    write_camera(folder / "camera.yaml", sequence.camera, 1000.0)
    write_trajectory_tum(folder / "odometry.txt", stamps, sequence.T_odom_cam)
    return folder


def write_euroc(folder, sequence, right=None, T_right_cam=None):
    """mav0 with cam0 (and cam1 from images right(i)), truth of the body at 200 Hz between the
    keyframes.
    """
    mav = folder / "mav0"
    T_body_cam = {"cam0": BODY, "cam1": None if right is None else BODY @ se3.inverse(T_right_cam)}
    images = {"cam0": lambda i: sequence.keyframes[i].image, "cam1": right}
    for name in ("cam0", "cam1")[: 1 if right is None else 2]:
        (mav / name / "data").mkdir(parents=True)
        camera = sequence.camera
        distortion = list(camera.distortion) or [0.0] * 4
        text = {
            "sensor_type": "camera",
            "T_BS": {"cols": 4, "rows": 4, "data": T_body_cam[name].ravel().tolist()},
            "rate_hz": 20,
            "resolution": [camera.width, camera.height],
            "camera_model": "pinhole",
            "intrinsics": [camera.fx, camera.fy, camera.cx, camera.cy],
            "distortion_model": "radial-tangential",
            "distortion_coefficients": distortion,
        }
        (mav / name / "sensor.yaml").write_text(
            "# General sensor definitions.\n" + yaml.safe_dump(text)
        )
        rows = ["#timestamp [ns],filename"]
        for i, stamp in enumerate(sequence.stamps_ns):
            cv2.imwrite(str(mav / name / "data" / f"{stamp}.png"), images[name](i)[..., ::-1])
            rows.append(f"{stamp},{stamp}.png")
        (mav / name / "data.csv").write_text("\r\n".join(rows) + "\r\n")
    truth = mav / "state_groundtruth_estimate0"
    truth.mkdir()
    t, q = se3.to_quaternion(sequence.groundtruth @ se3.inverse(BODY))
    rows = [
        "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z [], v_RS_R_x [m s^-1]"
    ]
    for stamp, position, (x, y, z, w) in zip(sequence.stamps_ns, t, q):
        rows.append(
            ",".join([str(stamp), *(f"{value:.9f}" for value in (*position, w, x, y, z)), "0.0"])
        )
    (truth / "data.csv").write_text("\n".join(rows) + "\n")
    return folder


def write_bag(path, sequence, storage="mcap", form="raw", compression=None, late_ns=0):
    """What a robot records: images on /camera/color with their calibration, aligned depth, /odom
    of the body at twice their rate, where the camera sits on /tf_static, and /truth of the body.
    form: raw, compressed (lossless PNG), or keyframes.
    """
    with Bag(path, storage, compression) as bag:
        start = sequence.stamps_ns[0]
        if form != "keyframes":
            base = [
                bag.transform(
                    "base_link",
                    "camera_link",
                    se3.from_rotation_translation(np.eye(3), BODY[:3, 3]),
                    start,
                ),
                bag.transform(
                    "camera_link",
                    "camera_optical",
                    se3.from_rotation_translation(BODY[:3, :3], np.zeros(3)),
                    start,
                ),
            ]
            bag.write(
                "/tf_static",
                "tf2_msgs/msg/TFMessage",
                bag.make("tf2_msgs/msg/TFMessage", transforms=base),
                start,
            )
        for i, frame in enumerate(sequence.keyframes):
            logged, optical = (
                frame.stamp_ns + late_ns,
                bag.header(frame.stamp_ns, "camera_optical"),
            )
            truth = sequence.groundtruth[i] @ (
                np.eye(4) if form == "keyframes" else se3.inverse(BODY)
            )
            bag.write(
                "/truth",
                "geometry_msgs/msg/PoseStamped",
                bag.make(
                    "geometry_msgs/msg/PoseStamped",
                    header=bag.header(frame.stamp_ns, "world"),
                    pose=bag.pose(truth),
                ),
                logged,
            )
            depth = np.round(frame.depth * 1000).astype(np.uint16)
            if form == "keyframes":
                bag.write(
                    "/keyframes",
                    "vggt3_ros/msg/Keyframe",
                    keyframe_message(bag, frame, depth, optical),
                    logged,
                )
                continue
            bag.write(
                "/odom",
                "nav_msgs/msg/Odometry",
                bag.odometry(
                    frame.T_odom_cam @ se3.inverse(BODY),
                    bag.header(frame.stamp_ns, "odom"),
                    "base_link",
                ),
                logged,
            )
            if form == "raw":
                bag.write(
                    "/camera/color/image_raw",
                    "sensor_msgs/msg/Image",
                    bag.image(frame.image, "rgb8", optical),
                    logged,
                )
                bag.write(
                    "/camera/aligned_depth_to_color/image_raw",
                    "sensor_msgs/msg/Image",
                    bag.image(depth, "16UC1", optical),
                    logged,
                )
            else:
                bag.write(
                    "/camera/color/image_raw/compressed",
                    "sensor_msgs/msg/CompressedImage",
                    bag.compressed(
                        frame.image[..., ::-1], ".png", "rgb8; png compressed bgr8", optical
                    ),
                    logged,
                )
                bag.write(
                    "/camera/aligned_depth_to_color/image_raw/compressedDepth",
                    "sensor_msgs/msg/CompressedImage",
                    bag.compressed(
                        depth, ".png", "16UC1; compressedDepth png", optical, before=bytes(12)
                    ),
                    logged,
                )
            bag.write(
                "/camera/color/camera_info",
                "sensor_msgs/msg/CameraInfo",
                bag.camera_info(sequence.camera, optical),
                logged,
            )
    return path


def keyframe_message(bag, frame, depth, header, right=None, right_info=None):
    """vggt3_ros/Keyframe with a raw image and depth (uint16 millimetres), or without depth and
    with a right image.
    """
    empty = bag.compressed(np.zeros((1, 1), np.uint8), ".png", "", header)
    empty.data = np.zeros(0, np.uint8)
    image = lambda pixels, encoding: bag.image(
        np.zeros((0, 0), np.uint8) if pixels is None else pixels, encoding, header
    )
    return bag.make(
        "vggt3_ros/msg/Keyframe",
        header=header,
        camera_frame_id="camera",
        id=frame.id,
        t_odom_camera=bag.pose(frame.T_odom_cam),
        odometry_covariance=np.zeros(36),
        camera_info=bag.camera_info(frame.camera, header),
        image=image(frame.image, "rgb8"),
        compressed_image=empty,
        depth=image(depth, "16UC1"),
        right_image=image(right, "rgb8"),
        right_camera_info=right_info or bag.camera_info(frame.camera, header),
        right_compressed_image=empty,
    )
