"""Output of feed-forward pipelines: which one wrote it, what it holds, and what does not fit."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vggt3_ros.datasets.feed_forward import kind_of, read_run, size_of, whole_image
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

COUNT, SIZE = 4, (42, 56)  # height, width of the images
SEEN = (392, 518)  # as the networks see them
CAMERA = Camera(SEEN[1], SEEN[0], 480.0, 470.0, 258.0, 195.0)
POSES = se3.from_rotation_translation(
    Rotation.from_rotvec([[0.0, 0.1 * i, 0.02 * i] for i in range(COUNT)]).as_matrix(),
    [[0.2 * i, 0.0, 0.1] for i in range(COUNT)],
)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(COUNT):
        cv2.imwrite(str(folder / f"frame_{i + 5:04d}.png"), np.full((*SIZE, 3), i, np.uint8))
    return folder


@pytest.fixture
def long_run(tmp_path):
    path = tmp_path / "camera_poses.txt"
    path.write_text("".join(" ".join(map(str, pose.ravel())) + "\n" for pose in POSES))
    line = f"{CAMERA.fx} {CAMERA.fy} {CAMERA.cx} {CAMERA.cy}\n"
    (tmp_path / "intrinsic.txt").write_text(line * COUNT)
    return path


@pytest.fixture
def slam_run(tmp_path):
    positions, quaternions = se3.to_quaternion(POSES)
    lines = [
        f"{i + 5:.1f} " + " ".join(map(str, (*t, *q))) + "\n"
        for i, (t, q) in enumerate(zip(positions, quaternions, strict=True))
    ]
    path = tmp_path / "slam.txt"
    path.write_text("".join(lines[:3] + lines[1:]))  # submaps overlap
    logs = tmp_path / "slam_logs"
    logs.mkdir()
    u, v = np.meshgrid(np.arange(SEEN[1]), np.arange(SEEN[0]))
    for i, pose in enumerate(POSES):
        points = CAMERA.unproject(np.stack([u, v], -1), np.full(SEEN, 2.0 + i))
        mask = np.ones(SEEN, bool)
        mask[:100] = False
        cloud = se3.transform_points(pose, points).astype(np.float32)
        np.savez(logs / f"{i + 5.0}.npz", pointcloud=cloud, mask=mask)
    return path


@pytest.fixture
def lingbot_run(tmp_path):
    folder = tmp_path / "predictions"
    folder.mkdir()
    for i, pose in enumerate(POSES):
        confidence = np.full(SEEN, 3.0)
        confidence[:, :100] = 1.2
        np.savez(
            folder / f"frame_{i:06d}.npz",
            extrinsic=pose[:3],
            intrinsic=CAMERA.matrix,
            depth=np.full((*SEEN, 1), 2.0 + i, np.float32),
            depth_conf=confidence,
        )
    return folder


@pytest.mark.parametrize(
    "made, kind",
    [("long_run", "vggt-long"), ("slam_run", "vggt-slam"), ("lingbot_run", "lingbot-map")],
)
def test_poses_and_the_camera_of_the_whole_image_are_read(request, images, made, kind):
    path = request.getfixturevalue(made)
    assert kind_of(path) == kind
    run = read_run(path, images)
    np.testing.assert_allclose(run.T_world_cam, POSES, atol=1e-6)
    assert [file.name for file in run.images] == [f"frame_{i + 5:04d}.png" for i in range(COUNT)]
    assert (run.camera.width, run.camera.height) == (SIZE[1], SIZE[0])
    expected = CAMERA.scaled(SIZE[1], SIZE[0])
    for name in ("fx", "fy", "cx", "cy"):
        assert getattr(run.camera, name) == pytest.approx(getattr(expected, name), rel=1e-3)


def test_points_of_vggt_slam_become_depth_of_their_camera(images, slam_run):
    run = read_run(slam_run, images)
    for i in range(COUNT):
        depth = run.load_depth(i)
        assert depth.dtype == np.float32 and (depth[:100] == 0).all()
        np.testing.assert_allclose(depth[100:], 2.0 + i, rtol=1e-4)


def test_depth_of_lingbot_counts_where_it_is_sure(images, lingbot_run):
    depth = read_run(lingbot_run, images).load_depth(2)
    assert (depth[:, :100] == 0).all() and (depth[:, 100:] == 4).all()
    everywhere = read_run(lingbot_run, images, least_confidence=1.0)
    assert (everywhere.load_depth(2) == 4).all()


def test_vggt_long_may_leave_the_camera_unknown_and_has_no_depth(images, long_run):
    assert read_run(long_run, images).load_depth is None
    long_run.with_name("intrinsic.txt").unlink()
    assert read_run(long_run, images).camera is None


def test_vggt_slam_without_logs_has_poses_alone(tmp_path, images, slam_run):
    (tmp_path / "slam_logs").rename(tmp_path / "elsewhere")
    run = read_run(slam_run, images)
    assert run.camera is run.load_depth is None and len(run.T_world_cam) == COUNT


def test_images_and_poses_belong_together(tmp_path, images, long_run, slam_run, lingbot_run):
    next(images.iterdir()).unlink()
    for path in (long_run, lingbot_run):
        with pytest.raises(ValueError, match="has 4 poses, but .*images has 3 images"):
            read_run(path, images)
    with pytest.raises(ValueError, match=r"slam.txt:\d+: no image in .* has the number"):
        read_run(slam_run, images)
    with pytest.raises(ValueError, match="is not a folder with images"):
        read_run(long_run, tmp_path / "nothing")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"depth": np.ones((3, 4, 1))}, r"depth \(3, 4\) and depth_conf .* differ in shape"),
        ({"extrinsic": np.eye(4)}, r"extrinsic \(4, 4\) and intrinsic .*expected \(3, 4\)"),
        ({"extrinsic": np.zeros((3, 4))}, "frame_000000.npz: the pose"),
    ],
)
def test_arrays_of_another_shape_are_named(images, lingbot_run, change, words):
    with np.load(lingbot_run / "frame_000000.npz") as file:
        np.savez(lingbot_run / "frame_000000.npz", **(dict(file) | change))
    with pytest.raises(ValueError, match=words):
        read_run(lingbot_run, images)


def test_cropped_output_is_not_stretched_over_the_whole_image():
    depth = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert whole_image(depth, (6, 8)).shape == (6, 8)
    np.testing.assert_array_equal(whole_image(depth, (3, 4)), depth)
    with pytest.raises(
        ValueError, match="4x3 does not cover the whole image of 8x8: it was cropped"
    ):
        whole_image(depth, (8, 8))


@pytest.mark.parametrize(
    "text, words", [("1 2 3\n", "3 numbers per line"), ("", "0 numbers per line")]
)
def test_other_files_are_not_taken_for_runs(tmp_path, text, words):
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(ValueError, match=words):
        kind_of(tmp_path / "x.txt")
    with pytest.raises(ValueError, match="contains no frame_"):
        kind_of(tmp_path)
    with pytest.raises(ValueError, match="cannot be read"):
        kind_of(tmp_path / "missing")


def test_the_size_of_an_image_is_read_from_its_file(tmp_path, images):
    assert size_of(next(images.iterdir())) == SIZE
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="x.png"):
        size_of(tmp_path / "x.png")
