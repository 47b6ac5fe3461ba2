"""vggt3 import as it is typed: what VGGT-Long, VGGT-SLAM and LingBot-Map write becomes keyframes
with the right poses, camera and depth.
"""

import cv2
import numpy as np
import pytest

from vggt3_ros.cli.main import main
from vggt3_ros.datasets.camera_file import write_camera
from vggt3_ros.datasets.feed_forward import kind_of, whole_image
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.projected_depth import projected_depth
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot

COUNT, SCALE = 8, 0.25  # keyframes; metres a unit of the run
WIDTH = 518


@pytest.fixture(scope="module")
def run(rendered, tmp_path_factory):
    """A run over the first rendered images, as each of the three writes it: (folder, poses in
    units, size the network saw).
    """
    folder = tmp_path_factory.mktemp("run")
    keyframes, camera = rendered.keyframes[:COUNT], rendered.camera
    size = round(camera.height * WIDTH / camera.width / 14) * 14, WIDTH
    seen = camera.scaled(WIDTH, size[0])
    units = rendered.T_world_cam[:COUNT].copy()
    units[:, :3, 3] /= SCALE
    for name in ("images", "pcd", "slam_logs", "predictions"):
        (folder / name).mkdir()
    for i, (keyframe, pose) in enumerate(zip(keyframes, units)):
        cv2.imwrite(str(folder / "images" / f"frame_{i + 5:04d}.png"), keyframe.image[..., ::-1])
        depth = (
            cv2.resize(keyframe.depth, (WIDTH, size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
            / SCALE
        )
        u, v = np.meshgrid(np.arange(WIDTH), np.arange(size[0]))
        points = se3.transform_points(pose, seen.unproject(np.stack([u, v], axis=-1), depth))
        np.savez(
            folder / "slam_logs" / f"{float(i + 5)}.npz",
            pointcloud=points.astype(np.float32),
            mask=depth > 0,
        )
        np.savez(
            folder / "predictions" / f"frame_{i:06d}.npz",
            extrinsic=pose[:3].astype(np.float32),
            intrinsic=seen.matrix,
            depth=depth[..., None].astype(np.float32),
            depth_conf=np.where(depth > 0, 4.0, 1.0),
        )
    (folder / "camera_poses.txt").write_text(
        "".join(" ".join(map(str, pose.ravel())) + "\n" for pose in units)
    )
    (folder / "intrinsic.txt").write_text(f"{seen.fx} {seen.fy} {seen.cx} {seen.cy}\n" * COUNT)
    translations, quaternions = se3.to_quaternion(units)
    lines = [
        f"{i + 5:.8f} " + " ".join(f"{value:.8f}" for value in (*t, *q)) + "\n"
        for i, (t, q) in enumerate(zip(translations, quaternions))
    ]
    (folder / "slam.txt").write_text("".join(lines[:5] + lines[3:]))  # submaps overlap
    return folder, units, size


RUNS = {"vggt-long": "camera_poses.txt", "vggt-slam": "slam.txt", "lingbot-map": "predictions"}


def imported(run, tmp_path, *options, path):
    return main(
        [
            "import",
            str(run[0] / path),
            "--images",
            str(run[0] / "images"),
            "--out",
            str(tmp_path / "map"),
            "--scale",
            str(SCALE),
            "--quiet",
            *options,
        ]
    )


@pytest.mark.parametrize("kind", RUNS)
def test_poses_camera_and_depth_come_out_in_metres(run, rendered, tmp_path, capsys, kind):
    assert kind_of(run[0] / RUNS[kind]) == kind
    assert imported(run, tmp_path, "--keyframes-only", path=RUNS[kind]) == 0
    assert (
        f"{COUNT} keyframes, {0 if kind == 'vggt-long' else COUNT} of them with depth"
        in capsys.readouterr().out
    )
    with KeyframeStore(tmp_path / "map", read_only=True) as store:
        assert store.ids() == list(range(COUNT))
        np.testing.assert_allclose(
            store.poses().T_odom_cam, rendered.T_world_cam[:COUNT], atol=1e-5
        )
        for i in (0, COUNT - 1):
            keyframe, given = store.get(i), rendered.keyframes[i]
            np.testing.assert_array_equal(keyframe.image, given.image)
            found = [getattr(keyframe.camera, name) for name in ("fx", "fy", "cx", "cy")]
            assert found == pytest.approx(
                [getattr(rendered.camera, name) for name in ("fx", "fy", "cx", "cy")],
                rel=0.005,
                abs=1,
            )
            if kind == "vggt-long":
                assert keyframe.depth is None
            else:
                known = (keyframe.depth > 0) & (given.depth > 0)
                assert (
                    known.mean() > 0.8
                    and np.median(np.abs(keyframe.depth[known] / given.depth[known] - 1)) < 0.005
                )


def test_a_cloud_gives_depth_to_cameras_that_know_none(run, rendered, tmp_path):
    import open3d

    points = np.concatenate(
        [
            np.load(file)["pointcloud"].reshape(-1, 3)
            for file in sorted((run[0] / "slam_logs").iterdir())
        ]
    )
    open3d.io.write_point_cloud(
        str(tmp_path / "cloud.ply"),
        open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points[::3].astype(float))),
    )
    write_camera(tmp_path / "camera.yaml", rendered.camera, 5000)
    assert (
        imported(
            run,
            tmp_path,
            "--keyframes-only",
            "--points",
            str(tmp_path / "cloud.ply"),
            "--camera",
            str(tmp_path / "camera.yaml"),
            "--every",
            "2",
            path="camera_poses.txt",
        )
        == 0
    )
    with KeyframeStore(tmp_path / "map", read_only=True) as store:
        assert len(store) == COUNT // 2 and store.get(1).camera == rendered.camera
        depth, truth = store.get(1).depth, rendered.keyframes[2].depth
        known = (depth > 0) & (truth > 0)
        assert known.mean() > 0.8 and np.median(np.abs(depth[known] / truth[known] - 1)) < 0.01
        assert store.get(1).stamp_ns - store.get(0).stamp_ns == 200_000_000


