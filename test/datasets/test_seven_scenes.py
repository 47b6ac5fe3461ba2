"""7-Scenes folders as they are published: raw, uncalibrated, with lost poses."""

import cv2
import numpy as np
import pytest

from vggt3_ros.datasets.seven_scenes import COLOR_CAMERA, DEPTH_CAMERA, read_seven_scenes
from vggt3_ros.geometry import se3


@pytest.fixture
def scene(tmp_path):
    """heads/seq-01 with frames 3, 4 and 6: a slanted wall seen by the depth camera, 65535 where
    nothing was measured.
    """
    folder = tmp_path / "heads" / "seq-01"
    folder.mkdir(parents=True)
    u, v = np.meshgrid(np.arange(640), np.arange(480))
    rays = DEPTH_CAMERA.unproject(np.dstack([u, v]), np.ones((480, 640)))
    depth = np.round(2000 / (rays @ np.array([0.2, -0.1, 1.0]))).astype(np.uint16)
    depth[:, 300:310] = 65535
    for number in (3, 4, 6):
        cv2.imwrite(
            str(folder / f"frame-{number:06d}.color.png"),
            np.full((480, 640, 3), (200, 100, number), np.uint8),
        )
        cv2.imwrite(str(folder / f"frame-{number:06d}.depth.png"), depth)
        np.savetxt(
            folder / f"frame-{number:06d}.pose.txt",
            se3.exp(np.full(6, 0.1 * number)),
            fmt="%17.7e",
            delimiter="\t",
        )
    return tmp_path / "heads"


def test_what_is_published_is_read(scene):
    recording = read_seven_scenes(scene)  # a scene with one sequence
    assert recording.name == "heads_seq-01" and recording.camera == COLOR_CAMERA
    np.testing.assert_array_equal(recording.stamps_ns, np.array([3, 4, 6]) * 10**9 // 30)
    np.testing.assert_allclose(recording.T_world_cam[2], se3.exp(np.full(6, 0.6)), atol=1e-6)
    np.testing.assert_array_equal(recording.load_image(1)[0, 0], [4, 100, 200])


def test_depth_is_seen_by_the_colour_camera(scene):
    depth = read_seven_scenes(scene / "seq-01").load_depth(0)
    v, u = np.nonzero(depth)
    points = COLOR_CAMERA.unproject(np.stack([u, v], axis=1), depth[v, u])
    distance = np.abs(points @ np.array([0.2, -0.1, 1.0]) - 2.0)
    assert distance.max() < 0.003  # a pixel off would be 1 mm to 2 mm more
    # the colour camera sees more than the depth camera
    assert not depth[:, :20].any() and depth[240, 40] > 0
    x = round((305 - DEPTH_CAMERA.cx) * COLOR_CAMERA.fx / DEPTH_CAMERA.fx + COLOR_CAMERA.cx)
    assert not depth[:, x].any() and depth[240, x + 20] > 0  # 65535 is no depth


def test_lost_poses_and_missing_depth(scene):
    (scene / "seq-01/frame-000004.pose.txt").write_text("nan " * 16)
    (scene / "seq-01/frame-000006.pose.txt").unlink()
    (scene / "seq-01/frame-000006.depth.png").unlink()
    recording = read_seven_scenes(scene)
    assert (
        np.isfinite(recording.T_world_cam[0]).all() and np.isnan(recording.T_world_cam[1:]).all()
    )
    assert recording.load_depth(2) is None


def test_its_own_calibration_says_that_depth_is_registered(scene):
    (scene / "camera.yaml").write_text(
        "width: 640\nheight: 480\nfx: 520\nfy: 521\ncx: 318\ncy: 241\n"
    )
    recording = read_seven_scenes(scene)
    assert recording.camera.fx == 520
    stored = cv2.imread(str(scene / "seq-01/frame-000003.depth.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(
        recording.load_depth(0), np.where(stored == 65535, 0, stored) / 1000, atol=1e-6
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("1 2 3", "3 numbers, expected the 16 of a 4x4 matrix"),
        ("x " * 16, "could not convert"),
        ("2 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", "must hold a rotation"),
    ],
)
def test_a_bad_pose_names_its_file(scene, text, message):
    (scene / "seq-01/frame-000004.pose.txt").write_text(text)
    with pytest.raises(ValueError, match=f"frame-000004.pose.txt: .*{message}"):
        read_seven_scenes(scene)


def test_one_of_several_sequences_must_be_named(scene):
    (scene / "seq-02").mkdir()
    for kind in ("color.png", "pose.txt"):
        (scene / f"seq-02/frame-000000.{kind}").write_bytes(
            (scene / f"seq-01/frame-000003.{kind}").read_bytes()
        )
    with pytest.raises(ValueError, match="name one sequence .*: seq-01, seq-02"):
        read_seven_scenes(scene)
    assert len(read_seven_scenes(scene / "seq-02")) == 1
