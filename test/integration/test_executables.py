"""The executables as users start them: `backend` and `vggt3 replay`, in processes of their own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_backend import SHIFT
from folders import ROOT
from lifecycle_msgs.srv import GetState
from random_keyframes import CAMERA, make_keyframe
from ros_graph import until
from tf2_msgs.msg import TFMessage
from vggt3_ros.msg import Keyframe, KeyframePoses
from vggt3_ros.srv import Localize

from vggt3_ros.datasets.sequence import KeyframeList, Sequence
from vggt3_ros.datasets.tum import write_tum
from vggt3_ros.geometry import se3
from vggt3_ros.messages.reading import to_transform
from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import from_keyframe
from vggt3_ros.store.keyframes import KeyframeStore

FRAMES = [
    replace(
        make_keyframe(id, stamp_ns=id * 100_000_000),
        T_odom_cam=se3.exp([0.05 * id, 0.02, 0, 0, 0.03 * id, 0]),
    )
    for id in range(40)
]  # as a front end moves, or the recording's reader bridges its jumps


@pytest.fixture
def backend(graph):
    """Starts the executable; SIGINT at the end must be an orderly exit."""
    assert shutil.which("backend"), "not built: run scripts/setup"
    processes = []

    def start(*remappings, **parameters):
        given = {
            "store": graph.folder / "store",
            "memory.steps": 1,
            "idle_distillation": 0.0,
            "status_period": 0.1,
            **parameters,
        }
        arguments = [part for name, value in given.items() for part in ("-p", f"{name}:={value}")]
        processes.append(
            subprocess.Popen(
                [
                    "backend",
                    "--backend",
                    "fake_backend:Backend",
                    "--ros-args",
                    *arguments,
                    *remappings,
                ],
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            assert process.wait(15) == 0


def replay(folder, *arguments):
    code = "from vggt3_ros.cli.main import main; raise SystemExit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, "replay", str(folder), "--quiet", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )


@pytest.fixture
def folder(tmp_path):
    frames = KeyframeList(
        CAMERA,
        [f.stamp_ns for f in FRAMES],
        [f.T_odom_cam for f in FRAMES],
        lambda i: FRAMES[i].image,
        lambda i: FRAMES[i].depth,
    )
    write_tum(tmp_path / "sequence", Sequence("random", CAMERA, frames.stamps_ns, frames))
    return tmp_path / "sequence"


def test_a_replayed_folder_is_refined_and_answers(graph, backend, folder):
    backend(refine_every_keyframes=40)
    poses = graph.listen(KeyframePoses, "keyframe_poses")
    played = replay(folder, "--rate", "0")
    assert played.returncode == 0, played.stderr
    until(lambda: poses)
    assert list(poses[-1].ids) == list(range(40))
    for frame, pose in zip(FRAMES, poses[-1].poses):
        np.testing.assert_allclose(to_transform(pose.pose), SHIFT @ frame.T_odom_cam, atol=1e-6)
    assert (
        graph.call(Localize, "localize", Localize.Request()).error_code
        == Localize.Response.BAD_IMAGE
    )
    with KeyframeStore(graph.folder / "store", read_only=True) as store:
        gaps = np.diff(store.poses().stamps_ns)
        assert np.all(gaps == 100_000_000)
        assert np.abs(store.get(7).depth - FRAMES[7].depth).max() < 2e-4


def test_replay_without_a_back_end_ends_with_one_line(folder, context):
    played = replay(folder, "--wait", "1")
    assert played.returncode == 2
    assert (
        played.stderr.strip()
        .splitlines()[-1]
        .startswith("vggt3: no back end is subscribed to /keyframes")
    )


def test_replay_of_a_folder_that_is_none_ends_with_one_line(tmp_path, context):
    played = replay(tmp_path / "missing")
    assert (
        played.returncode == 2
        and played.stderr.startswith("vggt3: ")
        and "missing" in played.stderr
    )
    assert len(played.stderr.strip().splitlines()) == 1


def test_every_acknowledged_keyframe_survives_a_kill_of_the_node(graph, backend):
    process = backend()
    until(lambda: graph.keyframes.get_subscription_count())
    status = graph.status()
    graph.send(*FRAMES[1:30])
    until(lambda: status and status[-1].keyframes >= 10)
    process.kill()
    process.wait()
    acknowledged = status[-1].keyframes
    with KeyframeStore(graph.folder / "store") as store:
        assert acknowledged <= len(store) and store.ids() == list(range(1, len(store) + 1))


def test_a_store_that_cannot_be_used_ends_it_with_a_text(graph, backend):
    (graph.folder / "store").mkdir()
    (graph.folder / "store" / "keyframes.db").write_bytes(b"precious" * 500)
    process = backend()
    assert "cannot configure" in process.communicate(timeout=20)[1] and process.returncode == 1


def test_a_repeated_ctrl_c_ends_it_in_order_also_while_it_refines(graph, backend):
    process = backend(**{"memory.steps": 10_000})
    status = graph.status()

    # a node killed in an earlier test may still count as a subscription: known ids are only
    # updated
    def taken():
        graph.send(*FRAMES[1:12])
        time.sleep(0.5)
        return status and status[-1].keyframes >= 11

    until(taken)
    until(lambda: status[-1].phase == "memory")
    for _ in range(20):  # launch sends it once more than the terminal does, at any moment
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    assert process.wait(15) == 0, process.stderr.read()


@pytest.mark.parametrize("moment", ["while it imports", "while it configures"])
def test_a_ctrl_c_during_the_start_ends_it_in_order(graph, backend, moment):
    process = backend()
    if moment == "while it imports":
        until(lambda: "numpy" in Path(f"/proc/{process.pid}/maps").read_text())
    else:
        until((graph.folder / "store" / "keyframes.db").exists)
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=20)[1]
    assert process.returncode == 0 and "Traceback" not in stderr, stderr


def test_a_ctrl_c_while_it_plays_ends_the_player_in_order(graph, backend, folder):
    backend()
    status = graph.status()
    player = subprocess.Popen(
        ["vggt3", "replay", str(folder), "--quiet", "--rate", "0.1"],
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: status and status[-1].keyframes == 1)
    player.send_signal(signal.SIGINT)
    stderr = player.communicate(timeout=20)[1]
    assert (
        player.returncode == 0
        and "Traceback" not in stderr
        and "stopped after 1 keyframes" in stderr
    ), stderr


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--params-file", "/nowhere/own.yaml"], "/nowhere/own.yaml"),
        (["-p", "input.depth_transport:=rvl"], "input.depth_transport must be"),
        (["-p", "grid.min_height:=3.0"], "grid.min_height must be"),
        (["-p", "input.base_to_camera:='1 2'"], "input.base_to_camera must be"),
        (["-p", "tf_rate:=1000.0"], "tf_rate"),
        (["-p", "input.timeout:=soon"], "input.timeout"),
    ],
)
def test_what_it_cannot_start_with_is_named_as_ros_names_it_on_one_line(context, arguments, text):
    ran = subprocess.run(
        ["backend", "--ros-args", *arguments], capture_output=True, text=True, timeout=60
    )
    # rcl has its say first
    (line,) = [line for line in ran.stderr.splitlines() if not line.startswith("[ERROR]")]
    assert ran.returncode == 1 and line.startswith("backend: ") and text in line


def test_two_robots_in_namespaces_do_not_hear_each_other(graph, backend):
    robots = {"robot1": FRAMES[1:4], "robot2": FRAMES[10:15]}
    for robot in robots:
        backend(
            "-r",
            f"__ns:=/{robot}",
            "-r",
            "/tf:=tf",
            store=graph.folder / robot,
            refine_every_keyframes=len(robots[robot]),
        )
    common = graph.listen(TFMessage, "/tf", qos.TF)
    heard, poses = (
        {robot: graph.listen(kind, f"/{robot}/{topic}", profile) for robot in robots}
        for kind, topic, profile in (
            (TFMessage, "tf", qos.TF),
            (KeyframePoses, "keyframe_poses", qos.LATCHED),
        )
    )
    for robot, frames in robots.items():
        publisher = graph.client.create_publisher(Keyframe, f"/{robot}/keyframes", qos.KEYFRAMES)
        until(publisher.get_subscription_count)
        for frame in frames:
            publisher.publish(from_keyframe(frame, odom_frame=f"{robot}/odom"))
    for robot, frames in robots.items():
        until(lambda: poses[robot] and heard[robot])
        assert list(poses[robot][-1].ids) == [frame.id for frame in frames]
        assert {message.transforms[0].child_frame_id for message in heard[robot]} == {
            f"{robot}/odom"
        }
    assert not common


def test_replay_finds_the_back_end_by_the_keyframes_it_listens_to(backend, graph, folder):
    for robot in ("robot1", "robot2"):
        backend("-r", f"__ns:=/{robot}", store=graph.folder / robot)
    # a recorder, say
    graph.client.create_subscription(
        Keyframe, "/robot2/keyframes", lambda message: None, qos.KEYFRAMES
    )
    played = replay(folder, "--rate", "0", "--ros-args", "-r", "keyframes:=/robot2/keyframes")
    assert played.returncode == 0, played.stderr
    for robot, count in (("robot1", 0), ("robot2", len(FRAMES))):
        with KeyframeStore(graph.folder / robot, read_only=True) as store:
            assert len(store) == count


def test_a_program_under_scripts_run_starts_another_with_it():
    script = ROOT / "scripts" / "run"
    if not (ROOT / "install" / "sources").exists():
        pytest.skip("scripts/setup has not built this checkout")
    outer = "import subprocess, sys; raise SystemExit(subprocess.call(sys.argv[1:]))"
    ran = subprocess.run(
        [
            script,
            "python",
            "-c",
            outer,
            script,
            "python",
            "-c",
            "import rclpy; rclpy.init(); print('fine')",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0 and ran.stdout.strip() == "fine", ran.stderr


def test_without_autostart_it_waits_for_a_manager(graph, backend):
    backend(autostart=False)
    assert (
        graph.ask(GetState, "/vggt3_ros/get_state", GetState.Request()).current_state.label
        == "unconfigured"
    )


def test_memory_of_the_network_is_measured_in_processes_that_import_the_command():
    assert shutil.which("vggt3"), "not built: run scripts/setup"
    ran = subprocess.run(
        [
            "vggt3",
            "benchmark",
            "network",
            "--memory",
            "--images",
            "2",
            "--attention",
            "ttt",
            "--dtype",
            "float32",
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    (row,) = json.loads(ran.stdout)["memory"]
    assert row["images"] == 2 and row["peak"] > row["before"] > 0
