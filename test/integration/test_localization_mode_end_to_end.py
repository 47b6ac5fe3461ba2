"""A robot that does not map, on a saved map of real images: its odometry begins elsewhere and
drifts, its pose in the map does not.
"""

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from ros_graph import until
from tf2_msgs.msg import TFMessage
from vggt3_ros.srv import LoadMap, Localize, SaveMap

from vggt3_ros.geometry import se3
from vggt3_ros.messages.reading import to_nanoseconds, to_transform
from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import from_camera
from vggt3_ros.ros.image_messages import from_rgb
from vggt3_ros.store.keyframe import Keyframe

ELSEWHERE = se3.exp([5.0, -2.0, 0.0, 0.0, 0.0, 1.2])


def test_unseen_views_give_pose_and_map_to_odom(graph, rendered, refined_copy):
    backend = graph.backend(real=True, store=str(refined_copy), mode="localization", device="cpu")
    poses, heard = (
        graph.listen(PoseWithCovarianceStamped, "pose", qos.EVENTS),
        graph.listen(TFMessage, "/tf", qos.TF),
    )
    graph.heard_by_all(backend, "pose")
    T_map_world = rendered.T_odom_cam[0] @ se3.inverse(rendered.T_world_cam[0])
    sent = {}
    for k, (image, truth) in enumerate(zip(rendered.queries[:6], rendered.T_world_query)):
        keyframe = Keyframe(
            k,
            10**9 + k,
            image,
            rendered.camera,
            ELSEWHERE @ truth @ se3.exp([0.02 * k, 0, 0, 0, 0, 0]),
        )
        sent[keyframe.stamp_ns] = keyframe.T_odom_cam, T_map_world @ truth
        asked = backend._core.tracker.asked
        graph.send(keyframe, odom_frame="odom2")
        until(lambda: backend._core.tracker.asked > asked)
    until(lambda: len(poses) >= 4)
    errors = [
        se3.inverse(sent[to_nanoseconds(pose.header.stamp)][1]) @ to_transform(pose.pose.pose)
        for pose in poses
    ]
    assert np.median([np.linalg.norm(error[:3, 3]) for error in errors]) < 0.05
    T_odom_cam, T_map_cam = sent[to_nanoseconds(poses[-1].header.stamp)]
    expected = T_map_cam @ se3.inverse(T_odom_cam)

    def close():
        if not heard or heard[-1].transforms[0].child_frame_id != "odom2":
            return False
        at = heard[-1].transforms[0].transform.translation
        return np.allclose([at.x, at.y, at.z], expected[:3, 3], atol=0.15)

    until(close)
    assert len(backend._core.store) == len(rendered.keyframes)


def test_a_map_without_images_is_served_and_takes_in_another(graph, rendered, refined_copy):
    """The second is the same rooms an hour later, from a robot of its own; nothing is refined."""
    robot = graph.backend(real=True, store=str(refined_copy), device="cpu")
    graph.call(SaveMap, "save_map", SaveMap.Request(name="first", images=False))
    graph.stop(robot)
    second = graph.backend(
        real=True, store=str(graph.folder / "second"), device="cpu", map__voxel_size=0.1
    )
    for k, frame in enumerate(rendered.keyframes[1::2]):
        graph.send(
            Keyframe(
                k,
                frame.stamp_ns + 3600 * 10**9,
                frame.image,
                frame.camera,
                ELSEWHERE @ rendered.T_world_cam[1 + 2 * k],
                frame.depth,
            )
        )
    until(lambda: len(second._core.store) == 14)
    second._core.load_snapshot(second._core.refinery.request().result(120))
    graph.call(SaveMap, "save_map", SaveMap.Request(name="second", images=False))
    graph.stop(second)
    backend = graph.backend(real=True, store=str(graph.folder / "serves"), device="cpu")
    for name, mode, keyframes in (
        ("first", LoadMap.Request.REPLACE, 28),
        ("second", LoadMap.Request.MERGE, 42),
    ):
        answer = graph.call(LoadMap, "load_map", LoadMap.Request(name=name, mode=mode), 60)
        assert (answer.error_code, answer.error_msg, answer.keyframes) == (0, "", keyframes)
    assert (
        len(backend._core.snapshot) == 42
        and backend._core.localizing
        and answer.generation == backend._core.snapshot.generation
    )
    request = Localize.Request(
        image=from_rgb(rendered.queries[0]), camera_info=from_camera(rendered.camera)
    )
    answer = graph.call(Localize, "localize", request, 60)
    assert answer.error_code == 0 and answer.generation == backend._core.snapshot.generation
