"""A front end that begins anew, on the real back end over DDS: its keyframes, in odometry of their
own, end in the map of the first run.
"""

import time
from dataclasses import replace

import numpy as np
from drifted_sessions import QUICK, drifted, error_of
from ros_graph import until
from tf2_msgs.msg import TFMessage
from vggt3_ros.msg import KeyframePoses
from vggt3_ros.srv import SetMode

from vggt3_ros.geometry import se3
from vggt3_ros.messages.reading import to_transform
from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import to_matrix
from vggt3_ros.store.keyframes import FIRST_ID
from vggt3_ros.store.snapshot import Snapshot

SECONDS = 10**9


def refined(graph, backend, heard, *keyframes, odom_frame):
    """{id: T_map_cam} as the topic keyframe_poses has them after the keyframes were sent and all
    were refined.
    """
    held, before = len(backend._core.store), len(heard)
    graph.send(*keyframes, odom_frame=odom_frame)
    until(lambda: len(backend._core.store) == held + len(keyframes))
    generation = backend._core.refinery.request().result(120)
    until(lambda: len(heard) > before and heard[-1].generation == generation)
    assert heard[-1].header.frame_id == "map"
    return dict(
        zip(heard[-1].ids, (to_transform(pose.pose) for pose in heard[-1].poses), strict=True)
    )


def transform_of(message):
    found = message.transforms[0]
    assert found.header.frame_id == "map"
    return found.child_frame_id, to_matrix(found.transform)


def test_both_runs_are_in_one_map_and_tf_is_the_second_ones(graph, rendered):
    first, second = np.arange(0, 22, 2), np.arange(5, 24, 2)
    backend = graph.backend(real=True, **QUICK)
    heard, transforms = (
        graph.listen(KeyframePoses, "keyframe_poses"),
        graph.listen(TFMessage, "/tf", qos.TF),
    )
    run = [
        replace(rendered.keyframes[i], id=k, stamp_ns=(100 + k) * SECONDS)
        for k, i in enumerate(first)
    ]
    before = refined(graph, backend, heard, *run, odom_frame="odom")
    assert sorted(before) == list(range(len(first)))
    until(lambda: transforms and transform_of(transforms[-1])[0] == "odom")

    answer = graph.call(
        SetMode, "set_mode", SetMode.Request(mode=SetMode.Request.MAPPING, new_session=True)
    )
    assert (answer.error_code, answer.error_msg) == (SetMode.Response.NONE, "")
    # the map stays, its keyframes make room for the ids of the new run
    until(lambda: FIRST_ID in heard[-1].ids)
    time.sleep(0.2)
    transforms.clear()
    # Ids, stamps and odometry begin again, the latter somewhere else and drifting.
    odometry = drifted(rendered.T_world_cam[second])
    run = [
        replace(rendered.keyframes[i], id=k, stamp_ns=(1 + k) * SECONDS, T_odom_cam=pose)
        for k, (i, pose) in enumerate(zip(second, odometry))
    ]
    graph.send(run[0], odom_frame="odom_of_now")
    until(lambda: len(backend._core.store) == len(first) + 1)
    time.sleep(0.3)
    assert not transforms  # nobody knows yet where the new odometry lies in the map
    poses = refined(graph, backend, heard, *run[1:], odom_frame="odom_of_now")

    old, new = [FIRST_ID + k for k in range(len(first))], list(range(len(second)))
    assert sorted(poses) == new + old
    T_map_cam = np.array([poses[id] for id in old + new])
    assert error_of(T_map_cam, rendered.T_world_cam[first], rendered.T_world_cam[second]) < 0.05
    # the first run's frame is the map's
    np.testing.assert_allclose(T_map_cam[0], before[0], atol=1e-3)
    until(lambda: transforms)
    child, T_map_odom = transform_of(transforms[-1])
    assert child == "odom_of_now"
    # where TF places the newest camera: where it is
    apart = se3.inverse(T_map_cam[-1]) @ T_map_odom @ odometry[-1]
    assert np.linalg.norm(apart[:3, 3]) < 1e-6 and se3.rotation_angle(apart) < 1e-6
    snapshot = Snapshot.load(backend._core.store.snapshots / f"{heard[-1].generation:06d}")
    across = [
        loop
        for loop in snapshot.loops
        if loop.accepted and (loop.source_id >= FIRST_ID) != (loop.target_id >= FIRST_ID)
    ]
    assert len(across) >= 5  # tied by what both saw, not placed once and left there
