"""trimesh reads the scene back."""

import numpy as np
import pytest
import trimesh
from written_map import FAR, OTHER, export, far_cloud, written_map

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.local_frame import shifted
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.surface.export.gltf import Y_UP, write_gltf


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return written_map(tmp_path_factory.mktemp("saved") / "map")


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
