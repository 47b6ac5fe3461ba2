"""vggt3 frontend as it is typed: images in, keyframes over DDS into the back end."""

import os
import subprocess
import sys

import numpy as np
from ros_graph import until

from vggt3_ros.datasets.sequence import KeyframeList, Sequence
from vggt3_ros.datasets.tum import write_tum
from vggt3_ros.datasets.tum_files import read_trajectory_tum
from vggt3_ros.evaluation.trajectory import trajectory_error


def run(*arguments):
    code = "from vggt3_ros.cli.main import main; raise SystemExit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, "frontend", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )


def test_images_become_keyframes_of_the_back_end(graph, rendered, tmp_path):
    some, stamps = rendered.keyframes[:8], rendered.stamps_ns[:8]
    frames = KeyframeList(
        rendered.camera,
        stamps,
        rendered.T_odom_cam[:8],
        lambda i: some[i].image,
        lambda i: some[i].depth,
    )
    write_tum(
        tmp_path / "images",
        Sequence("images", rendered.camera, stamps, frames, rendered.T_world_cam[:8]),
    )
    for name in ("odometry.txt", "groundtruth.txt"):
        (tmp_path / "images" / name).unlink()  # images and depth are all it gets
    backend = graph.backend()
    done = run(
        tmp_path / "images",
        "--all-frames",
        "--rate",
        "0",
        "--quiet",
        "--trajectory",
        tmp_path / "odometry.txt",
    )
    assert done.returncode == 0 and "8 keyframes of 8 frames" in done.stdout, done.stderr
    until(lambda: len(backend._core.store) == 8)
    poses = backend._core.store.poses()
    assert trajectory_error(poses.T_odom_cam, rendered.T_world_cam[:8], stamps).ate_m < 0.03
    np.testing.assert_array_equal(np.diff(poses.stamps_ns), np.diff(stamps))
    np.testing.assert_array_equal(backend._core.store.get(5).image.shape, (480, 640, 3))
    np.testing.assert_allclose(
        read_trajectory_tum(tmp_path / "odometry.txt")[1], poses.T_odom_cam, atol=1e-5
    )


def test_a_camera_without_depth_is_refused(context, rendered, tmp_path):
    some = rendered.keyframes[:2]
    frames = KeyframeList(
        rendered.camera, rendered.stamps_ns[:2], rendered.T_odom_cam[:2], lambda i: some[i].image
    )
    write_tum(tmp_path / "images", Sequence("images", rendered.camera, frames.stamps_ns, frames))
    done = run(tmp_path / "images", "--offline", "--trajectory", tmp_path / "t.txt")
    assert (
        done.returncode == 2
        and "has no depth" in done.stderr
        and len(done.stderr.strip().splitlines()) == 1
    )
