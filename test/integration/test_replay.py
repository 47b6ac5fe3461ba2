"""vggt3 replay as it is typed: bags over DDS, at the recorded pace, with /clock."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from layouts import write_bag
from random_keyframes import CAMERA, make_keyframe
from ros_graph import until
from rosgraph_msgs.msg import Clock
from tf2_msgs.msg import TFMessage

from vggt3_ros.datasets.sequence import KeyframeList, Sequence
from vggt3_ros.ros import qos

START = 1_700_000_000 * 10**9
FRAMES = [make_keyframe(id, stamp_ns=START + id * 200_000_000) for id in range(8)]


@pytest.fixture
def bag(tmp_path):
    poses = np.array([f.T_odom_cam for f in FRAMES])
    depth = lambda i: np.round(FRAMES[i].depth, 3)
    frames = KeyframeList(CAMERA.undistorted(), [f.stamp_ns for f in FRAMES], poses, lambda i: FRAMES[i].image, depth)
    return write_bag(tmp_path / "bag", Sequence("random", frames.camera, frames.stamps_ns, frames, poses))


def replay(path, *arguments):
    code = "from vggt3_ros.cli.main import main; raise SystemExit(main())"
    return subprocess.run([sys.executable, "-c", code, "replay", str(path), "--quiet", *arguments], capture_output=True, text=True,
                          timeout=60, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})


def test_a_bag_with_its_clock(graph, bag):
    backend = graph.backend(use_sim_time=True)
    clock, tf = graph.listen(Clock, "/clock", qos.EVENTS), graph.listen(TFMessage, "/tf", qos.TF)
    begin = time.monotonic()
    played = replay(bag, "--all-frames", "--clock", "50", "--speed", "2")
    assert played.returncode == 0, played.stderr
    assert time.monotonic() - begin > 7 * 0.2 / 2
    until(lambda: len(backend._core.store) == len(FRAMES))
    poses = backend._core.store.poses()
    np.testing.assert_array_equal(poses.stamps_ns, [frame.stamp_ns for frame in FRAMES])  # as recorded
    np.testing.assert_allclose(poses.T_odom_cam, [frame.T_odom_cam for frame in FRAMES], atol=1e-6)
    np.testing.assert_allclose(backend._core.store.get(3).depth, np.round(FRAMES[3].depth, 3), atol=1e-6)
    times = np.array([message.clock.sec * 10**9 + message.clock.nanosec for message in clock])
    assert len(times) > 20 and np.all(np.diff(times) >= 0)
    assert times[0] == START and times[-1] == FRAMES[-1].stamp_ns
    between = np.setdiff1d(times, poses.stamps_ns)
    assert len(between) > 10  # it runs on between keyframes
    assert abs(backend.get_clock().now().nanoseconds - FRAMES[-1].stamp_ns) < 10**9  # the node lives in recorded time
    sent = [t.header.stamp.sec * 10**9 + t.header.stamp.nanosec for m in tf for t in m.transforms if t.child_frame_id == "camera"]
    assert set(sent) <= set(poses.stamps_ns.tolist()) and len(sent) >= 2


def test_pace_options_that_make_no_sense(bag, context):
    for arguments, message in ((["--rate", "-1"], "--rate must be"), (["--speed", "0"], "--speed must be"),
                               (["--rate", "1", "--speed", "1"], "exclude"), (["--select", "distance=1"], "--select distance=1")):
        played = replay(bag, *arguments)
        assert played.returncode == 2 and message in played.stderr
