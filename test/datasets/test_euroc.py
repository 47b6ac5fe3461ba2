"""EuRoC folders: stereo gives metric depth in the rectified camera; faults are named."""

import shutil

import numpy as np
import pytest
from layouts import write_euroc
from stereo_wall import LENS, T_RIGHT_LEFT, WALL, wall_seen_by

from vggt3_ros.datasets.dataset import Options, open_dataset
from vggt3_ros.datasets.euroc import read_euroc
from vggt3_ros.datasets.sequence import KeyframeList, Sequence
from vggt3_ros.datasets.tum_files import write_trajectory_tum
from vggt3_ros.frontend.pairing import PairingConfig
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.stereo import StereoPair

STAMPS = 1_403_636_579_763_555_584 + np.arange(3) * 50_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    left, right = wall_seen_by(LENS, np.eye(4)), wall_seen_by(LENS, T_RIGHT_LEFT)
    truth = se3.exp(np.random.default_rng(1).normal(0, 0.5, (3, 6)))
    frames = KeyframeList(LENS, STAMPS, truth, lambda i: left)
    return write_euroc(
        tmp_path_factory.mktemp("euroc") / "V1_01",
        Sequence("wall", LENS, STAMPS, frames, truth),
        lambda i: right,
        T_RIGHT_LEFT,
    ), truth


def test_stereo_measures_the_wall(folder):
    recording = read_euroc(folder[0])
    assert recording.name == "V1_01" and not recording.camera.is_distorted
    np.testing.assert_array_equal(recording.stamps_ns, STAMPS)
    assert_is_the_wall(recording.load_depth(1), recording.camera, recording.T_file_cam)


def test_fisheye_stereo_measures_it_too():
    # TUM-VI's opening
    lens = Camera(
        376, 240, 190.0, 190.5, 187.0, 121.0, "equidistant", (0.003, 0.0007, -0.002, 0.0002)
    )
    pair = StereoPair(lens, lens, T_RIGHT_LEFT)
    depth = pair.depth(wall_seen_by(lens, np.eye(4)), wall_seen_by(lens, T_RIGHT_LEFT))
    assert_is_the_wall(depth, pair.camera, pair.T_left_rectified)


def test_cameras_that_are_no_stereo_pair_are_refused():
    with pytest.raises(ValueError, match="to the right of the first"):
        StereoPair(LENS, LENS, se3.inverse(T_RIGHT_LEFT))
    with pytest.raises(ValueError, match="differ in size"):
        StereoPair(LENS, LENS.scaled(188, 120), T_RIGHT_LEFT)


def assert_is_the_wall(depth, camera, T_left_rectified):
    v, u = np.nonzero(depth)
    assert len(v) > 0.5 * depth.size
    points = camera.unproject(np.stack([u, v], axis=1), depth[v, u])
    # rectification turns the camera, it does not move it
    in_left = points @ T_left_rectified[:3, :3].T
    normal, offset = WALL
    distance = (in_left @ normal - offset) / np.linalg.norm(normal)
    assert abs(np.median(distance)) < 0.02  # at 2.5 m, where a pixel of disparity is 0.25 m
    assert np.median(np.abs(distance)) < 0.05 and np.percentile(np.abs(distance), 95) < 0.12


def test_poses_are_those_of_the_rectified_camera(folder, tmp_path):
    path, truth = folder
    recording = read_euroc(path)
    np.testing.assert_allclose(recording.T_world_cam, truth @ recording.T_file_cam, atol=1e-6)
    # what a front end on the raw images writes
    write_trajectory_tum(tmp_path / "cam0.txt", STAMPS, truth)
    for stereo in (True, False):
        sequence = open_dataset(
            path,
            Options(
                odometry=tmp_path / "cam0.txt",
                every_frame=True,
                stereo=stereo,
                pairing=PairingConfig(jump_translation=0.0, jump_rotation=0.0),
            ),
        )  # no camera moves like that
        np.testing.assert_allclose(sequence.T_odom_cam, sequence.groundtruth, atol=1e-5)


def test_one_camera_has_its_lens_and_no_depth(folder):
    recording = read_euroc(folder[0], stereo=False)
    assert recording.camera == LENS and recording.load_depth is None
    np.testing.assert_allclose(recording.T_world_cam, folder[1], atol=1e-6)
    np.testing.assert_array_equal(recording.load_image(0), wall_seen_by(LENS, np.eye(4)))


@pytest.mark.parametrize(
    "name, old, new, message",
    [
        ("sensor.yaml", "pinhole", "omni", "camera_model 'omni' is not supported"),
        ("sensor.yaml", "radial-tangential", "magic", "'magic' is unknown"),
        ("sensor.yaml", "intrinsics", "extrinsics", "intrinsics is missing"),
        ("sensor.yaml", "rate_hz", "\t[", "sensor.yaml: "),
        ("data.csv", f"{STAMPS[1]},", "soon,", "data.csv:3: 'soon' must be nanoseconds"),
        ("data.csv", f",{STAMPS[1]}.png", "", "data.csv:3: 1 fields"),
        (
            "data.csv",
            f",{STAMPS[1]}.png",
            ",../../secret.png",
            "data.csv:3: .*secret.png is missing",
        ),
        ("data.csv", f",{STAMPS[1]}.png", ",none.png", "data.csv:3: .*none.png is missing"),
    ],
)
def test_errors_name_file_line_and_cause(folder, tmp_path, name, old, new, message):
    broken = shutil.copytree(folder[0], tmp_path / "broken")
    path = broken / "mav0/cam0" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_euroc(broken)


def test_yaml_runs_nothing(folder, tmp_path):
    hostile = shutil.copytree(folder[0], tmp_path / "hostile")
    (hostile / "mav0/cam0/sensor.yaml").write_text(
        f"!!python/object/apply:os.system ['touch {tmp_path}/ran']\n"
    )
    with pytest.raises(ValueError, match="sensor.yaml"):
        read_euroc(hostile)
    assert not (tmp_path / "ran").exists()
