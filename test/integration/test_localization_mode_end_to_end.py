"""A robot that does not map, on a saved map of real images: its odometry begins elsewhere and drifts, its pose in the map does not."""

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from ros_graph import until
from tf2_msgs.msg import TFMessage

from vggt3_ros.geometry import se3
from vggt3_ros.messages.reading import to_nanoseconds, to_transform
from vggt3_ros.ros import qos
from vggt3_ros.store.keyframe import Keyframe

ELSEWHERE = se3.exp([5.0, -2.0, 0.0, 0.0, 0.0, 1.2])


def test_unseen_views_give_pose_and_map_to_odom(graph, rendered, refined_copy):
    backend = graph.backend(real=True, store=str(refined_copy), mode="localization", device="cpu")
    poses, heard = graph.listen(PoseWithCovarianceStamped, "pose", qos.EVENTS), graph.listen(TFMessage, "/tf", qos.TF)
    graph.heard_by_all(backend, "pose")
    T_map_world = rendered.T_odom_cam[0] @ se3.inverse(rendered.T_world_cam[0])
    sent = {}
    for k, (image, truth) in enumerate(zip(rendered.queries[:6], rendered.T_world_query)):
        keyframe = Keyframe(k, 10**9 + k, image, rendered.camera, ELSEWHERE @ truth @ se3.exp([0.02 * k, 0, 0, 0, 0, 0]))
        sent[keyframe.stamp_ns] = keyframe.T_odom_cam, T_map_world @ truth
        asked = backend._core.tracker.asked
        graph.send(keyframe, odom_frame="odom2")
        until(lambda: backend._core.tracker.asked > asked)
    until(lambda: len(poses) >= 4)
    errors = [se3.inverse(sent[to_nanoseconds(pose.header.stamp)][1]) @ to_transform(pose.pose.pose) for pose in poses]
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
