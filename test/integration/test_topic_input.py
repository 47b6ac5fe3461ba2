"""Plain topics become keyframes: the right image with the right pose, depth and covariance; what
does not belong together does not.
"""

import time

import cv2
import numpy as np
import pytest
from camera_rig import (
    BASELINE,
    CAMERA,
    DISPARITY,
    MS,
    START_NS,
    T_BASE_CAM,
    T_MOUNT_CAM,
    CameraRig,
    Head,
    depth_counts,
    jpeg,
    neck,
    path,
    picture,
    publish_static_frames,
)
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from ros_graph import until
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from vggt3_ros.srv import Reset

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.registration import registered_depth
from vggt3_ros.ros.conversions import from_camera, from_nanoseconds, to_transform_message

FRAMES = {
    "input__base_to_camera": " ".join(map(str, np.concatenate(se3.to_quaternion(T_BASE_CAM))))
}
EVERY = {"selection__translation": 0.001}  # at 0.5 m/s every image is a keyframe


def start(graph, rig, **parameters):
    backend = graph.backend(
        wait=False, input__source=rig._source, **{**FRAMES, **EVERY, **parameters}
    )
    rig.meet(backend)
    return backend


def drive(rig, numbers, depth=lambda number: 0, pose_ms=20):
    """Images 100 ms apart, poses every pose_ms from before to after them, depth shifted by
    depth(number) ms, None: lost.
    """
    times = [number * 100 for number in numbers]
    for ms in np.arange(times[0] - 107, times[-1] + 140, pose_ms):
        rig.pose(ms)
    for number, ms in zip(numbers, times):
        rig.image(number, ms)
        if rig._depth_kind is not None and depth(number) is not None:
            rig.depth(number, ms + depth(number))


def stored(backend, count):
    until(lambda: len(backend._core.store) >= count)
    return [backend._core.store.get(id) for id in backend._core.store.ids()]


def assert_pose(keyframe, number):
    difference = se3.inverse(path(number / 10) @ T_BASE_CAM) @ keyframe.T_odom_cam
    assert np.linalg.norm(difference[:3, 3]) < 1e-3 and se3.rotation_angle(difference) < 1e-3
    assert keyframe.stamp_ns == START_NS + number * 100 * MS


def test_raw_images_with_odometry_and_static_frames(graph):
    rig = CameraRig(graph)
    publish_static_frames(graph)
    backend = start(graph, rig, input__base_to_camera="")
    drive(rig, range(5))
    keyframes = stored(backend, 5)
    assert [keyframe.id for keyframe in keyframes] == [0, 1, 2, 3, 4]
    for number, keyframe in enumerate(keyframes):
        np.testing.assert_array_equal(keyframe.image, picture(number))
        assert keyframe.camera == CAMERA and keyframe.depth is None
        assert_pose(keyframe, number)
    assert (
        backend._core.intake.odom_frame == "odom"
        and backend._core.intake.camera_frame == "camera_optical"
    )


def test_a_camera_on_a_head_that_turns_is_where_it_was_when_its_image_was_taken(graph):
    """Its transforms come later than images and odometry, and not at their stamps: an image waits
    for them.
    """
    rig = CameraRig(graph)
    backend = start(graph, rig, input__base_to_camera="")
    head = Head(graph)
    drive(rig, range(5))
    time.sleep(0.3)
    assert not len(backend._core.store)
    for ms in range(-105, 400, 30):
        head.turn(ms)
    keyframes = stored(backend, 4)
    assert [keyframe.stamp_ns for keyframe in keyframes] == [
        START_NS + number * 100 * MS for number in range(4)
    ]
    for number, keyframe in enumerate(keyframes):
        difference = (
            se3.inverse(path(number / 10) @ neck(number / 10) @ T_MOUNT_CAM) @ keyframe.T_odom_cam
        )
        assert np.linalg.norm(difference[:3, 3]) < 1e-3 and se3.rotation_angle(difference) < 1e-3
    until(
        lambda: any(
            "mount is 0." in note and "older than the image" in note
            for note in backend._active_parts.input._notes()
        )
    )


def test_compressed_images_are_kept_as_received(graph):
    rig = CameraRig(graph, compressed=True)
    backend = start(graph, rig, input__image_transport="compressed")
    drive(rig, range(3))
    for number, keyframe in enumerate(stored(backend, 3)):
        np.testing.assert_array_equal(
            keyframe.image[..., ::-1],
            cv2.imdecode(np.frombuffer(jpeg(number), np.uint8), cv2.IMREAD_COLOR),
        )
        assert_pose(keyframe, number)


