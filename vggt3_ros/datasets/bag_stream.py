"""Plain topics of a bag: images with CameraInfo, odometry, depth, a second camera, frames and
truth.
"""

import logging
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from vggt3_ros.datasets.bag_values import depth_of, image_of, pose_of, series, wide_images
from vggt3_ros.datasets.odometry import OdometryAtImages, track_of
from vggt3_ros.datasets.recording import Recording
from vggt3_ros.datasets.rosbag_topics import COMPRESSED, ODOMETRY, TF, TF_STATIC
from vggt3_ros.datasets.trajectories import MAX_POSE_GAP_NS, offset_text, paired, poses_at
from vggt3_ros.geometry.frame_tree import FrameTree, same_frame
from vggt3_ros.messages.levels import Levels, spread
from vggt3_ros.messages.reading import rectified, to_camera, to_nanoseconds, to_stereo_pair
from vggt3_ros.messages.registration import registration
from vggt3_ros.messages.serialized import image_facts

_log = logging.getLogger(__name__)
NO_MOUNT = (
    "neither /tf_static nor /tf says where the camera '{camera}' sits on '{base}', whose motion the odometry is: "
    "give --camera-in-base 'x y z qx qy qz qw'"
)
NO_BASE = (
    "{topic} names no child_frame_id, so that it is not known what moves: name the frame with --base-frame, or give --camera-in-base "
    "'x y z qx qy qz qw' (0 0 0 0 0 0 1 where the poses are those of the camera's optical frame)"
)


@dataclass
class _Images:
    """What one topic of images holds: {stamp_ns: Place}, the frame that they name first, and their
    sizes; compressed ones' only if `sized`.
    """

    sized: bool = True
    places: dict = field(default_factory=dict)
    sizes: dict = field(default_factory=dict)
    frame: str = ""

    def add(self, bag, place, data):
        facts = image_facts(data, place.connection.msgtype == COMPRESSED, self.sized)
        if not facts.stamp_ns:
            raise ValueError("header.stamp is zero: the time of exposure is needed")
        if facts.stamp_ns in self.places:
            raise ValueError("its stamp is that of an image before")
        self.places[facts.stamp_ns], self.sizes[facts.stamp_ns] = place, facts.size
        self.frame = self.frame or facts.frame

    def only(self, bag, camera, name):
        """Leave out the images that are of another size than the camera's."""
        for stamp_ns, size in self.sizes.items():
            if size not in (None, (camera.width, camera.height)):
                bag.refuse(
                    self.places.pop(stamp_ns),
                    f"{name} is {size[0]}x{size[1]}, but camera_info says {camera.width}x{camera.height}",
                )

    @property
    def stamps_ns(self):
        return np.array(sorted(self.places), np.int64)


