"""When nothing arrives the node says what it waits for and why it may not come: in status,
diagnostics and log.
"""

import time
from types import SimpleNamespace

import rclpy
from camera_rig import T_BASE_CAM, CameraRig
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry
from random_keyframes import make_keyframe
from rcl_interfaces.msg import Log
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from ros_graph import until
from sensor_msgs.msg import CompressedImage
from vggt3_ros.msg import Keyframe

from vggt3_ros.geometry import se3
from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import from_keyframe
from vggt3_ros.ros.input import input_monitor

SOON = {"input__timeout": 0.3}
MOUNTED = {
    "input__base_to_camera": " ".join(
        map(str, [*se3.to_quaternion(T_BASE_CAM)[0], *se3.to_quaternion(T_BASE_CAM)[1]])
    )
}


def said(graph, *texts):
    """Until the status says all of them."""
    status = graph.status()
    until(lambda: status and all(text in status[-1].input_msg for text in texts))
    return status[-1].input_msg


def test_a_front_end_that_is_not_there(graph):
    graph.client.destroy_publisher(graph.keyframes)
    log = graph.listen(Log, "/rosout", QoSProfile(depth=100))
    graph.backend(wait=False, **SOON)
    said(
        graph,
        "no input for 0 s; waiting for /keyframes (vggt3_ros/msg/Keyframe; reliable, volatile): no publisher",
    )
    until(lambda: any("waiting for /keyframes" in entry.msg for entry in log))
    time.sleep(0.5)
    # said once, not with every status
    assert sum("waiting for /keyframes" in entry.msg for entry in log) == 1


def test_incompatible_qos_is_named(graph):
    graph.client.destroy_publisher(graph.keyframes)
    graph.client.create_publisher(Keyframe, "keyframes", qos_profile_sensor_data)
    graph.backend(wait=False, **SOON)
    said(
        graph,
        "1 publisher, incompatible QoS of /test_client: ",
        "it offers best effort, volatile",
        "see qos_overrides./keyframes.subscription",
    )


