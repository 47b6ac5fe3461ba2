"""pycolmap reads the project back."""

import cv2
import numpy as np
import pycolmap
import pytest
from written_map import LENS, export, written_map

from vggt3_ros.cli.main import main
from vggt3_ros.geometry import se3
from vggt3_ros.store.keyframes import KeyframeStore


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return written_map(tmp_path_factory.mktemp("saved") / "map")


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