class Stream:
    """Plain topics of a bag, gone through once."""

    def __init__(self, bag, topics, rectified, pairing, offsets_ns):
        self._bag, self._topics, self._rectified, self._pairing, self._offsets = (
            bag,
            topics,
            rectified,
            pairing,
            offsets_ns,
        )
        self._where = str(bag.path)
        self._images = {
            topic: _Images(sized=topic != topics.depth)
            for topic in (topics.image, topics.depth, topics.right)
            if topic
        }
        # [(stamp_ns, pose, covariance), ...]
        self._poses = {topics.odometry: [], topics.groundtruth: []}
        self._lost, self._child_frame, self._infos = [], "", {}
        self._frames, self._moving = FrameTree(MAX_POSE_GAP_NS, history=None), False
        infos = topics.camera_info, topics.right_camera_info, topics.depth_camera_info
        for place, data in bag.messages({*self._images, *self._poses, *infos, TF_STATIC}):
            try:
                self._take(place, data)
            except ValueError as error:
                bag.refuse(place, error)
                if place.topic == topics.odometry:
                    self._lost.append(place.stamp_ns + self._offsets["odometry"])
        for topic, needed in (
            (topics.camera_info, self._infos),
            (topics.image, self._images[topics.image].places),
            (topics.right_camera_info, self._infos),
        ):
            if topic and not (topic in needed if needed is self._infos else needed):
                raise ValueError(bag.why_none(topic))
        if topics.odometry in bag.refused and not self._poses[topics.odometry]:
            raise ValueError(bag.why_none(topics.odometry))

    def _take(self, place, data):
        topic = place.topic
        if topic in self._images:
            self._images[topic].add(self._bag, place, data)
        elif topic in self._infos:
            return
        elif topic in self._poses:
            self._take_pose(place, self._bag.decode(place, data))
        elif topic == TF_STATIC:
            for transform in self._bag.decode(place, data).transforms:
                self._frames.fix(
                    transform.header.frame_id, transform.child_frame_id, pose_of(transform)
                )
        else:
            message = self._bag.decode(place, data)
            if self._rectified:
                rectified(message)
            to_camera(message)  # one that is not calibrated yet is left out
            self._infos[topic] = message

    def _take_pose(self, place, message):
        if not place.stamp_ns:
            raise ValueError("header.stamp is zero")
        covariance = np.reshape(
            getattr(message.pose, "covariance", np.zeros(36))
            if hasattr(message, "pose")
            else np.zeros(36),
            (6, 6),
        )
        self._poses[place.topic].append(
            (place.stamp_ns, pose_of(message), np.asarray(covariance, float))
        )
        if place.topic == self._topics.odometry and place.connection.msgtype == ODOMETRY:
            self._child_frame = message.child_frame_id or self._child_frame

    def recording(self, T_base_cam, base_frame):
        topics, info = self._topics, self._infos[self._topics.camera_info]
        camera = to_camera(info)
        seen = self._images[topics.image]
        seen.only(self._bag, camera, "image")
        if not seen.places:
            raise ValueError(self._bag.why_none(topics.image))
        camera_frame, stamps_ns = seen.frame or info.header.frame_id, seen.stamps_ns
        if T_base_cam is None:
            T_base_cam = (
                self._mount(base_frame, camera_frame, stamps_ns)
                if topics.odometry or topics.groundtruth
                else np.eye(4)
            )
        odometry = self._odometry(stamps_ns, T_base_cam)
        read = lambda i: self._bag.read(seen.places[int(stamps_ns[i])])
        self._levels = Levels(look=lambda: wide_images(read(i) for i in spread(len(stamps_ns))))
        load_image = lambda i: image_of(read(i), camera, self._levels)
        return Recording(
            Path(self._bag.path).stem,
            camera,
            stamps_ns,
            load_image,
            self._load_depth(stamps_ns, load_image, camera, camera_frame),
            None if odometry is None else odometry.T_odom_cam,
            self._truth(stamps_ns, T_base_cam),
            motion=None if odometry is None else odometry.motion,
        )

    def _odometry(self, stamps_ns, T_base_cam):
        given = self._poses.get(self._topics.odometry)
        if not self._topics.odometry or not given:
            return None
        at = np.array([stamp_ns for stamp_ns, *_ in given], np.int64) + self._offsets["odometry"]
        track = track_of(
            at,
            [pose for _, pose, _ in given],
            self._pairing,
            self._where,
            [covariance for *_, covariance in given],
            self._lost,
        )
        found = OdometryAtImages(track, stamps_ns, T_base_cam)
        return found if found.known.any() else self._nothing_at(stamps_ns, np.sort(at), "odometry")

    def _truth(self, stamps_ns, T_base_cam):
        given = self._poses.get(self._topics.groundtruth)
        if not self._topics.groundtruth or not given:
            return None
        at, poses = series(
            [(stamp_ns + self._offsets["groundtruth"], pose) for stamp_ns, pose, _ in given]
        )
        found = poses_at(at, poses, stamps_ns) @ T_base_cam
        return (
            found if np.isfinite(found).any() else self._nothing_at(stamps_ns, at, "groundtruth")
        )

    def _nothing_at(self, stamps_ns, at, name):
        raise ValueError(
            f"no {name} pose is known at the time of any image: {offset_text(stamps_ns, at, name)}"
        )

    # depth
    # ------------------------------------------------------------------------------------------------------------

    def _load_depth(self, stamps_ns, load_image, camera, camera_frame):
        """load_depth of a Recording."""
        topics, bag = self._topics, self._bag
        beside, name = (topics.depth, "depth") if topics.depth else (topics.right, "right")
        if not beside:
            return None
        held = self._images[beside]
        if name == "right":
            right = to_camera(self._infos[topics.right_camera_info], "right_camera_info")
            held.only(bag, right, "right_image")
        if not held.places and beside in bag.refused:
            raise ValueError(bag.why_none(beside))
        if not held.places:
            _log.warning(
                "%s: %s holds no message: the run has no depth from it", self._where, beside
            )
            return None
        others = held.stamps_ns
        pairs = paired(
            stamps_ns, others + self._offsets[name], self._pairing.tolerance_ns, name, self._where
        )
        place_of = {int(i): held.places[int(others[j])] for i, j in zip(*pairs)}
        if name == "right":
            pair = to_stereo_pair(
                self._infos[topics.camera_info], self._infos[topics.right_camera_info]
            )
            measure = lambda i: pair.depth_of_left(
                load_image(i), image_of(bag.read(place_of[i]), right, self._levels)
            )
        else:
            register = self._registration(held.frame, camera_frame, camera, stamps_ns)
            measure = lambda i: register(i)(depth_of(bag.read(place_of[i])))
        return lambda i: measure(i) if i in place_of else None

    def _registration(self, depth_frame, camera_frame, camera, stamps_ns):
        """function(i) -> function(depth) that registers the depth of image i. ValueError where
        that is needed and cannot be.
        """
        info = self._infos.get(self._topics.depth_camera_info)
        depth_camera = None if info is None else to_camera(info, "depth's camera_info")
        at = lambda stamp_ns: (
            registration(
                depth_frame,
                depth_camera,
                camera_frame,
                camera,
                lambda: self._between(camera_frame, depth_frame, stamp_ns),
            )
            or (lambda depth: depth)
        )
        fixed = lru_cache(maxsize=1)(lambda: at(0))
        if (
            not same_frame(depth_frame, camera_frame)
            and self._tied(camera_frame, depth_frame)
            and self._frames.moves(camera_frame, depth_frame)
        ):
            return lambda i: at(int(stamps_ns[i]))
        fixed()
        return lambda i: fixed()

    # frames
    # -----------------------------------------------------------------------------------------------------------

    def _tied(self, target, source):
        """Whether /tf_static or, where it does not, /tf says how two frames lie."""
        if not self._frames.connected(target, source) and not self._moving:
            self._moving = True
            for place, data in self._bag.messages({TF}):  # long, and rarely needed
                try:
                    for entry in self._bag.decode(place, data).transforms:
                        self._frames.move(
                            entry.header.frame_id,
                            entry.child_frame_id,
                            to_nanoseconds(entry.header.stamp),
                            pose_of(entry),
                        )
                except ValueError as error:
                    self._bag.refuse(place, error)
        return self._frames.connected(target, source)

    def _between(self, target, source, stamp_ns):
        """T_target_source (4, 4) at a stamp; None where nothing ties them together. ValueError
        where it is not known then.
        """
        if not self._tied(target, source):
            return None
        try:
            return self._frames.at(target, source, stamp_ns)
        except LookupError as error:
            raise ValueError(
                f"how '{source}' lies to '{target}' at {stamp_ns / 1e9:.3f} s is not known: {error}"
            ) from error

    def _mount(self, base_frame, camera_frame, stamps_ns):
        """T_base_camera, (4, 4) or at each stamp (N, 4, 4), NaN where it is not known. Odometry
        says what moves; a pose without a name is the camera's own.
        """
        base, topic = base_frame or self._child_frame, self._topics.odometry
        types = {
            connection.topic: connection.msgtype for connection in self._bag.reader.connections
        }
        if not base and topic and types[topic] == ODOMETRY:
            raise ValueError(NO_BASE.format(topic=topic))
        if not base or base.lstrip("/") == camera_frame.lstrip("/"):
            return np.eye(4)
        if not self._tied(base, camera_frame):
            raise ValueError(NO_MOUNT.format(camera=camera_frame, base=base))
        if not self._frames.moves(base, camera_frame):
            return self._frames.at(base, camera_frame, 0)
        return np.array(
            [self._known_or_nan(base, camera_frame, int(stamp_ns)) for stamp_ns in stamps_ns]
        )

    def _known_or_nan(self, base, camera, stamp_ns):
        try:
            return self._frames.at(base, camera, stamp_ns)
        except LookupError:
            return np.full((4, 4), np.nan)