def test_an_override_makes_it_compatible(graph):
    graph.client.destroy_publisher(graph.keyframes)
    graph.keyframes = graph.client.create_publisher(
        Keyframe, "keyframes", QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    backend = graph.backend(
        wait=False, **SOON, **{"qos_overrides./keyframes.subscription.reliability": "best_effort"}
    )
    until(lambda: graph.keyframes.get_subscription_count())
    until(lambda: graph.send(make_keyframe(1)) or len(backend._core.store))


def test_a_standing_robot_sends_no_keyframes_and_is_not_nagged(graph):
    backend = graph.backend(**SOON)
    said(graph, "/keyframes", "1 publisher, no message")
    graph.send(make_keyframe(1))
    status = graph.status()
    until(lambda: status and status[-1].keyframes == 1 and not status[-1].input_msg)
    time.sleep(0.6)
    assert not any(message.input_msg for message in status if message.keyframes)
    graph.client.destroy_publisher(graph.keyframes)
    message = said(graph, "no publisher, 1 messages, the last ")
    assert " s ago and stamped " in message and backend._core.intake.refused == 0


def test_a_clock_is_blamed_for_its_stamps_not_for_a_pause(graph, monkeypatch):
    monkeypatch.setattr(input_monitor, "SKEW_SECONDS", 1.0)
    graph.backend(**SOON)
    for id, ahead, text in (
        (1, 0.0, "1 messages, the last "),
        (2, 60.0, "stamped 60.0 s after this node's clock"),
        (3, -60.0, "stamped 60.0 s before this node's clock"),
    ):
        publisher = graph.client.create_publisher(Keyframe, "keyframes", qos.KEYFRAMES)
        until(lambda: publisher.get_subscription_count() == 1)
        publisher.publish(
            from_keyframe(make_keyframe(id, stamp_ns=time.time_ns() + round(ahead * 1e9)))
        )
        if id == 1:
            graph.client.destroy_publisher(graph.keyframes)
            time.sleep(1.5)  # the pause
        else:
            time.sleep(0.2)
        graph.client.destroy_publisher(publisher)
        message = said(graph, text)
        assert ("stamped" in message) == bool(ahead)


def test_losses_are_told_once_with_what_helps(graph):
    log = graph.listen(Log, "/rosout", QoSProfile(depth=100))
    backend = graph.backend(wait=False, input__source="odometry", **MOUNTED)
    until(lambda: [log.clear() or backend.get_logger().info("heard?"), time.sleep(0.1)] and log)
    image = backend._active_parts.input.monitor.topics[0]
    for _ in range(30):  # as DDS tells it
        image._message_lost(SimpleNamespace(total_count_change=1))
    until(
        lambda: any(
            "/image: 10 of 10 messages were lost" in entry.msg
            and "input.image_transport" in entry.msg
            for entry in log
        )
    )
    time.sleep(0.3)
    assert sum("messages were lost" in entry.msg for entry in log) == 1


def test_each_topic_with_its_age_and_the_tolerance(graph):
    rig = CameraRig(graph, depth="raw")
    backend = graph.backend(
        wait=False, input__source="odometry", input__depth_transport="raw", **MOUNTED, **SOON
    )
    rig.meet(backend)
    for number in range(4):
        rig.pose(number * 100 - 50)
        rig.pose(number * 100 + 50)
        rig.image(number, number * 100)
        rig.depth(number, number * 100 + 41)
    rig.depth(9, 500)
    message = said(
        graph,
        "/image (sensor_msgs/msg/Image; best effort, volatile): 1 publisher, ",
        "/camera_info (",
        "/odometry (",
        "/depth (",
        "depth within sync_tolerance 0.02 s of the image",
        "the last for depth: the nearest is 0.041 s off",
    )
    assert message.count(" messages, the last ") == 4 and " for depth" in message
    rig.pose(450)
    rig.pose(550)
    rig.image(10, 500)
    status = graph.status()
    until(lambda: status and not status[-1].input_msg)
    assert backend._core.store.ids() == [0]


def test_silent_odometry_is_seen_among_the_rest(graph):
    rig = CameraRig(graph)
    backend = graph.backend(wait=False, input__source="odometry", **MOUNTED, **SOON)
    rig.meet(backend)
    odometry = backend._active_parts.input.monitor.topics[2]
    before = odometry.count
    for number in range(35):
        rig.image(number, number * 33)
    said(graph, "images dropped: ", "the last for poses: none has arrived for it")
    assert odometry.count == before


def test_image_qos_asked_for_and_not_offered(graph):
    CameraRig(graph)  # sensor data: best effort
    graph.backend(
        wait=False,
        input__source="odometry",
        **SOON,
        **{
            "qos_overrides./image.subscription.reliability": "reliable",
            "qos_overrides./odometry.subscription.durability": "transient_local",
        },
    )
    said(
        graph,
        "/image (sensor_msgs/msg/Image; reliable, volatile): 1 publisher, incompatible QoS of /test_client: ",
        "/odometry (nav_msgs/msg/Odometry; best effort, transient local): 1 publisher, incompatible QoS of /test_client: ",
    )


def test_a_topic_of_another_type(graph):
    context = rclpy.Context()  # one participant cannot have two types for a name
    context.init()
    stranger = rclpy.create_node("stranger", context=context)
    stranger.create_publisher(CompressedImage, "image", qos_profile_sensor_data)
    stranger.create_publisher(Odometry, "frontend_pose", qos_profile_sensor_data)
    graph.backend(wait=False, input__source="pose", **SOON)
    said(
        graph,
        "/image (sensor_msgs/msg/Image; best effort, volatile): 1 publisher, /stranger publishes sensor_msgs/msg/CompressedImage",
        "/frontend_pose (geometry_msgs/msg/PoseStamped; best effort, volatile): 1 publisher, /stranger publishes nav_msgs/msg/Odometry",
        "/camera_info (sensor_msgs/msg/CameraInfo; best effort, volatile): no publisher",
    )
    stranger.destroy_node()
    context.shutdown()


def test_a_missing_transform(graph):
    rig = CameraRig(graph)
    backend = graph.backend(wait=False, input__source="odometry", **SOON)
    rig.meet(backend)
    rig.pose(0)
    rig.image(0, 0)
    said(
        graph,
        "/tf_static with the transform from 'camera_optical' to 'base_link' (or set input.base_to_camera)",
    )


def test_diagnostics_warn_and_recover(graph):
    rig = CameraRig(graph)
    backend = graph.backend(wait=False, input__source="odometry", **MOUNTED, **SOON)
    heard = graph.listen(DiagnosticArray, "/diagnostics", qos.EVENTS)

    def inputs(level):
        return [
            status
            for array in list(heard)
            for status in array.status
            if status.name == "vggt3_ros: input" and status.level == level
        ]

    until(lambda: inputs(DiagnosticStatus.WARN))
    assert "waiting for /image" in inputs(DiagnosticStatus.WARN)[-1].message
    rig.meet(backend)
    heard.clear()
    for number in range(200):
        rig.pose(number * 10)
        rig.image(number, number * 10)
        if inputs(DiagnosticStatus.OK):
            break
    status = inputs(DiagnosticStatus.OK)[-1]
    assert status.message == "arrives" and {"/image", "/camera_info", "/odometry"} <= {
        pair.key for pair in status.values
    }


def test_zero_is_never(graph):
    graph.backend(wait=False, input__timeout=0.0)
    status = graph.status()
    until(lambda: len(status) > 5)
    assert not any(message.input_msg for message in status)
