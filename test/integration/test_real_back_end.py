"""A node with the real back end through a day of its own: refined, cancelled, saved while
keyframes come, idle, localized in.
"""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from rclpy.parameter import Parameter
from ros_graph import until
from vggt3_ros.action import Refine
from vggt3_ros.msg import Status
from vggt3_ros.srv import Localize, SaveMap

from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.messages.reading import to_transform
from vggt3_ros.ros.clients.goal_client import GoalClient
from vggt3_ros.ros.conversions import from_camera
from vggt3_ros.ros.image_messages import from_rgb
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot

PHASES = ["features", "loops", "pose_graph", "fusion", "memory"]
QUICK = {"map__voxel_size": 0.06, "device": "cpu"}


def test_refined_cancelled_saved_idle_and_localized_in(graph, rendered):
    backend = graph.backend(real=True, **QUICK)
    core, status = backend._core, graph.status()
    client = GoalClient(graph.client, Refine, "refine")
    assert client.wait_for_server(10)

    def refine(heard=lambda phase: None):
        return graph.wait(
            client.send_goal_async(Refine.Goal(), lambda message: heard(message.feedback.phase)),
            60,
        )

    keyframe = lambda i: replace(rendered.keyframes[i], id=i, stamp_ns=(100 + i) * 10**9)
    run = [keyframe(i) for i in range(0, 20, 2)]
    graph.send(*run)
    until(lambda: len(core.store) == len(run), 60)
    phases = []
    answer = graph.wait(refine(phases.append).get_result_async(), 200)
    assert (
        answer.status == GoalStatus.STATUS_SUCCEEDED
        and answer.result.keyframes == len(run)
        and answer.result.map_points > 1000
    )
    assert list(dict.fromkeys(phase for phase in phases if phase in PHASES)) == PHASES
    report = json.loads(
        answer.result.report, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON")
    )
    assert set(PHASES) <= set(report["seconds"]) and report["keyframes"] == len(run)

    # A refinement that is cancelled in the midst of its work leaves the map, and is not begun
    # again.
    graph.send(keyframe(20))
    until(lambda: len(core.store) == len(run) + 1)
    begun = threading.Event()
    goal = refine(lambda phase: begun.set())
    assert begun.wait(120)
    graph.wait(goal.cancel_goal_async(), 30)
    assert graph.wait(goal.get_result_async(), 60).status == GoalStatus.STATUS_CANCELED
    assert (
        core.snapshot.generation == 1 and not core.refinery.running and core.refinery.waiting == 1
    )

    # Saved while keyframes come in: the copy is of one moment, and none of them waits for its end
    # or is lost.
    late = [keyframe(i) for i in range(21, 26)]
    saving = graph.client.create_client(SaveMap, "save_map")
    assert saving.wait_for_service(10)
    saved = saving.call_async(SaveMap.Request(name="day"))
    graph.send(*late)
    answer = graph.wait(saved, 60)
    until(lambda: len(core.store) == len(run) + 1 + len(late))
    assert answer.error_code == SaveMap.Response.NONE and status[-1].refused == 0
    with KeyframeStore(answer.folder, read_only=True) as copy:
        held = set(copy.ids())
        assert set(range(0, 21, 2)) <= held <= set(core.store.ids())
        assert (
            Snapshot.of(copy, max(copy.snapshots.iterdir())).generation == answer.generation == 1
        )

    # Idle time goes into the memory, and gives way to a refinement.
    backend.set_parameters([Parameter("idle_distillation", value=60.0)])
    until(lambda: core.worker.ready, 60)
    assert graph.wait(refine().get_result_async(), 200).status == GoalStatus.STATUS_SUCCEEDED
    until(lambda: status[-1].state == Status.DISTILLING, 60)
    answer = graph.wait(refine().get_result_async(), 200)
    assert answer.status == GoalStatus.STATUS_SUCCEEDED and answer.result.keyframes == len(
        run
    ) + 1 + len(late)

    snapshot = core.load_snapshot(answer.result.generation)
    truth = rendered.T_world_cam[snapshot.keyframe_ids]
    corrected, odometry = (
        trajectory_error(poses, truth, snapshot.stamps_ns).ate_m
        for poses in (snapshot.T_map_cam, snapshot.T_odom_cam)
    )
    assert corrected < 0.05 and corrected <= odometry
    fit = trajectory_error(snapshot.T_map_cam, truth, snapshot.stamps_ns).T_truth_estimate
    request = Localize.Request(camera_info=from_camera(rendered.camera), verify=True)
    errors = []
    for image, T_world_query in list(zip(rendered.queries, rendered.T_world_query))[:6]:
        request.image = from_rgb(image)
        found = graph.call(Localize, "localize", request, 60)
        if found.error_code == Localize.Response.NONE:
            errors.append(
                np.linalg.norm(
                    (fit @ to_transform(found.pose.pose.pose))[:3, 3] - T_world_query[:3, 3]
                )
            )
    assert len(errors) >= 4 and max(errors) < 0.1
