import numpy as np
import pytest

from vggt3_ros.datasets.synthetic.patches import box
from vggt3_ros.datasets.synthetic.scene import Scene
from vggt3_ros.evaluation.cloud import cloud_error, surface_error
from vggt3_ros.geometry import se3

RNG = np.random.default_rng(0)
GRID = np.stack(
    np.meshgrid(np.arange(20) * 0.1, np.arange(20) * 0.1, [0.0, 1.0]), axis=-1
).reshape(-1, 3)
T = se3.exp([0.3, -0.2, 0.5, 0.1, 0.4, -0.2])


def test_distance_to_a_cloud_is_that_of_the_nearest_point():
    moved = GRID + np.where(np.arange(len(GRID)) < 0.8 * len(GRID), 0.01, 0.03)[:, None] * (
        0,
        0,
        1,
    )
    error = cloud_error(moved, GRID)
    assert error.points == len(GRID)
    assert error.median_m == pytest.approx(0.01, abs=1e-6) and error.p90_m == pytest.approx(
        0.03, abs=1e-6
    )


def test_the_alignment_is_applied_to_the_map():
    points = se3.transform_points(se3.inverse(T), GRID)
    assert cloud_error(points, GRID, T).median_m < 1e-5
    assert cloud_error(points, GRID).median_m > 0.05


def test_clouds_in_coordinates_of_a_country_are_compared_as_well():
    offset = [500_000.0, 4_600_000.0, 0.0]
    assert cloud_error(
        GRID + (0, 0, 0.01), GRID + offset, se3.from_rotation_translation(np.eye(3), offset)
    ).median_m == pytest.approx(0.01, abs=1e-4)


def test_distance_to_surfaces_has_no_sampling_floor():
    scene = Scene(box((0, 0, 0), (2, 2, 2), np.zeros((8, 8, 3), np.uint8), skip=""))
    surface = RNG.uniform(-0.9, 0.9, (500, 3))
    surface[:, 0] = 1.0 - np.linspace(0, 0.02, 500)
    surface[:, 2] += 1
    error = surface_error(se3.transform_points(se3.inverse(T), surface), scene, T)
    assert error.median_m == pytest.approx(0.01, abs=1e-4) and error.p90_m == pytest.approx(
        0.018, abs=1e-4
    )


@pytest.mark.parametrize(
    "points, what",
    [(np.zeros((0, 3)), "M > 0"), (np.zeros((4, 2)), "shape"), (np.full((4, 3), np.nan), "NaN")],
)
def test_unusable_clouds_are_refused(points, what):
    with pytest.raises(ValueError, match=what):
        cloud_error(points, GRID)
    with pytest.raises(ValueError, match=what):
        cloud_error(GRID, points)
    with pytest.raises(ValueError, match="alignment"):
        cloud_error(GRID, GRID, np.full((4, 4), 2.0))
