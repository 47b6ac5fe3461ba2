"""Make keyframes from plain topics: synchronize images with camera_info, depth and the front end's
poses, and select keyframes.
"""

import time

import numpy as np
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from vggt3_ros.frontend.pose_track import PoseTrack, motion_covariance
from vggt3_ros.frontend.selection import KeyframeSelector
from vggt3_ros.frontend.synchronizer import Nearest, Synchronizer
from vggt3_ros.geometry.frame_tree import same_frame
from vggt3_ros.messages.compressed_depth import decompress_depth
from vggt3_ros.messages.images import to_depth
from vggt3_ros.messages.reading import MAX_FRAME_NAME, rectified, to_camera, to_stamp, to_transform
from vggt3_ros.messages.registration import registration
from vggt3_ros.msg import Keyframe
from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import from_nanoseconds, from_transform
from vggt3_ros.ros.image_messages import from_depth
from vggt3_ros.ros.input.frames_topic import FramesTopic
from vggt3_ros.ros.input.input_monitor import InputMonitor
from vggt3_ros.ros.input.listener import Listener
from vggt3_ros.ros.input.tracks import Between, Optional, Timeless

POSES = {
    "odometry": (Odometry, "odometry"),
    "pose": (PoseStamped, "frontend_pose"),
    "pose_with_covariance": (PoseWithCovarianceStamped, "frontend_pose"),
}
IMAGES = {"raw": (Image, "image"), "compressed": (CompressedImage, "image/compressed")}
DEPTHS = {"raw": (Image, "depth"), "compressedDepth": (CompressedImage, "depth/compressedDepth")}
RIGHTS = {"raw": (Image, "right/image"), "compressed": (CompressedImage, "right/image/compressed")}
REFUSED_SECONDS = 1.0  # pause after a refusal, so that a fault is not reported for every image


