"""vggt3 replay as it is typed: bags over DDS, at the recorded pace, with /clock."""

import itertools
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from layouts import write_bag
from random_keyframes import CAMERA, make_keyframe
from rclpy.qos import QoSProfile
from ros_graph import until
from rosgraph_msgs.msg import Clock
from tf2_msgs.msg import TFMessage

from vggt3_ros.datasets.sequence import KeyframeList, Sequence
from vggt3_ros.geometry import se3
from vggt3_ros.messages.reading import to_nanoseconds
from vggt3_ros.ros import qos
from vggt3_ros.ros.clients.player import Player

EVERY_TICK = QoSProfile(depth=1000)  # however long this process is held up
START = 1_700_000_000 * 10**9
FRAMES = [
    replace(
        make_keyframe(id, stamp_ns=START + id * 200_000_000),
        T_odom_cam=se3.exp([0.05 * id, 0.02, 0, 0, 0.03 * id, 0]),
    )
    for id in range(8)
]


@pytest.fixture
def bag(tmp_path):
    poses = np.array([f.T_odom_cam for f in FRAMES])
    depth = lambda i: np.round(FRAMES[i].depth, 3)
    frames = KeyframeList(
        CAMERA.undistorted(), [f.stamp_ns for f in FRAMES], poses, lambda i: FRAMES[i].image, depth
    )
    return write_bag(
        tmp_path / "bag", Sequence("random", frames.camera, frames.stamps_ns, frames, poses)
    )


def replay(path, *arguments):
    code = "from vggt3_ros.cli.main import main; raise SystemExit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, "replay", str(path), "--quiet", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )


def nanoseconds(clock):
    """(N,) of the Clock messages heard."""
    return np.array([to_nanoseconds(message.clock) for message in clock])


def test_a_bag_with_its_clock(graph, bag):
    backend = graph.backend(use_sim_time=True)
    clock, tf = graph.listen(Clock, "/clock", EVERY_TICK), graph.listen(TFMessage, "/tf", qos.TF)
    begin = time.monotonic()
    played = replay(bag, "--all-frames", "--clock", "50", "--speed", "2")
    assert played.returncode == 0, played.stderr
    assert time.monotonic() - begin > 7 * 0.2 / 2
    until(lambda: len(backend._core.store) == len(FRAMES))
    poses = backend._core.store.poses()
    # as recorded
    np.testing.assert_array_equal(poses.stamps_ns, [frame.stamp_ns for frame in FRAMES])
    np.testing.assert_allclose(poses.T_odom_cam, [frame.T_odom_cam for frame in FRAMES], atol=1e-6)
    np.testing.assert_allclose(
        backend._core.store.get(3).depth, np.round(FRAMES[3].depth, 3), atol=1e-6
    )
    times = nanoseconds(clock)
    assert len(times) > 20 and np.all(np.diff(times) >= 0)
    assert times[0] == START and times[-1] == FRAMES[-1].stamp_ns
    between = np.setdiff1d(times, poses.stamps_ns)
    assert len(between) > 10, (times - START) / 1e9  # it runs on between keyframes
    # the node lives in recorded time
    assert abs(backend.get_clock().now().nanoseconds - FRAMES[-1].stamp_ns) < 10**9
    sent = [
        to_nanoseconds(t.header.stamp)
        for m in tf
        for t in m.transforms
        if t.child_frame_id == "camera"
    ]
    assert set(sent) <= set(poses.stamps_ns.tolist()) and len(sent) >= 2


@pytest.mark.parametrize("stall_at", (0, 1, 4))
def test_a_recording_that_takes_long_to_read_is_played_at_its_pace_all_the_same(graph, stall_at):
    backend = graph.backend(use_sim_time=True)
    clock = graph.listen(Clock, "/clock", EVERY_TICK)

    def read_slowly():
        for index, frame in enumerate(FRAMES):
            if index == stall_at:
                time.sleep(1.0)  # longer than all of it lasts
            yield frame

    player = Player(START, start_ns=START, clock_rate=50.0)
    try:
        player.play(read_slowly(), lambda count, stamp_ns: (stamp_ns - START) / 1e9 / 2)
        assert player.sent == len(FRAMES)
    finally:
        player.close()
    until(lambda: len(backend._core.store) == len(FRAMES))
    stamps = [frame.stamp_ns for frame in FRAMES]
    times = nanoseconds(clock)
    between = [np.sum((times > a) & (times < b)) for a, b in itertools.pairwise(stamps)]
    assert np.sum(between) > 10 and np.count_nonzero(between) >= len(between) - 1, (
        times - START
    ) / 1e9


def test_stamps_and_tf_go_with_the_clock_whatever_the_rate(graph, bag):
    backend, tf = graph.backend(), graph.listen(TFMessage, "/tf", qos.TF)
    begin_ns = time.time_ns()
    played = replay(bag, "--all-frames", "--rate", "2")  # recorded at 5 Hz
    end_ns = time.time_ns()
    assert played.returncode == 0, played.stderr
    stamps = backend._core.store.poses().stamps_ns
    assert begin_ns < stamps[0] and stamps[-1] < end_ns
    assert (stamps[-1] - stamps[0]) / 1e9 == pytest.approx((len(FRAMES) - 1) / 2, abs=0.5)
    sent = [
        to_nanoseconds(t.header.stamp)
        for m in tf
        for t in m.transforms
        if t.child_frame_id == "camera"
    ]
    assert set(sent) <= set(stamps.tolist()) and len(sent) >= 2


def test_recorded_stamps_are_kept_on_request(graph, bag):
    backend, tf = graph.backend(), graph.listen(TFMessage, "/tf", qos.TF)
    played = replay(bag, "--all-frames", "--rate", "20", "--keep-stamps")
    assert played.returncode == 0, played.stderr
    recorded = [frame.stamp_ns for frame in FRAMES]
    np.testing.assert_array_equal(backend._core.store.poses().stamps_ns, recorded)
    assert {
        to_nanoseconds(t.header.stamp)
        for m in tf
        for t in m.transforms
        if t.child_frame_id == "camera"
    } <= set(recorded)


def test_pace_options_that_make_no_sense(bag, context):
    for arguments, message in (
        (["--rate", "-1"], "--rate must be"),
        (["--speed", "0"], "--speed must be"),
        (["--rate", "1", "--speed", "1"], "exclude"),
        (["--select", "distance=1"], "--select distance=1"),
    ):
        played = replay(bag, *arguments)
        assert played.returncode == 2 and message in played.stderr