def test_what_was_imported_is_refined_and_served(run, rendered, tmp_path, capsys):
    assert (
        imported(
            run,
            tmp_path,
            "--set",
            "device=cpu",
            "--set",
            "map.voxel_size=0.05",
            path="predictions",
        )
        == 0
    )
    assert "loops" in capsys.readouterr().out
    snapshot = Snapshot.load(tmp_path / "map" / "snapshots" / "000001")
    assert len(snapshot) == COUNT and len(snapshot.cloud) > 1000
    apart = se3.inverse(snapshot.T_map_cam) @ rendered.T_world_cam[:COUNT]
    assert np.linalg.norm(apart[:, :3, 3], axis=1).max() < 0.02


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda folder: (folder / "camera_poses.txt").write_text("1 2 3\n"), "3 numbers per line"),
        (
            lambda folder: (folder / "camera_poses.txt").write_text(
                " ".join(["1"] * 16) + "\n" * COUNT
            ),
            "has 1 poses, .* 8 images",
        ),
        (
            lambda folder: (folder / "camera_poses.txt").write_text(
                (" ".join(["1"] * 16) + "\n") * COUNT
            ),
            "camera_poses.txt:1: the pose must",
        ),
        (
            lambda folder: (folder / "camera_poses.txt").write_text(
                (" ".join(["nan"] * 16) + "\n") * COUNT
            ),
            "NaN or infinity",
        ),
        (
            lambda folder: (folder / "intrinsic.txt").unlink(),
            "does not contain the camera: .*--camera",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_left(run, tmp_path, capsys, change, words):
    import re
    import shutil

    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("camera_poses.txt", "intrinsic.txt"):
        shutil.copy(run[0] / name, copy)
    (copy / "images").symlink_to(run[0] / "images")
    change(copy)
    assert imported((copy,), tmp_path, "--keyframes-only", path="camera_poses.txt") == 2
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "map").exists() and not (tmp_path / "map.partial").exists()


def test_numbers_that_no_image_has_and_frames_of_another_shape_are_named(run, tmp_path, capsys):
    (run[0] / "stray.txt").write_text("99.0 0 0 0 0 0 0 1\n")
    assert imported(run, tmp_path, path="stray.txt") == 2
    assert "has the number 99" in capsys.readouterr().err
    (tmp_path / "predictions").mkdir()
    for i in range(COUNT):
        np.savez(
            tmp_path / "predictions" / f"frame_{i:06d}.npz",
            extrinsic=np.eye(4),
            intrinsic=np.eye(3),
        )
    assert imported(run, tmp_path, path=str(tmp_path / "predictions")) == 2
    assert "extrinsic (4, 4)" in capsys.readouterr().err


def test_depth_of_a_cropped_image_is_not_stretched_over_the_whole():
    with pytest.raises(ValueError, match="it was cropped"):
        whole_image(np.ones((518, 518), np.float32), (640, 480))


def test_what_lies_behind_a_surface_does_not_show_through_it(rendered):
    """A wall at 1 m with gaps of single cells, and another at 3 m behind it."""
    camera = rendered.camera
    step = 3
    u, v = (
        grid.ravel()
        for grid in np.meshgrid(
            np.arange(0, camera.width, step), np.arange(0, camera.height, step)
        )
    )
    pixels = np.stack([u, v], axis=-1).astype(float)
    holes = (u // 40 % 4 == 1) & (u % 40 < 4) & (v % 40 < 4)
    near = camera.unproject(pixels[~holes], np.ones((~holes).sum()))
    far = camera.unproject(pixels, np.full(len(pixels), 3.0))
    depth = projected_depth(np.concatenate([far, near]), np.eye(4), camera)
    assert set(np.unique(np.round(depth, 5))) <= {0.0, 1.0} and (depth > 0).mean() > 0.95
    assert projected_depth(far, np.eye(4), camera).max() == pytest.approx(3.0)
