"""rosbag2 recordings (sqlite3 or mcap), read with rosbags: no ROS installation is needed.

One pass over the bag notes the time of each image; the images themselves are read again on demand.
Topics are interpreted as in the node, by the same code: poses (frontend/pose_track.py), frames and
registration (messages/registration.py).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from vggt3_ros.datasets.bag import Bag, Place, bag_paths
from vggt3_ros.datasets.bag_stream import Stream
from vggt3_ros.datasets.bag_values import pose_of, series, wide_images
from vggt3_ros.datasets.odometry import PAIRING
from vggt3_ros.datasets.recording import Recording
from vggt3_ros.datasets.rosbag_topics import GUESSED, Topics, choose_topics
from vggt3_ros.datasets.trajectories import offsets_ns, poses_at
from vggt3_ros.frontend.pairing import PairingConfig
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.messages import images
from vggt3_ros.messages.levels import Levels, spread
from vggt3_ros.messages.reading import to_camera, to_keyframe, to_transform
from vggt3_ros.messages.registration import check_registered
from vggt3_ros.store.keyframe import Keyframe, check_covariance
from vggt3_ros.store.stereo_keyframe import StereoKeyframe, with_stereo_depth

__all__ = ["Bag", "bag_paths", "read_rosbag"]


def read_rosbag(
    path: str | Path,
    topics: Topics = GUESSED,
    T_base_cam: np.ndarray | None = None,
    odometry_needed: bool = True,
    rectified: bool = False,
    base_frame: str = "",
    pairing: PairingConfig = PAIRING,
    time_offsets: Mapping[str, float] | None = None,
) -> Recording:
    """Read a bag as a Recording, from image (raw or compressed), CameraInfo and odometry topics,
    optionally depth and truth; or from vggt3_ros/Keyframe messages.

    T_base_cam: (4, 4) pose of the camera (optical axes) in base_frame. If None, it is taken from
    /tf_static, and from /tf at the stamp of each image if /tf_static does not connect the two
    frames. base_frame: by default the odometry's child frame. The camera's frame is the one that
    the images name. Depth in another frame, or with another calibration, is registered by its own
    CameraInfo and the transform between the frames. Without a depth topic, depth is computed from
    a right image whose CameraInfo has p[3] = -fx * baseline. rectified: use p of the CameraInfo
    and ignore k and d. time_offsets: {"depth", "right", "odometry" or "groundtruth": seconds to
    add to its stamps}. The bag stays open as long as the Recording exists.

    Invalid messages are skipped, counted and reported in a warning. Raise ValueError if something
    required is missing or damaged.
    """
    bag = Bag(path)
    types = {connection.topic: connection.msgtype for connection in bag.reader.connections}
    try:
        chosen = choose_topics(types, topics, odometry_needed)
        if chosen.keyframes:
            return _keyframes(bag, chosen)
        # the truth describes the odometry's child frame
        if not odometry_needed and not chosen.groundtruth:
            chosen = replace(chosen, odometry=None)
        return Stream(bag, chosen, rectified, pairing, offsets_ns(time_offsets)).recording(
            T_base_cam, base_frame
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    finally:
        bag.warn()


def _keyframes(bag: Bag, topics: Topics) -> Recording:
    """Read Keyframe messages as a Recording."""
    places: dict[int, Place] = {}
    poses: dict[int, np.ndarray] = {}
    motions: dict[int, np.ndarray] = {}
    camera: Camera | None = None
    truth: list[tuple[int, np.ndarray]] = []
    for place, data in bag.messages({topics.keyframes, topics.groundtruth}):
        try:
            message = bag.decode(place, data)
            if place.topic == topics.groundtruth:
                truth.append((place.stamp_ns, pose_of(message)))
                continue
            seen, pose = (
                to_camera(message.camera_info),
                to_transform(message.t_odom_camera, "t_odom_camera"),
            )
            covariance = np.asarray(message.odometry_covariance, float).reshape(6, 6)
            covariance = check_covariance(covariance) if covariance.any() else covariance
            images.check_whole(message, seen)
            check_registered(message)
        except ValueError as error:
            bag.refuse(place, error)
            continue
        camera = camera or seen
        # The first message of an id has the images; later ones update its pose.
        places.setdefault(message.id, place)
        poses[message.id], motions[message.id] = pose, covariance
    if camera is None:
        raise ValueError(bag.why_none(str(topics.keyframes)))
    ids = _in_order(bag, places)
    stamps_ns = np.array([places[id].stamp_ns for id in ids], np.int64)
    covariances = np.array([motions[id] for id in ids])
    levels = Levels(look=lambda: wide_images(bag.read(places[ids[i]]) for i in spread(len(ids))))

    def load(i: int) -> Keyframe | StereoKeyframe:
        return to_keyframe(bag.read(places[ids[i]]), levels.to_8_bits)[0]

    def load_image(i: int) -> np.ndarray:
        sent = load(i)
        return sent.keyframe.image if isinstance(sent, StereoKeyframe) else sent.image

    return Recording(
        Path(bag.path).stem,
        camera,
        stamps_ns,
        load_image,
        lambda i: with_stereo_depth(load(i)).depth,
        np.array([poses[id] for id in ids]),
        poses_at(*series(truth), stamps_ns) if truth else None,
        covariances if covariances.any() else None,
        chosen=True,
    )


def _in_order(bag: Bag, places: Mapping[int, Place]) -> list[int]:
    """Return the ids of {id: Place} by stamp; of equal stamps the first counts."""
    ids, newest = [], -1
    for id in sorted(places, key=lambda id: places[id].stamp_ns):
        if places[id].stamp_ns > newest:
            ids.append(id)
            newest = places[id].stamp_ns
        else:
            bag.refuse(places[id], f"keyframe {id} has the same stamp as another")
    return ids
