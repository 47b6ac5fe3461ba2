"""Cameras: projection round trips, and undistortion against OpenCV's projection of known points."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vggt3_ros.geometry.camera import MAX_SIDE, Camera, undistort


@st.composite
def cameras(draw, smallest=1):
    width, height = draw(st.integers(smallest, 4096)), draw(st.integers(smallest, 4096))
    focal = st.floats(0.3 * width, 5 * width)
    return Camera(
        width,
        height,
        draw(focal),
        draw(focal),
        draw(st.floats(0, width)),
        draw(st.floats(0, height)),
    )


@given(
    cameras(),
    arrays(float, (6, 2), elements=st.floats(0, 1)),
    arrays(float, 6, elements=st.floats(0.1, 50)),
)
def test_project_undoes_unproject(camera, share, depth):
    pixels = share * (camera.width - 1, camera.height - 1)
    points = camera.unproject(pixels, depth)
    np.testing.assert_allclose(points[:, 2], depth)
    np.testing.assert_allclose(camera.project(points), pixels, atol=1e-6)
    homogeneous = points @ camera.matrix.T
    np.testing.assert_allclose(homogeneous[:, :2] / homogeneous[:, 2:], pixels, atol=1e-6)


@given(cameras(smallest=40), st.floats(0.3, 4), arrays(float, (6, 3), elements=st.floats(0.2, 3)))
def test_a_resized_image_keeps_its_pixel_centres(camera, scale, points):
    width, height = (
        max(1, min(MAX_SIDE, round(side * scale))) for side in (camera.width, camera.height)
    )
    there = camera.scaled(width, height)
    expected = (camera.project(points) + 0.5) * (
        width / camera.width,
        height / camera.height,
    ) - 0.5
    np.testing.assert_allclose(there.project(points), expected, atol=1e-6 * max(width, height))
    back = there.scaled(camera.width, camera.height)
    np.testing.assert_allclose(back.matrix, camera.matrix, rtol=1e-9, atol=1e-6)


GOOD = {"width": 640, "height": 480, "fx": 500.0, "fy": 500.0, "cx": 319.5, "cy": 239.5}


@pytest.mark.parametrize(
    "field, value",
    [
        ("width", 0),
        ("width", 100_000),
        ("height", -5),
        ("fx", 0.0),
        ("fy", 0.0),
        ("fx", -500.0),
        ("fy", np.nan),
        ("fx", 1.0),
        ("fx", 1e9),
        ("cx", np.inf),
        ("cx", 5000.0),
        ("cy", -5000.0),
    ],
)
def test_refuses_intrinsics_that_make_no_sense_and_names_the_field(field, value):
    with pytest.raises(ValueError, match=f"camera {field} "):
        Camera(**dict(GOOD, **{field: value}))


@pytest.mark.parametrize(
    "model, coefficients, message",
    [
        ("thin_prism", (0.1,), "distortion_model 'thin_prism' is unknown.*plumb_bob"),
        ("plumb_bob", (0.1, 0.2), "plumb_bob.*takes 4 or 5.*got 2"),
        ("equidistant", (0.1,) * 5, "equidistant.*takes 4"),
        ("plumb_bob", (0.1, np.nan, 0, 0, 0), "distortion holds NaN"),
    ],
)
def test_refuses_unknown_distortion(model, coefficients, message):
    with pytest.raises(ValueError, match=message):
        Camera(**GOOD, distortion_model=model, distortion=coefficients)


LENSES = {
    "plumb_bob": (-0.28, 0.09, 0.0012, -0.0008, 0.01),
    "rational_polynomial": (0.45, -0.12, 0.0006, -0.0004, 0.01, 0.75, -0.06, 0.02),
    "equidistant": (-0.02, 0.004, -0.003, 0.0005),
}


def distorted_pixels(model, points, camera):
    """Where OpenCV says the lens shows `points` (N, 3)."""
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    zero = np.zeros(3)
    return project(points[:, None], zero, zero, camera.matrix, np.array(camera.distortion))[
        0
    ].reshape(-1, 2)


def dots(pixels, camera, sigma=2.0):
    x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    image = np.zeros((camera.height, camera.width))
    for u, v in pixels:
        image += np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2))
    return np.uint8(np.clip(255 * image, 0, 255))


@pytest.mark.parametrize("model", LENSES)
def test_undistorted_dots_lie_where_a_pinhole_sees_the_points(model):
    camera = Camera(640, 480, 410.0, 400.0, 322.0, 236.0, model, LENSES[model])
    rng = np.random.default_rng(1)
    across, down = np.meshgrid(np.linspace(-1.0, 1.0, 17), np.linspace(-0.8, 0.8, 13))
    depth = rng.uniform(1, 4, across.size)
    points = np.column_stack([across.ravel(), down.ravel(), np.ones(across.size)]) * depth[:, None]
    pinhole = points[:, :2] / points[:, 2:] * (410.0, 400.0) + (322.0, 236.0)
    seen = distorted_pixels(model, points, camera)
    inside = lambda p: ((p > 15) & (p < (camera.width - 15, camera.height - 15))).all(axis=1)
    visible = inside(pinhole) & inside(seen)
    pinhole, seen = pinhole[visible], seen[visible]
    assert len(pinhole) > 40 and np.linalg.norm(pinhole - seen, axis=1).max() > 5

    straight = undistort(dots(seen, camera), camera)
    bright = np.where(straight > 25, straight, 0)
    count, labels = cv2.connectedComponents((bright > 0).astype(np.uint8))
    y, x = np.indices(bright.shape)
    centres = np.array(
        [
            (
                np.average(x[labels == k], weights=bright[labels == k]),
                np.average(y[labels == k], weights=bright[labels == k]),
            )
            for k in range(1, count)
        ]
    )
    nearest = np.linalg.norm(pinhole[:, None] - centres[None], axis=2).min(axis=1)
    assert nearest.max() < 0.5 and np.median(nearest) < 0.15


@pytest.mark.parametrize("angle", [10, 25, 40])
def test_a_fisheye_with_zero_coefficients_is_still_a_fisheye(angle):
    """An ideal equidistant lens shows a ray at f times its angle; a pinhole at f times its
    tangent: 45 px off at 40 degrees.
    """
    camera = Camera(640, 480, 320.0, 320.0, 320.0, 240.0, "equidistant", (0.0,) * 4)
    shown = np.array([[320.0 + 320.0 * np.radians(angle), 240.0]])
    straight = undistort(dots(shown, camera), camera).astype(float)
    y, x = np.indices(straight.shape)
    assert camera.is_distorted and straight.max() > 100
    np.testing.assert_allclose(
        np.average(x, weights=straight), 320 + 320 * np.tan(np.radians(angle)), atol=0.6
    )
    np.testing.assert_allclose(np.average(y, weights=straight), 240, atol=0.3)


WITH_TAIL = (-0.0306, 0.0352, -0.000138, -0.000146, -0.01204)


@pytest.mark.parametrize(
    "model, sent, meant, coefficients",
    [
        ("plumb_bob", WITH_TAIL + (0.0,) * 3, "plumb_bob", WITH_TAIL),  # Orbbec
        (
            "plumb_bob",
            WITH_TAIL + (0.3, 0.1, 0.02),
            "rational_polynomial",
            WITH_TAIL + (0.3, 0.1, 0.02),
        ),
        (
            "plumb_bob",
            WITH_TAIL + (0.3, 0.1, 0.02) + (0.001,) * 6,
            "rational_polynomial",
            WITH_TAIL + (0.3, 0.1, 0.02) + (0.001,) * 6,
        ),
        ("plumb_bob", WITH_TAIL + (0.0,) * 9, "plumb_bob", WITH_TAIL),
        ("rational_polynomial", WITH_TAIL, "plumb_bob", WITH_TAIL),
        ("rational_polynomial", WITH_TAIL[:4], "plumb_bob", WITH_TAIL[:4]),
        # RealSense T265
        (
            "equidistant",
            (0.01, 0.002, -0.003, 0.0005, 0.0),
            "equidistant",
            (0.01, 0.002, -0.003, 0.0005),
        ),
        # OAK
        (
            "equidistant",
            (0.01, 0.002, -0.003, 0.0005) + (0.0,) * 10,
            "equidistant",
            (0.01, 0.002, -0.003, 0.0005),
        ),
        # camera_calibration of Melodic
        ("fisheye", (0.01, 0.002, 0.0, 0.0), "equidistant", (0.01, 0.002, 0.0, 0.0)),
    ],
)
def test_distortion_models_of_common_drivers_are_normalised(model, sent, meant, coefficients):
    camera = Camera(**GOOD, distortion_model=model, distortion=sent)
    assert camera == Camera(**GOOD, distortion_model=meant, distortion=coefficients)
    points = np.random.default_rng(0).uniform(-0.3, 0.3, (20, 3)) + (0, 0, 1)
    if meant != "equidistant" and len(sent) in (8, 14):  # OpenCV's own reading of as many
        zero = np.zeros(3)
        np.testing.assert_allclose(
            distorted_pixels(meant, points, camera),
            cv2.projectPoints(points[:, None], zero, zero, camera.matrix, np.array(sent))[
                0
            ].reshape(-1, 2),
            atol=1e-9,
        )


@pytest.mark.parametrize(
    "model, sent, message",
    [
        ("equidistant", (), "without coefficients is ambiguous"),
        ("fisheye", (), "'fisheye' without coefficients"),
        ("equidistant", (0.1, 0, 0, 0, 0.01), "takes 4 coefficients, got 5"),
        ("plumb_bob", (0.1,) * 6, "takes 4 or 5 coefficients, got 6"),
        ("", (0.1,) * 4, "takes 0 coefficients, got 4"),
        ("rational_polynomial", (0.1,) * 3, "takes 8 or 12 or 14"),
    ],
)
def test_an_ambiguous_distortion_model_is_refused(model, sent, message):
    with pytest.raises(ValueError, match=message):
        Camera(**GOOD, distortion_model=model, distortion=sent)


@pytest.mark.parametrize("model", ["", "plumb_bob", "equidistant"])
def test_skew_is_removed_together_with_distortion(model):
    """The fisheye calibration of ROS writes K[0, 1]: x is K[0, 1] y / z off besides."""
    camera = Camera(640, 480, 410.0, 400.0, 322.0, 236.0, model, LENSES.get(model, ()), skew=9.0)
    points = np.array([[-0.35, 0.3, 1.0], [0.4, -0.25, 1.0], [0.1, 0.35, 1.0]])
    lens = Camera(640, 480, 410.0, 400.0, 322.0, 236.0, model, LENSES.get(model, ()))
    seen = distorted_pixels(model, points, lens)
    seen[:, 0] += 9.0 * (seen[:, 1] - 236.0) / 400.0
    for pixel, expected in zip(seen, lens.project(points)):
        straight = undistort(dots([pixel], camera), camera).astype(float)
        y, x = np.indices(straight.shape)
        np.testing.assert_allclose(
            [np.average(x, weights=straight), np.average(y, weights=straight)], expected, atol=0.3
        )
    assert camera.undistorted() == lens.undistorted() and camera.scaled(320, 240).skew == 4.5
    with pytest.raises(ValueError, match="camera skew"):
        Camera(**GOOD, skew=300.0)


def test_undistorted_depth_lies_where_the_surface_does():
    """A plane whose depth grows with the pixel: nearest values, neither cut off to the left nor to
    the right.
    """
    camera = Camera(320, 240, 300.0, 300.0, 160.0, 120.0, "plumb_bob", LENSES["plumb_bob"])
    y, x = np.indices((240, 320), np.float32)
    rays = cv2.undistortPoints(
        np.dstack([x, y]).reshape(-1, 1, 2), camera.matrix, np.array(camera.distortion)
    ).reshape(240, 320, 2)
    seen = (2 + rays[..., 0] + rays[..., 1]).astype(np.float32)
    straight = undistort(seen, camera, nearest=True)
    expected = 2 + (x - 160) / 300 + (y - 120) / 300
    off = (straight - expected)[10:-10, 10:-10] * 300  # in pixels across and down together
    assert abs(off.mean()) < 0.05 and np.abs(off).max() < 1.3


def test_undistorting_depth_mixes_no_values():
    camera = Camera(320, 240, 200.0, 200.0, 160.0, 120.0, "plumb_bob", LENSES["plumb_bob"])
    depth = np.where(np.arange(320) // 20 % 2, np.float32(1), np.float32(4)) * np.ones(
        (240, 1), np.float32
    )
    straight = undistort(depth, camera, nearest=True)
    assert straight.dtype == np.float32 and set(np.unique(straight)) <= {0, 1, 4}
    assert not np.array_equal(straight, depth)


@pytest.mark.parametrize(
    "model, coefficients", [("", ()), ("none", ()), ("plumb_bob", (0.0,) * 5), ("plumb_bob", ())]
)
def test_an_undistorted_image_is_returned_unchanged(model, coefficients):
    camera = Camera(**GOOD, distortion_model=model, distortion=coefficients)
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    np.testing.assert_array_equal(undistort(image, camera), image)
    assert camera.undistorted().matrix.tolist() == camera.matrix.tolist()


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match="image is 320x240, but its camera is 640x480"):
        undistort(np.zeros((240, 320, 3), np.uint8), Camera(**GOOD))
