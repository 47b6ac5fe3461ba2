"""rosbag2 recordings (sqlite3 or mcap), read with rosbags: no ROS installation is needed.

One pass over the bag notes when each image was taken; the images themselves are read again when
they are asked for. What the node makes of the same topics is made of them here, by the same code:
poses (frontend/pose_track.py), frames and registration (messages/registration.py).
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from vggt3_ros.datasets.bag import Bag, bag_paths
from vggt3_ros.datasets.bag_stream import Stream
from vggt3_ros.datasets.bag_values import pose_of, series, wide_images
from vggt3_ros.datasets.recording import Recording
from vggt3_ros.datasets.rosbag_topics import Topics, choose_topics
from vggt3_ros.datasets.trajectories import offsets_ns, poses_at
from vggt3_ros.frontend.pairing import PairingConfig
from vggt3_ros.messages import images
from vggt3_ros.messages.levels import Levels, spread
from vggt3_ros.messages.reading import to_camera, to_keyframe, to_transform
from vggt3_ros.messages.registration import check_registered
from vggt3_ros.store.keyframe import check_covariance
from vggt3_ros.store.stereo_keyframe import with_stereo_depth

__all__ = ["Bag", "bag_paths", "read_rosbag"]


def read_rosbag(
    path,
    topics=Topics(),
    T_base_cam=None,
    odometry_needed=True,
    rectified=False,
    base_frame="",
    pairing=PairingConfig(),
    time_offsets=None,
):
    """A bag as a Recording: image (raw or compressed), CameraInfo, odometry [, depth, truth], or
    vggt3_ros/Keyframe messages.

    T_base_cam: (4, 4) where the camera (optical axes) sits on base_frame, by default the
    odometry's child frame; None: from /tf_static and, where that does not tie the two together,
    /tf, at the stamp of each image. The camera is the frame that the images name. Depth in another
    frame, or of another calibration, is registered by its own CameraInfo and the transform between
    the two; without any, a right image whose CameraInfo has p[3] = -fx * baseline gives it.
    rectified: p of the CameraInfo holds, k and d do not. time_offsets: {"depth" (or "right"),
    "odometry", "groundtruth": seconds to add to its stamps}. The bag stays open as long as the
    Recording lives.

    Messages that cannot be read cost no others: they are left out, counted and named in a warning.
    ValueError says what is missing or damaged.
    """
    bag = Bag(path)
    types = {connection.topic: connection.msgtype for connection in bag.reader.connections}
    try:
        chosen = choose_topics(types, topics, odometry_needed)
        if chosen.keyframes:
            return _keyframes(bag, chosen)
        if not odometry_needed and not chosen.groundtruth:  # which is of the odometry's frame
            chosen = replace(chosen, odometry=None)
        return Stream(bag, chosen, rectified, pairing, offsets_ns(time_offsets)).recording(
            T_base_cam, base_frame
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    finally:
        bag.warn()


def _keyframes(bag, topics):
    places, poses, covariances, camera, truth = {}, {}, {}, None, []
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
        # the images come with the first; sent again, an id has a new pose
        places.setdefault(message.id, place)
        poses[message.id], covariances[message.id] = pose, covariance
    if not places:
        raise ValueError(bag.why_none(topics.keyframes))
    ids = _in_order(bag, places)
    stamps_ns = np.array([places[id].stamp_ns for id in ids], np.int64)
    covariances = np.array([covariances[id] for id in ids])
    levels = Levels(look=lambda: wide_images(bag.read(places[ids[i]]) for i in spread(len(ids))))
    load = lambda i: to_keyframe(bag.read(places[ids[i]]), levels.to_8_bits)[0]
    load_image = lambda i: getattr(sent := load(i), "keyframe", sent).image
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


def _in_order(bag, places):
    """Ids of {id: Place} by stamp, those with a stamp of their own."""
    ids, newest = [], -1
    for id in sorted(places, key=lambda id: places[id].stamp_ns):
        if places[id].stamp_ns > newest:
            ids.append(id)
            newest = places[id].stamp_ns
        else:
            bag.refuse(places[id], f"keyframe {id} has the stamp of another")
    return ids
