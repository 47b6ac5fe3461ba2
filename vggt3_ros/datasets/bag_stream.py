"""Plain topics of a bag as a Recording: images with CameraInfo, odometry, depth, a second camera,
frames and truth.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

import numpy as np

from vggt3_ros.datasets.bag import Bag, Place
from vggt3_ros.datasets.bag_types import Message
from vggt3_ros.datasets.bag_values import depth_of, image_of, pose_of, series, wide_images
from vggt3_ros.datasets.odometry import OdometryAtImages, track_of
from vggt3_ros.datasets.recording import Recording
from vggt3_ros.datasets.rosbag_topics import COMPRESSED, ODOMETRY, TF, TF_STATIC, Topics
from vggt3_ros.datasets.trajectories import MAX_POSE_GAP_NS, offset_text, paired, poses_at
from vggt3_ros.frontend.pairing import PairingConfig
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.frame_tree import FrameTree, same_frame
from vggt3_ros.messages.levels import Levels, spread
from vggt3_ros.messages.reading import rectified, to_camera, to_nanoseconds, to_stereo_pair
from vggt3_ros.messages.registration import registration
from vggt3_ros.messages.serialized import image_facts

_log = logging.getLogger(__name__)
NO_MOUNT = (
    "neither /tf_static nor /tf has a transform from '{camera}' to '{base}', the frame whose motion the odometry describes: "
    "give --camera-in-base 'x y z qx qy qz qw'"
)
NO_BASE = (
    "{topic} has no child_frame_id, so the frame that it describes is unknown: name it with --base-frame, or give --camera-in-base "
    "'x y z qx qy qz qw' (0 0 0 0 0 0 1 if the poses are those of the camera's optical frame)"
)


@dataclass
class _Images:
    """Images of one topic: {stamp_ns: Place}, the first frame_id, and their sizes. Sizes of
    compressed images are read only if `sized`.
    """

    sized: bool = True
    places: dict[int, Place] = field(default_factory=dict)
    sizes: dict[int, tuple[int, int] | None] = field(default_factory=dict)
    frame: str = ""

    def add(self, place: Place, data: bytes) -> None:
        facts = image_facts(data, place.connection.msgtype == COMPRESSED, self.sized)
        if not facts.stamp_ns:
            raise ValueError("header.stamp is zero: the time of exposure is required")
        if facts.stamp_ns in self.places:
            raise ValueError("an earlier image has the same stamp")
        self.places[facts.stamp_ns], self.sizes[facts.stamp_ns] = place, facts.size
        self.frame = self.frame or facts.frame

    def only(self, bag: Bag, camera: Camera, name: str) -> None:
        """Refuse the images whose size differs from the camera's."""
        for stamp_ns, size in self.sizes.items():
            if size is not None and size != (camera.width, camera.height):
                bag.refuse(
                    self.places.pop(stamp_ns),
                    f"{name} is {size[0]}x{size[1]}, but camera_info says {camera.width}x{camera.height}",
                )

    @property
    def stamps_ns(self) -> np.ndarray:
        return np.array(sorted(self.places), np.int64)


