"""rosbag2 recordings (sqlite3 or mcap), read with rosbags: no ROS installation is needed.

One pass over the bag notes when each image was taken; the images themselves are read again when they are asked for.
"""

import struct
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore

from vggt3_ros.datasets.recording import Recording
from vggt3_ros.datasets.rosbag_topics import TF, TF_MESSAGE, TF_STATIC, Topics, choose_topics
from vggt3_ros.datasets.trajectories import MAX_POSE_GAP_NS, associate, poses_at
from vggt3_ros.geometry.frame_tree import FrameTree
from vggt3_ros.messages import images
from vggt3_ros.messages.compressed_depth import decompress_depth
from vggt3_ros.messages.reading import to_camera, to_keyframe, to_nanoseconds, to_stereo_pair, to_transform
from vggt3_ros.store.stereo_keyframe import with_stereo_depth

SUFFIXES = (".mcap", ".db3")


def bag_paths(path):
    """What to open: [path] for a bag's folder or file, the files of a folder without metadata.yaml; [] for anything else."""
    path = Path(path)
    if (path / "metadata.yaml").is_file() or (path.is_file() and path.suffix in SUFFIXES):
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in SUFFIXES) if path.is_dir() else []


def read_rosbag(path, topics=Topics(), T_base_cam=None, odometry_needed=True, rectified=False):
    """A bag as a Recording: image (raw or compressed), CameraInfo, odometry [, depth, truth], or vggt3_ros/Keyframe messages.

    T_base_cam: (4, 4) where the camera (optical axes) sits on the odometry's child frame; None: from /tf_static and, where that does not
    tie the two together, /tf, at the stamp of each image. Depth must be registered to the image; without any, a right image whose
    CameraInfo has p[3] = -fx * baseline gives it. rectified: p of the CameraInfo holds, k and d do not. The bag stays open as long as the
    Recording lives.
    ValueError says what is missing or damaged.
    """
    bag = Bag(path)
    types = {connection.topic: connection.msgtype for connection in bag.reader.connections}
    try:
        chosen = choose_topics(types, topics, odometry_needed)
        return _keyframes(bag, chosen) if chosen.keyframes else _stream(bag, chosen, T_base_cam, rectified)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


@dataclass(frozen=True)
class Place:
    """Where in the bag a message lies."""

    stamp_ns: int
    connection: Connection
    logged_ns: int


class Bag:
    """An open bag whose messages are found again by the time they were logged. Threads may share it."""

    def __init__(self, path):
        self.path, self._lock = path, threading.Lock()
        try:
            self.reader = AnyReader(bag_paths(path), default_typestore=get_typestore(Stores.ROS2_KILTED))
            self.reader.open()
        except Exception as error:  # rosbags passes on whatever its storage raises on a damaged file
            raise ValueError(f"{path} cannot be opened as a rosbag2: {error}") from error

    def messages(self, topics):
        """(Place, bytes) of every message of `topics`, as logged."""
        connections = [connection for connection in self.reader.connections if connection.topic in topics]
        for connection, logged_ns, data in self._raw(connections) if connections else ():
            yield Place(_stamp(data) if connection.msgtype != TF_MESSAGE else logged_ns, connection, logged_ns), data

    def _raw(self, *range_):
        try:
            yield from self.reader.messages(*range_)
        except Exception as error:  # as above
            raise ValueError(f"{self.path} is damaged: {error}") from error

    def decode(self, place, data):
        try:
            return self.reader.deserialize(data, place.connection.msgtype)
        except (AnyReaderError, KeyError, struct.error, ValueError, IndexError) as error:
            raise ValueError(f"a message on {place.connection.topic} cannot be decoded: {error}") from error

    def read(self, place):
        """The message at a place that :meth:`messages` gave."""
        with self._lock:
            for _, _, data in self._raw([place.connection], place.logged_ns, place.logged_ns + 1):
                if _stamp(data) == place.stamp_ns:
                    return self.decode(place, data)
        raise ValueError(f"{self.path}: the message of {place.connection.topic} at {place.stamp_ns} ns is gone")


def _stamp(data):
    """header.stamp of a serialized message that begins with a header, nanoseconds."""
    if len(data) < 12:
        raise ValueError("a message is too short for its header")
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return seconds * 10**9 + nanoseconds


def _keyframes(bag, topics):
    places, poses, covariances, camera = {}, {}, {}, None
    truth = []
    for place, data in bag.messages({topics.keyframes, topics.groundtruth}):
        message = bag.decode(place, data)
        if place.connection.topic == topics.groundtruth:
            truth.append((place.stamp_ns, _pose(message)))
            continue
        camera = camera or to_camera(message.camera_info)
        places.setdefault(message.id, place)  # the images come with the first; sent again, an id has a new pose
        poses[message.id] = to_transform(message.t_odom_camera, "t_odom_camera")
        covariances[message.id] = np.asarray(message.odometry_covariance, float).reshape(6, 6)
    if not places:
        raise ValueError(f"{topics.keyframes} holds no message")
    ids = sorted(places, key=lambda id: places[id].stamp_ns)
    ids = [id for n, id in enumerate(ids) if not n or places[id].stamp_ns > places[ids[n - 1]].stamp_ns]
    stamps_ns = np.array([places[id].stamp_ns for id in ids], np.int64)
    covariances = np.array([covariances[id] for id in ids])
    load = lambda i: to_keyframe(bag.read(places[ids[i]]))[0]
    load_image = lambda i: getattr(sent := load(i), "keyframe", sent).image
    return Recording(Path(bag.path).stem, camera, stamps_ns, load_image, lambda i: with_stereo_depth(load(i)).depth,
                     np.array([poses[id] for id in ids]), poses_at(*_series(truth), stamps_ns) if truth else None,
                     covariances if covariances.any() else None, chosen=True)