class TopicInput:
    """Subscribes according to the parameters input.* and passes keyframes to core.intake. jumped()
    is called when the front end's odometry frame jumps.
    """

    def __init__(self, node, core, jumped):
        self._core, self._jumped, self._log = core, jumped, node.get_logger()
        config = self._config
        # A single group: messages are synchronized in one thread.
        group = MutuallyExclusiveCallbackGroup()
        self._selector = KeyframeSelector()
        self._last_pose, self._quiet_until, self._track = None, 0.0, core.intake.track
        self._odom_frame = self._body_frame = self._camera_frame = None
        self._poses = PoseTrack(0, T_kept_frontend=core.intake.T_kept_frontend)
        self._info = self._right_info = self._depth_info = None
        self._last_image_ns, self._repeated, self._late, self._depth_frame = None, 0, 0, ""
        # Depth, or the right image from which it is computed.
        self._depth = Nearest(0, 2 * config.sync_queue)
        self._mount = Between(self._T_body_cam)
        tracks = {
            "camera_info": Timeless(lambda: self._info),
            "poses": self._poses,
            "transform": self._mount,
        }
        self._listener = Listener(node)
        self.monitor = InputMonitor(
            node,
            lambda: self._config.timeout,
            core.intake.refuse,
            self._notes,
            listener=self._listener,
        )
        self.monitor.subscribe(
            *IMAGES[config.image_transport], self._take_image, qos.IMAGES, group
        )
        self.monitor.subscribe(CameraInfo, "camera_info", self._take_info, qos.IMAGES, group)
        self.monitor.subscribe(*POSES[config.source], self._take_pose, qos.ODOMETRY, group)
        if config.depth_transport == "stereo":
            tracks.update(right=self._depth, right_info=Timeless(lambda: self._right_info))
            self.monitor.subscribe(
                *RIGHTS[config.image_transport], self._take_depth, qos.IMAGES, group
            )
            self.monitor.subscribe(
                CameraInfo, "right/camera_info", self._take_right_info, qos.IMAGES, group
            )
        elif config.depth_transport != "none":
            self.monitor.subscribe(
                *DEPTHS[config.depth_transport], self._take_depth, qos.IMAGES, group
            )
            calibration = self.monitor.subscribe(
                CameraInfo,
                "depth/camera_info",
                self._take_depth_info,
                qos.IMAGES,
                group,
                needed=False,
            )
            tracks.update(
                depth=self._depth,
                depth_info=Optional(lambda: self._depth_info, lambda: calibration.can_come),
                depth_transform=Between(self._T_cam_depth),
            )
        self._frames = None  # created when a transform is needed
        self._listen_to_frames = lambda: FramesTopic(
            node, self._listener, group, lambda: self._config.gap_ns, self._proceed
        )
        if config.T_base_camera() is None and (config.source == "odometry" or config.base_frame):
            self._frames = self._listen_to_frames()
        self._sync = Synchronizer(tracks, config.sync_queue)
        self._listener.begin()

    @property
    def _config(self):
        return self._core.parameters.node.input

    def destroy(self):
        self._listener.close()
        self.monitor.destroy()

    # topics
    # -----------------------------------------------------------------------------------------------------------

    def _take_image(self, message):
        self._follow_resets()
        _check_frame(message.header.frame_id)
        self._camera_frame = (
            self._config.camera_frame
            or message.header.frame_id
            or (self._info.header.frame_id if self._info else "")
        )
        stamp_ns = to_stamp(message.header)
        if stamp_ns == self._last_image_ns:
            self._repeated += 1  # not refused: two publishers of the same image are not a fault
            return
        self._last_image_ns = stamp_ns
        self._sync.add(stamp_ns, message)
        self._proceed()

    def _take_info(self, message):
        self._info = rectified(message) if self._config.rectified else message
        self._proceed()

    def _take_right_info(self, message):
        self._right_info = rectified(message) if self._config.rectified else message
        self._proceed()

    def _take_depth_info(self, message):
        self._depth_info = rectified(message) if self._config.rectified else message
        self._proceed()

    def _take_depth(self, message):
        _check_frame(message.header.frame_id)
        self._depth_frame = message.header.frame_id
        self._depth.add(to_stamp(message.header), message)
        self._proceed()

    def _take_pose(self, message):
        given = message.pose if isinstance(message, PoseStamped) else message.pose.pose
        covariance = (
            None
            if isinstance(message, PoseStamped)
            else np.reshape(message.pose.covariance, (6, 6))
        )
        self._follow_resets()
        stamp_ns = to_stamp(message.header)
        try:
            pose = to_transform(
                given, "odometry" if isinstance(message, Odometry) else "frontend_pose"
            )
        except ValueError:
            self._poses.lose(stamp_ns)  # images at that time have no pose
            raise
        for frame in (message.header.frame_id, getattr(message, "child_frame_id", "")):
            _check_frame(frame)
        self._body_frame = self._config.base_frame or getattr(message, "child_frame_id", "")
        if (
            isinstance(message, Odometry)
            and not self._body_frame
            and self._config.T_base_camera() is None
        ):
            raise ValueError(
                "odometry.child_frame_id is empty, so that the moving frame is unknown: set input.base_frame to the frame that "
                "the poses describe (that of the images if it is the camera), or input.base_to_camera"
            )
        if message.header.frame_id != self._odom_frame:
            self._odom_frame = message.header.frame_id
            self._poses.clear()
        self._poses.gap_ns = self._config.gap_ns
        self._poses.jump_translation, self._poses.jump_rotation = (
            self._config.jump_translation,
            self._config.jump_rotation,
        )
        jump = self._poses.add(
            stamp_ns, pose, covariance if covariance is not None and covariance.any() else None
        )
        if jump is not None:
            self._log.warning(
                f"the poses in '{self._odom_frame}' jumped by {jump[0]:.2f} m, {jump[1]:.2f} rad: bridged"
            )
            self._core.intake.moved(self._poses.T_kept_frontend)
            self._jumped()
        self._proceed()

    # sets
    # -------------------------------------------------------------------------------------------------------------

    def _proceed(self):
        self._depth.tolerance_ns = self._config.tolerance_ns
        for stamp_ns, image, found in self._sync.ready():
            self.monitor.arrived()
            self._consider(stamp_ns, image, found)
        self._core.intake.images_dropped = (
            sum(self._sync.missed.values()) + self._repeated + self._late
        )

    def _T_body_cam(self, stamp_ns):
        """Return (4, 4), or None while unknown; see FrameTree.at."""
        transform = self._config.T_base_camera()
        if transform is not None or None in (self._body_frame, self._camera_frame):
            return transform
        if self._body_frame in ("", self._camera_frame):
            return np.eye(4)
        return (
            None
            if self._frames is None
            else self._frames.at(self._body_frame, self._camera_frame, stamp_ns)
        )

    def _T_cam_depth(self, stamp_ns):
        """Return the pose (4, 4) of the depth camera in the image camera, identity if they share a
        frame; None while unknown.
        """
        if not self._is_apart():
            return np.eye(4)
        if self._frames is None:
            self._frames = self._listen_to_frames()
        return self._frames.at(self._camera_frame, self._depth_frame, stamp_ns)

    def _is_apart(self):
        """Return whether depth and image have different frames."""
        return not same_frame(self._depth_frame, self._camera_frame)

    def _consider(self, stamp_ns, image, found):
        if time.monotonic() < self._quiet_until:
            return
        info, pose, T_body_cam = (found[name] for name in ("camera_info", "poses", "transform"))
        try:
            camera, T_kept_cam = to_camera(info), pose.T_kept_body @ T_body_cam
            if not self._selector.reason(
                stamp_ns, T_kept_cam, camera, self._core.parameters.node.selection
            ):
                self._late += stamp_ns < self._selector.newest_ns
                return
            message = self._keyframe(stamp_ns, image, found, camera, T_kept_cam)
        except (ValueError, MemoryError) as error:
            self._core.intake.refuse(f"keyframe {self._core.store.next_public_id()}: {error}")
            self._quiet_until = time.monotonic() + REFUSED_SECONDS
            return
        covariance = (
            None
            if self._last_pose is None
            else motion_covariance(self._last_pose, pose, T_body_cam)
        )
        if covariance is not None:
            message.odometry_covariance = covariance.ravel()
        self._last_pose = pose  # even if it is refused: the intake accounts for skipped keyframes
        keyframe = self._core.intake.take(message)
        if keyframe is None:
            self._quiet_until = time.monotonic() + REFUSED_SECONDS
        else:
            self._selector.keep(stamp_ns, T_kept_cam, camera, keyframe.depth)

    def _keyframe(self, stamp_ns, image, found, camera, T_kept_cam):
        """Return a synchronized set as a vggt3_ros/Keyframe, which the intake reads like that of a
        front end.
        """
        message = Keyframe(
            header=Header(stamp=from_nanoseconds(stamp_ns), frame_id=self._odom_frame),
            id=self._core.store.next_public_id(),
            camera_info=found["camera_info"],
            camera_frame_id=self._camera_frame,
            t_odom_camera=from_transform(T_kept_cam),
        )
        _set_image(message, "", image)
        if "right" in found:
            _set_image(message, "right_", _not_empty(found["right"], "right_image"))
            message.right_camera_info = found["right_info"]
        elif "depth" in found:
            message.depth = self._registered(
                _not_empty(found["depth"], "depth"), found, image, camera
            )
        return message

    def _registered(self, depth, found, image, camera):
        """Return depth (Image or CompressedImage) as an Image registered to the camera of `image`."""
        info = found["depth_info"]
        register = registration(
            self._depth_frame,
            None if info is None else to_camera(info, "depth/camera_info"),
            self._camera_frame,
            camera,
            lambda: found["depth_transform"],
        )
        if register is not None:
            metres = to_depth(depth) if isinstance(depth, Image) else decompress_depth(depth)
            return from_depth(register(metres), image.header)
        if not isinstance(depth, Image):
            return from_depth(
                decompress_depth(depth, size=(camera.width, camera.height)), image.header
            )
        depth.header = image.header  # the same frame, whatever its name
        return depth

    def _follow_resets(self):
        """Start over if the keyframes were discarded."""
        if self._track == self._core.intake.track:
            return
        self._track = self._core.intake.track
        self._selector.forget()
        self._poses.clear()
        self._poses.T_kept_frontend = self._core.intake.T_kept_frontend
        self._last_pose = None

    def _notes(self):
        notes = []
        if (
            self._frames is not None
            and self._camera_frame is not None
            and self._body_frame not in (None, "", self._camera_frame)
        ):
            static, moving = self._frames.topics
            if not self._frames.connected(self._body_frame, self._camera_frame):
                notes.append(
                    f"{moving} or {static} with the transform from '{self._camera_frame}' to '{self._body_frame}' "
                    "(or set input.base_to_camera)"
                )
            elif self._mount.late:
                notes.append(f"{moving}: {self._mount.late}")
        paired = next((name for name in ("depth", "right") if name in self._sync.tracks), None)
        if paired:
            notes.append(
                f"{paired} within sync_tolerance {self._config.sync_tolerance} s of the image"
            )
        if (
            self._is_apart()
            and self._frames is not None
            and not self._frames.connected(self._camera_frame, self._depth_frame)
        ):
            notes.append(
                f"{self._frames.topics[1]} or {self._frames.topics[0]} with the transform from '{self._depth_frame}' of the depth to "
                f"'{self._camera_frame}' of the image"
            )
        if self._repeated:
            notes.append(f"images dropped: {self._repeated} with the stamp of the previous image")
        if self._late:
            notes.append(
                f"images dropped: {self._late} that arrived after a keyframe with a later stamp"
            )
        if self._poses.late:
            notes.append(
                f"poses dropped: {self._poses.late} stamped no later than the previous one"
            )
        if self._sync.missed:
            counts = ", ".join(f"{count} for {name}" for name, count in self._sync.missed.items())
            notes.append(f"images dropped: {counts}; the last for {self._sync.last_miss}")
        return notes


def _check_frame(name):
    if len(name) > MAX_FRAME_NAME or not name.isprintable():
        raise ValueError(
            f"frame ids must be at most {MAX_FRAME_NAME} printable characters, got {len(name)}"
        )


def _set_image(message, name, image):
    """Assign an Image or CompressedImage to its field of a vggt3_ros/Keyframe."""
    setattr(
        message, f"{name}image" if isinstance(image, Image) else f"{name}compressed_image", image
    )


def _not_empty(image, name):
    """Return the message. Raises ValueError if it is empty, because the Keyframe would count as
    one without depth.
    """
    if not len(image.data):
        raise ValueError(f"{name}.data is empty")
    return image