@pytest.mark.parametrize("transport", ["raw", "compressedDepth"])
def test_jittered_and_missing_depth(graph, transport):
    """Depth stamped up to 15 ms off belongs to its image; images whose depth was lost are passed
    over.
    """
    rig = CameraRig(graph, depth=transport)
    backend = start(graph, rig, input__depth_transport=transport)
    shifts = [0, 15, None, -15, 7, None, -3, 0, 12, 0]
    drive(rig, range(10), depth=lambda number: shifts[number])
    kept = [number for number in range(10) if shifts[number] is not None]
    keyframes = stored(backend, len(kept))
    assert len(keyframes) == len(kept)
    for number, keyframe in zip(kept, keyframes):
        np.testing.assert_array_equal(keyframe.image, picture(number))
        np.testing.assert_allclose(keyframe.depth, depth_counts(number) / 1000, rtol=1e-6)
        assert_pose(keyframe, number)
    assert backend._active_parts.input._sync.missed["depth"] >= 2


def test_a_right_image_gives_depth(graph):
    rig = CameraRig(graph, depth="stereo")
    backend = start(graph, rig, input__depth_transport="stereo", input__rectified=True)
    drive(rig, range(4), depth=lambda number: 5)
    for number, keyframe in enumerate(stored(backend, 4)):
        np.testing.assert_array_equal(keyframe.image, picture(number))
        inner = keyframe.depth[4:-4, 8:-8]
        assert (inner > 0).mean() > 0.9
        np.testing.assert_allclose(
            np.median(inner[inner > 0]), CAMERA.fx * BASELINE / DISPARITY, rtol=0.02
        )
        assert_pose(keyframe, number)


def test_the_sync_tolerance_may_change_while_running(graph):
    rig = CameraRig(graph, depth="raw")
    backend = start(graph, rig, input__depth_transport="raw")
    missed = backend._active_parts.input._sync.missed
    drive(rig, range(3), depth=lambda number: 30)
    rig.depth(99, 330)
    until(lambda: missed["depth"] >= 3)
    assert not backend._core.store.ids()
    assert backend.set_parameters([Parameter("input.sync_tolerance", value=0.04)])[0].successful
    drive(rig, range(10, 13), depth=lambda number: 30)
    assert [keyframe.stamp_ns for keyframe in stored(backend, 3)] == [
        START_NS + number * 100 * MS for number in range(10, 13)
    ]


def test_slow_poses_that_come_late_serve_the_images_stamped_as_they_are(graph):
    """A tracker that gives the pose of every fifth image, long after it."""
    rig = CameraRig(graph)
    backend = start(graph, rig)
    for number in range(16):
        rig.image(number, number * 100)
    for number in range(0, 16, 5):
        rig.pose(number * 100)
    keyframes = stored(backend, 4)
    for number, keyframe in zip(range(0, 16, 5), keyframes):
        np.testing.assert_array_equal(keyframe.image, picture(number))
        assert_pose(keyframe, number)
    assert len(keyframes) == 4


def test_keyframes_are_selected_by_motion(graph):
    rig = CameraRig(graph)
    backend = start(
        graph, rig, selection__translation=0.24, selection__rotation=0.0, selection__overlap=0.0
    )
    drive(rig, range(21))
    until(lambda: backend._active_parts.input._selector._last.stamp_ns == START_NS + 2000 * MS)
    assert [(keyframe.stamp_ns - START_NS) // (100 * MS) for keyframe in stored(backend, 5)] == [
        0,
        5,
        10,
        15,
        20,
    ]


@pytest.mark.parametrize("source", ["odometry", "pose_with_covariance"])
def test_growing_covariances_become_those_of_the_motion(graph, source):
    rig = CameraRig(graph, source=source)
    backend = start(graph, rig, input__base_frame="base_link")
    noise = np.diag([1e-4, 2e-4, 3e-4, 1e-5, 1e-5, 1e-5])
    for number in range(3):
        rig.pose(number * 100, covariance=noise * (1 + 5 * number))
        rig.image(number, number * 100)
    first, second, third = stored(backend, 3)
    assert first.odometry_covariance is None
    for keyframe in (second, third):
        sigma = np.sqrt(np.diag(keyframe.odometry_covariance))
        assert np.all((sigma[:3] > 0.02) & (sigma[:3] < 0.05)) and np.all(
            (sigma[3:] > 0.005) & (sigma[3:] < 0.01)
        )


def test_reliable_publishers_are_heard_too(graph):
    rig = CameraRig(graph, depth="raw", profile=QoSProfile(depth=50))
    backend = start(graph, rig, input__depth_transport="raw")
    drive(rig, range(3))
    assert len(stored(backend, 3)) == 3