class Stream:
    """Plain topics of a bag, read in one pass.

    offsets_ns: nanoseconds to add to the stamps of each list (trajectories.offsets_ns). rectified:
    see read_rosbag. Raise ValueError if a required topic has no valid message.
    """

    def __init__(
        self,
        bag: Bag,
        topics: Topics,
        rectified: bool,
        pairing: PairingConfig,
        offsets_ns: Mapping[str, int],
    ) -> None:
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
        self._poses: dict[str | None, list[tuple[int, np.ndarray, np.ndarray]]] = {
            topics.odometry: [],
            topics.groundtruth: [],
        }
        self._lost: list[int] = []
        self._child_frame = ""
        self._infos: dict[str | None, Message] = {}
        self._frames: FrameTree[np.ndarray] = FrameTree(MAX_POSE_GAP_NS, history=None)
        self._moving = False
        infos = topics.camera_info, topics.right_camera_info, topics.depth_camera_info
        for place, data in bag.messages({*self._images, *self._poses, *infos, TF_STATIC}):
            try:
                self._take(place, data)
            except ValueError as error:
                bag.refuse(place, error)
                if place.topic == topics.odometry:
                    self._lost.append(place.stamp_ns + self._offsets["odometry"])
        for topic, received in (
            (topics.camera_info, topics.camera_info in self._infos),
            (topics.image, bool(self._images[str(topics.image)].places)),
            (topics.right_camera_info, topics.right_camera_info in self._infos),
        ):
            if topic and not received:
                raise ValueError(bag.why_none(topic))
        if topics.odometry in bag.refused and not self._poses[topics.odometry]:
            raise ValueError(bag.why_none(topics.odometry))

    def _take(self, place: Place, data: bytes) -> None:
        topic = place.topic
        if topic in self._images:
            self._images[topic].add(place, data)
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
            to_camera(message)  # raises on an uncalibrated one, which is skipped
            self._infos[topic] = message

    def _take_pose(self, place: Place, message: Message) -> None:
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

    def recording(self, T_base_cam: np.ndarray | None, base_frame: str) -> Recording:
        """Return the Recording; see read_rosbag for the arguments. Raise ValueError."""
        topics, info = self._topics, self._infos[self._topics.camera_info]
        camera = to_camera(info)
        seen = self._images[str(topics.image)]
        seen.only(self._bag, camera, "image")
        if not seen.places:
            raise ValueError(self._bag.why_none(str(topics.image)))
        camera_frame, stamps_ns = seen.frame or info.header.frame_id, seen.stamps_ns
        if T_base_cam is None:
            T_base_cam = (
                self._mount(base_frame, camera_frame, stamps_ns)
                if topics.odometry or topics.groundtruth
                else np.eye(4)
            )
        odometry = self._odometry(stamps_ns, T_base_cam)

        def read(i: int) -> Message:
            return self._bag.read(seen.places[int(stamps_ns[i])])

        levels = Levels(look=lambda: wide_images(read(i) for i in spread(len(stamps_ns))))

        def load_image(i: int) -> np.ndarray:
            return image_of(read(i), camera, levels)

        return Recording(
            Path(self._bag.path).stem,
            camera,
            stamps_ns,
            load_image,
            self._load_depth(stamps_ns, load_image, camera, camera_frame, levels),
            None if odometry is None else odometry.T_odom_cam,
            self._truth(stamps_ns, T_base_cam),
            motion=None if odometry is None else odometry.motion,
        )

    def _odometry(self, stamps_ns: np.ndarray, T_base_cam: np.ndarray) -> OdometryAtImages | None:
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
        if not found.known.any():
            self._nothing_at(stamps_ns, np.sort(at), "odometry")
        return found

    def _truth(self, stamps_ns: np.ndarray, T_base_cam: np.ndarray) -> np.ndarray | None:
        given = self._poses.get(self._topics.groundtruth)
        if not self._topics.groundtruth or not given:
            return None
        at, poses = series(
            [(stamp_ns + self._offsets["groundtruth"], pose) for stamp_ns, pose, _ in given]
        )
        found: np.ndarray = poses_at(at, poses, stamps_ns) @ T_base_cam
        if not np.isfinite(found).any():
            self._nothing_at(stamps_ns, at, "groundtruth")
        return found

    def _nothing_at(self, stamps_ns: np.ndarray, at: np.ndarray, name: str) -> NoReturn:
        raise ValueError(
            f"no {name} pose is known at the time of any image: {offset_text(stamps_ns, at, name)}"
        )

    def _load_depth(
        self,
        stamps_ns: np.ndarray,
        load_image: Callable[[int], np.ndarray],
        camera: Camera,
        camera_frame: str,
        levels: Levels,
    ) -> Callable[[int], np.ndarray | None] | None:
        """Return load_depth of the Recording, or None without depth. Raise ValueError."""
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
            _log.warning("%s: %s has no messages: continuing without depth", self._where, beside)
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

            def measure(i: int) -> np.ndarray:
                right_image = image_of(bag.read(place_of[i]), right, levels)
                return pair.depth_of_left(load_image(i), right_image)

        else:
            register = self._registration(held.frame, camera_frame, camera, stamps_ns)

            def measure(i: int) -> np.ndarray:
                return register(i)(depth_of(bag.read(place_of[i])))

        return lambda i: measure(i) if i in place_of else None

    def _registration(
        self, depth_frame: str, camera_frame: str, camera: Camera, stamps_ns: np.ndarray
    ) -> Callable[[int], Callable[[np.ndarray], np.ndarray]]:
        """Return a function from an image's index to the function that registers its depth.

        Raise ValueError if registration is needed but impossible.
        """
        info = self._infos.get(self._topics.depth_camera_info)
        depth_camera = None if info is None else to_camera(info, "depth's camera_info")

        def at(stamp_ns: int) -> Callable[[np.ndarray], np.ndarray]:
            found = registration(
                depth_frame,
                depth_camera,
                camera_frame,
                camera,
                lambda: self._between(camera_frame, depth_frame, stamp_ns),
            )
            return found or (lambda depth: depth)

        fixed = lru_cache(maxsize=1)(lambda: at(0))
        if (
            not same_frame(depth_frame, camera_frame)
            and self._connected(camera_frame, depth_frame)
            and self._frames.moves(camera_frame, depth_frame)
        ):
            return lambda i: at(int(stamps_ns[i]))
        fixed()
        return lambda i: fixed()

    def _connected(self, target: str, source: str) -> bool:
        """Whether /tf_static or, failing that, /tf connects two frames."""
        if not self._frames.connected(target, source) and not self._moving:
            self._moving = True
            for place, data in self._bag.messages({TF}):  # many messages, rarely needed
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

    def _between(self, target: str, source: str, stamp_ns: int) -> np.ndarray | None:
        """Return T_target_source (4, 4) at a stamp; None if the frames are not connected. Raise
        ValueError if it is unknown at that time.
        """
        if not self._connected(target, source):
            return None
        try:
            return self._frames.at(target, source, stamp_ns)
        except LookupError as error:
            raise ValueError(
                f"the transform from '{source}' to '{target}' is unknown at {stamp_ns / 1e9:.3f} s: {error}"
            ) from error

    def _mount(self, base_frame: str, camera_frame: str, stamps_ns: np.ndarray) -> np.ndarray:
        """Return T_base_camera, (4, 4), or (N, 4, 4) at each stamp, NaN where unknown.

        The base is the odometry's child frame. Poses that name no frame are the camera's own.
        """
        base, topic = base_frame or self._child_frame, self._topics.odometry
        types = {
            connection.topic: connection.msgtype for connection in self._bag.reader.connections
        }
        if not base and topic and types[topic] == ODOMETRY:
            raise ValueError(NO_BASE.format(topic=topic))
        if not base or base.lstrip("/") == camera_frame.lstrip("/"):
            return np.eye(4)
        if not self._connected(base, camera_frame):
            raise ValueError(NO_MOUNT.format(camera=camera_frame, base=base))
        if not self._frames.moves(base, camera_frame):
            return self._frames.at(base, camera_frame, 0)
        return np.array(
            [self._known_or_nan(base, camera_frame, int(stamp_ns)) for stamp_ns in stamps_ns]
        )

    def _known_or_nan(self, base: str, camera: str, stamp_ns: int) -> np.ndarray:
        try:
            return self._frames.at(base, camera, stamp_ns)
        except LookupError:
            return np.full((4, 4), np.nan)
