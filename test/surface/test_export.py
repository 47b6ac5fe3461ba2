"""Files that other tools read back."""

import subprocess
import sys

import cv2
import numpy as np
import open3d as o3d
import pycolmap
import pytest
import trimesh

from vggt3_ros.cli.main import main
from vggt3_ros.datasets.tum_files import read_trajectory_tum
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.local_frame import shifted
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import PointMap, Snapshot
from vggt3_ros.surface.export import write_ply
from vggt3_ros.surface.export.gltf import Y_UP, write_gltf

LENS = Camera(160, 120, 130.0, 131.0, 79.5, 60.5, "plumb_bob", (-0.2, 0.05, 0.001, -0.002))
OTHER = Camera(128, 96, 100.0, 100.0, 63.5, 47.5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """What save_map leaves: five keyframes of two cameras, a snapshot with 3000 points."""
    folder = tmp_path_factory.mktemp("saved") / "map"
    rng = np.random.default_rng(0)
    poses = se3.exp(rng.normal(0, 0.6, (5, 6)))
    ids, stamps = np.array([0, 1, 2, 5, 9]), 1_700_000_000_000_000_123 + np.arange(5) * 10**9
    points = rng.uniform(-3, 3, (3000, 3)).astype(np.float32)
    cloud = PointMap(
        points, rng.integers(0, 256, (3000, 3), np.uint8), rng.random(3000, np.float32)
    )
    with KeyframeStore(folder) as store:
        for id, stamp, pose, camera in zip(
            ids.tolist(), stamps.tolist(), poses, (LENS, LENS, OTHER, LENS, OTHER)
        ):
            coarse = rng.integers(0, 256, (camera.height // 8, camera.width // 8, 3), np.uint8)
            image = cv2.resize(
                coarse, (camera.width, camera.height), interpolation=cv2.INTER_CUBIC
            )
            store.put(Keyframe(id, stamp, image, camera, pose))
        Snapshot(3, ids, stamps, poses, poses, np.tile(np.eye(6), (5, 1, 1)), (), cloud).save(
            store.snapshots / "000003"
        )
    return folder, poses, stamps, ids, cloud


def export(folder, *arguments):
    assert main(["export", str(folder), "--quiet", *map(str, arguments)]) == 0


def test_open3d_reads_the_ply(tmp_path):
    rng = np.random.default_rng(0)
    cloud = PointMap(
        rng.normal(size=(50, 3)).astype(np.float32),
        rng.integers(0, 256, (50, 3), np.uint8),
        rng.random(50, np.float32),
    )
    write_ply(tmp_path / "map.ply", cloud)
    read = o3d.t.io.read_point_cloud(str(tmp_path / "map.ply")).point
    np.testing.assert_array_equal(read.positions.numpy(), cloud.points)
    np.testing.assert_array_equal(read.colors.numpy(), cloud.colors)
    np.testing.assert_array_equal(read.confidence.numpy().ravel(), cloud.confidence)


FAR = np.array([500_000.0, 4_600_000.0, 0.0])


def far_cloud(rng):
    return PointMap.around(
        FAR,
        rng.uniform(-3, 3, (50, 3)).astype(np.float32),
        rng.integers(0, 256, (50, 3), np.uint8),
        rng.random(50, np.float32),
    )


def test_a_ply_of_coordinates_that_float32_cannot_carry_has_doubles(tmp_path):
    cloud = far_cloud(np.random.default_rng(0))
    write_ply(tmp_path / "map.ply", cloud)
    read = o3d.t.io.read_point_cloud(str(tmp_path / "map.ply")).point
    np.testing.assert_allclose(read.positions.numpy() - FAR, cloud.around_origin, atol=1e-6)


@pytest.mark.parametrize("kind", ["glb", "gltf"])
def test_a_far_map_is_whole_in_gltf(tmp_path, kind):
    cloud, poses = (
        far_cloud(np.random.default_rng(0)),
        se3.exp(np.random.default_rng(1).normal(0, 0.6, (5, 6))),
    )
    far = shifted(poses, FAR)
    write_gltf(
        tmp_path / f"m.{kind}",
        Snapshot(
            1, np.arange(5), np.arange(5), far, far, np.tile(np.eye(6), (5, 1, 1)), (), cloud
        ),
        cloud,
        OTHER,
    )
    scene = trimesh.load(tmp_path / f"m.{kind}")
    points = scene.geometry["points"]
    placed = se3.transform_points(
        scene.graph[next(n for n in scene.graph.nodes_geometry if scene.graph[n][1] == "points")][
            0
        ],
        np.asarray(points.vertices),
    )
    np.testing.assert_allclose(
        se3.transform_points(se3.inverse(Y_UP), placed), cloud.points, atol=1e-3
    )


def test_trajectory_and_thinned_points(saved, tmp_path):
    folder, poses, stamps, _, cloud = saved
    export(folder, "--tum", tmp_path / "t.txt", "--ply", tmp_path / "m.ply", "--max-points", 500)
    read_stamps, read_poses = read_trajectory_tum(tmp_path / "t.txt")
    np.testing.assert_array_equal(read_stamps, stamps)
    np.testing.assert_allclose(read_poses, poses, atol=1e-6)
    points = o3d.t.io.read_point_cloud(str(tmp_path / "m.ply")).point.positions.numpy()
    assert len(points) == 500 and set(map(tuple, points)) <= set(map(tuple, cloud.points))


def test_pycolmap_reads_the_model_and_sees_the_same_pixels(saved, tmp_path):
    folder, poses, _, ids, cloud = saved
    export(folder, "--colmap", tmp_path / "colmap")
    model = pycolmap.Reconstruction(str(tmp_path / "colmap/sparse/0"))
    assert len(model.cameras) == 2 and len(model.images) == 5 and len(model.points3D) == 3000
    colors = {
        tuple(np.round(point.xyz, 4)): tuple(point.color) for point in model.points3D.values()
    }
    assert colors[tuple(np.round(cloud.points[7].astype(float), 4))] == tuple(cloud.colors[7])
    for id, pose in zip(ids.tolist(), poses):
        image = model.images[id + 1]
        rigid = image.cam_from_world() if callable(image.cam_from_world) else image.cam_from_world
        matrix = np.vstack([rigid.matrix(), [0, 0, 0, 1]])
        np.testing.assert_allclose(matrix, se3.inverse(pose), atol=1e-9)
        with KeyframeStore(folder, read_only=True) as store:
            ours = store.camera(id).undistorted()
        point = np.array([0.1, -0.2, 2.0])
        np.testing.assert_allclose(
            image.camera.img_from_cam(point), ours.project(point) + 0.5, atol=1e-6
        )
        written = cv2.imread(str(tmp_path / "colmap/images" / image.name))
        assert written.shape[:2] == (ours.height, ours.width)
    # nothing is overwritten
    assert main(["export", str(folder), "--colmap", str(tmp_path / "colmap")]) == 2


def test_images_of_the_model_are_undistorted(saved, tmp_path):
    folder = saved[0]
    export(folder, "--colmap", tmp_path / "colmap")
    with KeyframeStore(folder, read_only=True) as store:
        image = store.get(0).image
    # inside, where no border is filled in
    x, y = np.float32(np.meshgrid(np.arange(20, 140), np.arange(20, 100)))
    rays = np.dstack([(x - LENS.cx) / LENS.fx, (y - LENS.cy) / LENS.fy, np.ones_like(x)]).reshape(
        -1, 1, 3
    )
    where = cv2.projectPoints(
        rays, np.zeros(3), np.zeros(3), LENS.matrix, np.array(LENS.distortion)
    )[0]
    expected = cv2.remap(
        image, where.reshape(*x.shape, 2).astype(np.float32), None, cv2.INTER_LINEAR
    )
    written = cv2.imread(str(tmp_path / "colmap/images/00000000.jpg"))[20:100, 20:140, ::-1]
    away = [
        np.abs(pixels.astype(int) - expected).mean() for pixels in (written, image[20:100, 20:140])
    ]
    assert away[0] < 0.5 * away[1]  # what is left is JPEG


@pytest.mark.parametrize("name", ["map.glb", "map.gltf"])
def test_the_gltf_scene_holds_points_and_cameras(saved, tmp_path, name):
    folder, poses, _, _, cloud = saved
    export(folder, "--gltf", tmp_path / name)
    scene = trimesh.load_scene(str(tmp_path / name))
    cloud_read = next(
        g for g in scene.dump() if isinstance(g, trimesh.PointCloud) or len(g.vertices) == 3000
    )
    x, y, z = cloud.points.T
    # y is up
    np.testing.assert_allclose(
        np.asarray(cloud_read.vertices), np.stack([x, z, -y], axis=1), atol=1e-5
    )
    everything = np.concatenate([g.vertices for g in scene.dump()])
    x, y, z = poses[:, :3, 3].T
    away = np.linalg.norm(everything[:, None] - np.stack([x, z, -y], axis=1), axis=2).min(axis=0)
    assert away.max() < 1e-5  # every camera's centre is drawn


def test_the_rerun_file_holds_points_and_images(saved, tmp_path):
    pytest.importorskip("rerun", reason="rerun-sdk is an optional extra")
    export(saved[0], "--rerun", tmp_path / "map.rrd")
    printed = subprocess.run(
        [sys.executable, "-m", "rerun", "rrd", "print", "-vv", str(tmp_path / "map.rrd")],
        capture_output=True,
        text=True,
    )
    assert printed.returncode == 0, printed.stderr
    for entity in ("/map/points", "/map/trajectory", "/map/camera", "stamp"):
        assert entity in printed.stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["MAP"], "nothing to write"),
        (["nowhere", "--tum", "t"], "is not a saved map"),
        (["MAP", "--gltf", "x.obj"], "must end in .glb or .gltf"),
        (["MAP", "--ply", "x", "--max-points", "0"], "--max-points must be"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    saved, tmp_path, capsys, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert main(["export", *[str(saved[0]) if a == "MAP" else a for a in arguments]]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


def test_a_store_that_was_never_refined_is_named(tmp_path, capsys):
    with KeyframeStore(tmp_path / "store"):
        pass
    assert main(["export", str(tmp_path / "store"), "--tum", str(tmp_path / "t")]) == 2
    assert "holds 0 keyframes but no refined map" in capsys.readouterr().err
