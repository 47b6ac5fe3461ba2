"""Depth registered to another camera: surfaces keep their place in the world."""

import cv2
import numpy as np
import pytest

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera, undistort
from vggt3_ros.geometry.registration import distorted_pixels, registered_depth

COLOR = Camera(160, 120, 131.0, 131.0, 79.5, 59.5)
DEPTH = Camera(160, 120, 96.0, 96.0, 80.0, 60.0)
FISHEYE = Camera(160, 120, 80.0, 80.0, 79.5, 59.5, "equidistant", (0.02, -0.01, 0.001, 0.0))
LENSES = [
    COLOR,
    Camera(160, 120, 131.0, 131.0, 79.5, 59.5, "plumb_bob", (-0.2, 0.05, 0.001, -0.002)),
    Camera(160, 120, 131.0, 131.0, 79.5, 59.5, "", (), 2.5),
    FISHEYE,
]
T_CAM_DEPTH = se3.exp([0.015, 0.002, -0.001, 0.004, -0.006, 0.01])


def plane_seen_by(camera, T_camera_world, normal, offset):
    """Depth image of the plane normal . p = offset of the world, in the pixels of the undistorted
    camera.
    """
    v, u = np.indices((camera.height, camera.width))
    rays = camera.unproject(np.stack([u, v], -1), np.ones(u.shape))
    T_world_camera = se3.inverse(T_camera_world)
    along, start = rays @ T_world_camera[:3, :3].T @ normal, T_world_camera[:3, 3] @ normal
    return ((offset - start) / along).astype(np.float32)


@pytest.mark.parametrize("camera", LENSES)
def test_a_slanted_plane_stays_where_it_is(camera):
    """Against the plane as the image's camera sees it, through whatever lens: the registered depth
    is undistorted as the map does it.
    """
    normal, offset = np.array([0.3, -0.2, 1.0]), 2.0
    depth = plane_seen_by(DEPTH, np.eye(4), normal, offset)
    found = undistort(registered_depth(depth, DEPTH, camera, T_CAM_DEPTH), camera, nearest=True)
    wanted = plane_seen_by(camera.undistorted(), T_CAM_DEPTH, normal, offset)
    inner = np.s_[12:-12, 12:-12]
    known = found[inner] > 0
    assert known.mean() > 0.97
    error = np.abs(found - wanted)[inner][known]
    # a pixel of this plane is 2 cm deep
    assert np.median(error) < 0.01 and np.percentile(error, 99) < 0.04
    assert np.abs(np.median((found - wanted)[inner][known])) < 0.004


@pytest.mark.parametrize("camera", LENSES)
def test_pixels_are_those_that_opencv_undistorts_from(camera):
    rng = np.random.default_rng(0)
    wanted = rng.uniform((10, 10), (150, 110), (50, 2))
    rays = undistorted(camera, wanted)
    np.testing.assert_allclose(
        distorted_pixels(
            camera, np.column_stack([rays, np.ones(50)]) * rng.uniform(0.5, 5, (50, 1))
        ),
        wanted,
        atol=0.01,
    )


def undistorted(camera, pixels):
    pixels = pixels.copy()
    pixels[:, 0] -= camera.skew / camera.fy * (pixels[:, 1] - camera.cy)
    K, d = (
        np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]]),
        np.array(camera.distortion),
    )
    undo = (
        cv2.fisheye.undistortPoints
        if camera.distortion_model == "equidistant"
        else cv2.undistortPoints
    )
    return undo(pixels[:, None], K, d)[:, 0]


def test_near_surfaces_hide_those_behind():
    depth = np.full((120, 160), 3.0, np.float32)
    depth[40:80, 60:100] = 1.0
    found = registered_depth(depth, DEPTH, COLOR, se3.exp([0.1, 0, 0, 0, 0, 0]))
    near = np.isclose(found, 1.0)
    columns = np.flatnonzero(near[60])
    # without holes, through which the wall would show
    assert np.all(np.diff(columns) == 1) and len(columns) == pytest.approx(40 * 131 / 96, abs=2)
    left = (60 - 80) / 96 + 0.1
    assert columns[0] == pytest.approx(left * 131 + 79.5, abs=1.5)


def test_coarse_depth_has_no_gaps_and_unknown_stays_unknown():
    coarse = Camera(80, 60, 48.0, 48.0, 39.5, 29.5)
    depth = np.full((60, 80), 2.0, np.float32)
    depth[:, :20] = 0
    found = registered_depth(depth, coarse, DEPTH, np.eye(4))
    assert (found[5:-5, 45:-5] == 2.0).all() and not found[:, :35].any()
    assert not registered_depth(np.zeros((60, 80), np.float32), coarse, DEPTH, np.eye(4)).any()


def test_a_size_that_is_not_the_cameras_is_refused():
    with pytest.raises(ValueError, match="depth is 80x60, but its camera_info says 160x120"):
        registered_depth(np.ones((60, 80), np.float32), DEPTH, COLOR, np.eye(4))


def test_a_lens_does_not_fold_what_is_beside_it_into_the_image():
    strong = Camera(160, 120, 131.0, 131.0, 79.5, 59.5, "plumb_bob", (-0.5, 0.2, 0.0, 0.0, -0.4))
    beside = np.array([[4.0, 0.1, 1.0], [0.2, -5.0, 1.0], [3.0, 3.0, 1.0]])
    pixels = distorted_pixels(strong, beside)
    assert not ((pixels > -1) & (pixels < (160, 120))).all(axis=1).any()