def test_ids_go_on_after_a_restart_and_begin_anew_after_a_reset(graph):
    rig = CameraRig(graph)
    backend = start(graph, rig)
    drive(rig, range(3))
    stored(backend, 3)
    graph.stop(backend)
    backend = start(graph, rig)
    drive(rig, range(10, 13))
    assert [keyframe.id for keyframe in stored(backend, 6)] == [0, 1, 2, 3, 4, 5]
    until(lambda: backend._core.worker.ready)
    assert graph.call(Reset, "reset", Reset.Request()).keyframes == 6
    drive(rig, range(20, 24))
    keyframes = stored(backend, 2)
    assert keyframes[0].id == 0 and keyframes[0].stamp_ns >= START_NS + 2000 * MS


def test_what_cannot_be_read_is_refused_by_name_and_the_next_is_taken(graph):
    rig = CameraRig(graph)
    backend = start(graph, rig)
    rig.pose(0)
    rig.image(0, 0, encoding="strange8")
    until(lambda: backend._core.intake.refused == 1)
    assert backend._core.intake.last_refusal.startswith(
        "keyframe 0: image.encoding 'strange8' is unknown"
    )
    rig.pose(1)
    for number in range(20, 40):  # for a second after a refusal none is looked at
        rig.pose(number * 100)
        rig.image(number, number * 100)
        backend._active_parts.input._quiet_until = 0.0
    keyframe = stored(backend, 1)[0]
    assert keyframe.id == 0
    np.testing.assert_array_equal(
        keyframe.image, picture((keyframe.stamp_ns - START_NS) // (100 * MS))
    )


def test_poses_that_are_none_are_counted_with_their_reason(graph):
    rig = CameraRig(graph)
    backend = start(graph, rig)
    lost = np.eye(4)
    lost[0, 3] = np.nan
    poses = backend._active_parts.input.monitor.topics[2]
    before = poses.count
    rig.pose(0, transform=lost)
    until(lambda: poses.count == before + 1 and poses.bad)
    assert poses.reason == "odometry.position holds NaN or infinity"
    drive(rig, range(1, 3))
    assert len(stored(backend, 2)) == 2


def test_rectified_images_take_p_for_k(graph):
    rig = CameraRig(graph)
    backend = start(graph, rig, input__rectified=True)
    drive(rig, range(1, 3))
    assert (
        stored(backend, 1)[0].camera == CAMERA.undistorted()
        or not stored(backend, 1)[0].camera.is_distorted
    )


# what a front end and its drivers may say otherwise
# --------------------------------------------------------------------------------


def test_a_bag_from_before_is_refused_and_said(graph):
    """An older bag, or one that is played again: not silence, but what the topic keyframes
    says.
    """
    rig = CameraRig(graph)
    backend = start(graph, rig)
    drive(rig, range(36_000, 36_003))
    stored(backend, 3)
    intake, status = backend._core.intake, graph.status()
    assert not intake.refused
    drive(rig, range(3))
    until(lambda: intake.refused and "did the clock or the bag restart?" in intake.last_refusal)
    until(
        lambda: (
            status[-1].refused
            and "Call reset, or set_mode with new_session" in status[-1].last_refusal
        )
    )
    assert len(backend._core.store) == 3


def test_an_image_at_which_the_front_end_was_lost_has_no_pose(graph):
    rig = CameraRig(graph)
    backend = start(graph, rig, input__pose_gap=1.0)
    for number in range(6):
        if number == 3:
            nobody = Odometry(
                header=Header(stamp=from_nanoseconds(START_NS + 300 * MS), frame_id="odom"),
                child_frame_id="base_link",
            )
            nobody.pose.pose.orientation.w = 0.0
            rig._publish(rig._poses, nobody)
        else:
            rig.pose(number * 100)
    for number in range(6):
        rig.image(number, number * 100)
    keyframes = stored(backend, 5)
    assert [(keyframe.stamp_ns - START_NS) // (100 * MS) for keyframe in keyframes] == [
        0,
        1,
        2,
        4,
        5,
    ]
    assert "orientation is 0 0 0 0: the front end was lost" in backend._core.intake.last_refusal
    assert "the front end was lost there" in backend._active_parts.input._sync.last_miss


def test_odometry_that_does_not_say_what_moves_is_refused_until_it_is_said(graph):
    rig = CameraRig(graph)
    publish_static_frames(graph)
    backend = graph.backend(
        wait=False, input__source="odometry", input__base_to_camera="", **EVERY
    )
    rig.meet(backend)
    intake, refused = backend._core.intake, backend._core.intake.refused
    rig.pose(0, child="")
    until(lambda: intake.refused > refused)
    assert (
        "odometry.child_frame_id is empty" in intake.last_refusal
        and "input.base_frame" in intake.last_refusal
    )
    graph.stop(backend)
    rig = CameraRig(graph)
    backend = graph.backend(
        wait=False,
        input__source="odometry",
        input__base_to_camera="",
        input__base_frame="base_link",
        **EVERY,
    )
    rig.meet(backend)
    for ms in range(-7, 300, 20):
        rig.pose(ms, child="")
    for number in range(3):
        rig.image(number, number * 100)
    for number, keyframe in enumerate(stored(backend, 3)):
        assert_pose(keyframe, number)


def test_images_with_the_stamp_of_the_one_before_are_counted(graph):
    rig = CameraRig(graph)
    backend = start(graph, rig)
    before = backend._core.intake.images_dropped
    drive(rig, [0])
    for _ in range(4):
        rig.image(1, 0)
    rig.pose(200)
    until(lambda: backend._core.intake.images_dropped == before + 4)
    assert any(
        "with the stamp of the previous image" in note
        for note in backend._active_parts.input._notes()
    )
    assert len(stored(backend, 1)) == 1


def test_an_image_that_comes_after_a_later_keyframe_is_counted(graph):
    rig = CameraRig(graph)
    backend = start(graph, rig)
    drive(rig, [0, 5])
    stored(backend, 2)
    before = backend._core.intake.images_dropped
    rig.image(2, 200)
    rig.pose(800)
    until(lambda: backend._core.intake.images_dropped == before + 1)
    assert len(backend._core.store) == 2 and not backend._core.intake.refused
    assert any(
        "arrived after a keyframe with a later stamp" in note
        for note in backend._active_parts.input._notes()
    )


BESIDE = Camera(
    CAMERA.width, CAMERA.height, 0.7 * CAMERA.fx, 0.7 * CAMERA.fy, CAMERA.cx + 1, CAMERA.cy - 1
)
T_CAM_DEPTH = se3.exp([0.02, 0, 0, 0, 0, 0.02])


def publish_depth_camera(graph, tied=True, calibrated=True):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    if tied:
        frames = graph.client.create_publisher(TFMessage, "/tf_static", latched)
        frames.publish(
            TFMessage(
                transforms=[
                    TransformStamped(
                        header=Header(frame_id="camera_optical"),
                        child_frame_id="depth_optical",
                        transform=to_transform_message(T_CAM_DEPTH),
                    )
                ]
            )
        )
    if calibrated:
        info = graph.client.create_publisher(
            CameraInfo, "depth/camera_info", qos_profile_sensor_data
        )
        return lambda: info.publish(from_camera(BESIDE, Header(frame_id="depth_optical")))
    return None


def shoot_with_depth_beside(rig, numbers):
    for number in numbers:
        rig.pose(number * 100)
        rig.image(number, number * 100)
        rig.depth(number, number * 100, frame="depth_optical")


def test_depth_of_another_frame_is_registered_by_its_calibration_and_tf(graph):
    rig = CameraRig(graph, depth="raw")
    calibrate = publish_depth_camera(graph)
    backend = start(graph, rig, input__depth_transport="raw")
    shoot_with_depth_beside(rig, range(3))
    until(lambda: calibrate() or backend._active_parts.input._depth_info is not None)
    for number, keyframe in enumerate(stored(backend, 3)):
        expected = registered_depth(
            depth_counts(number).astype(np.float32) / 1000, BESIDE, CAMERA, T_CAM_DEPTH
        )
        np.testing.assert_allclose(keyframe.depth, expected, atol=2e-3)
        assert (expected > 0).any() and np.abs(expected - depth_counts(number) / 1000).max() > 0.1


def test_depth_of_another_frame_waits_for_what_ties_it_to_the_image(graph):
    rig = CameraRig(graph, depth="raw")
    backend = start(graph, rig, input__depth_transport="raw")
    shoot_with_depth_beside(rig, range(3))
    time.sleep(0.5)
    assert not len(backend._core.store)
    assert any(
        "with the transform from 'depth_optical' of the depth to 'camera_optical'" in note
        for note in backend._active_parts.input._notes()
    )


def test_depth_of_another_frame_without_its_calibration_is_refused(graph):
    rig = CameraRig(graph, depth="raw")
    publish_depth_camera(graph, calibrated=False)
    backend = start(graph, rig, input__depth_transport="raw")
    shoot_with_depth_beside(rig, range(3))
    until(lambda: "the depth has no camera_info of its own" in backend._core.intake.last_refusal)
    assert not len(backend._core.store)