def _stream(bag, topics, T_base_cam, rectified):
    places = {topic: {} for topic in (topics.image, topics.depth, topics.right)}
    poses = {topics.odometry: [], topics.groundtruth: []}
    frames, infos, base_frame = FrameTree(MAX_POSE_GAP_NS, history=None), {}, None
    wanted = {*places, topics.camera_info, topics.right_camera_info, topics.odometry, topics.groundtruth, TF_STATIC}
    for place, data in bag.messages(wanted):
        topic = place.connection.topic
        if topic in places:
            places[topic].setdefault(place.stamp_ns, place)
        elif topic in poses:
            message = bag.decode(place, data)
            poses[topic].append((place.stamp_ns, _pose(message)))
            if topic == topics.odometry:
                base_frame = getattr(message, "child_frame_id", "") or base_frame
        elif topic == TF_STATIC:
            for transform in bag.decode(place, data).transforms:
                frames.fix(transform.header.frame_id, transform.child_frame_id, _pose(transform))
        elif topic not in infos:
            infos[topic] = message = bag.decode(place, data)
            if rectified:
                message.k, message.d, message.r = np.asarray(message.p).reshape(3, 4)[:, :3].ravel(), np.zeros(0), np.eye(3).ravel()
                message.distortion_model = "plumb_bob"
    for topic, needed in ((topics.camera_info, infos), (topics.image, places), (topics.right_camera_info, infos)):
        if topic and not needed.get(topic):
            raise ValueError(f"{topic} holds no message")
    camera, camera_frame = to_camera(infos[topics.camera_info]), infos[topics.camera_info].header.frame_id
    stamps = {topic: np.array(sorted(found), np.int64) for topic, found in places.items()}
    if T_base_cam is None:
        moves = topics.odometry or topics.groundtruth
        T_base_cam = _camera_on_base(bag, frames, base_frame, camera_frame, stamps[topics.image]) if moves else np.eye(4)
    stamps_ns, image_places = stamps[topics.image], places[topics.image]
    at_images = lambda topic: poses_at(*_series(poses[topic]), stamps_ns) @ T_base_cam if topic and poses[topic] else None
    load_image = lambda i: _image(bag.read(image_places[int(stamps_ns[i])]), camera)
    beside, depth_of = topics.depth or topics.right, {}
    if beside:
        depth_of = {int(i): places[beside][int(stamps[beside][j])] for i, j in zip(*associate(stamps_ns, stamps[beside]))}
    measure = lambda i: _depth(bag.read(depth_of[i]))
    if topics.right:
        right = to_camera(infos[topics.right_camera_info], "right_camera_info")
        pair = to_stereo_pair(infos[topics.camera_info], infos[topics.right_camera_info])
        measure = lambda i: pair.depth_of_left(load_image(i), _image(bag.read(depth_of[i]), right))
    load_depth = lambda i: measure(i) if i in depth_of else None
    return Recording(Path(bag.path).stem, camera, stamps_ns, load_image, load_depth if beside else None, at_images(topics.odometry),
                     at_images(topics.groundtruth))


def _pose(message):
    """(4, 4) of a message of one of the types POSES, or of a transform of a TFMessage."""
    if hasattr(message, "transform"):
        rotation, translation = message.transform.rotation, message.transform.translation
        return to_transform(_Pose(translation, rotation), "transform")
    pose = message.pose
    return to_transform(pose.pose if hasattr(pose, "pose") else pose)


@dataclass
class _Pose:
    position: object
    orientation: object


def _series(poses):
    """[(stamp, pose), ...] -> (N,) increasing stamps and (N, 4, 4)."""
    poses = dict(poses)
    stamps = np.array(sorted(poses), np.int64)
    return stamps, np.array([poses[int(stamp)] for stamp in stamps])


def _image(message, camera):
    if hasattr(message, "format"):
        return images.decompress(message, camera.width, camera.height, "image")[0]
    return images.to_rgb(message, "image")


def _depth(message):
    return decompress_depth(message) if hasattr(message, "format") else images.to_depth(message)


def _camera_on_base(bag, frames, base, camera, stamps_ns):
    """T_base_camera, (4, 4) or at each stamp (N, 4, 4), NaN where it is not known. A base without a name is the camera itself."""
    if not base:
        return np.eye(4)
    if frames.connected(base, camera or ""):
        return frames.at(base, camera or "", 0)
    for place, data in bag.messages({TF}):  # long, and rarely needed
        for transform in bag.decode(place, data).transforms:
            frames.move(transform.header.frame_id, transform.child_frame_id, to_nanoseconds(transform.header.stamp), _pose(transform))
    if not frames.connected(base, camera or ""):
        raise ValueError(f"neither /tf_static nor /tf says where the camera '{camera}' sits on '{base}', whose motion the odometry is: "
                         "give --camera-in-base 'x y z qx qy qz qw'")
    return np.array([_known_or_nan(frames, base, camera, int(stamp_ns)) for stamp_ns in stamps_ns])


def _known_or_nan(frames, base, camera, stamp_ns):
    try:
        return frames.at(base, camera, stamp_ns)
    except LookupError:
        return np.full((4, 4), np.nan)
