"""The models of the cameras: noise, range, gaps, exposure."""

import numpy as np
import pytest

from vggt3_ros.datasets.synthetic import sensor
from vggt3_ros.datasets.synthetic.render import Frame
from vggt3_ros.geometry.camera import Camera

CAMERA = Camera(160, 120, 130.0, 132.0, 79.0, 60.0)


def frame(depth, incidence=1.0):
    """A frame of a surface at these depths (height, width)."""
    depth = np.broadcast_to(depth, (120, 160)).astype(np.float32)
    color = np.zeros((120, 160, 3), np.float32)
    return Frame(CAMERA, color, depth, np.full_like(depth, incidence))


def measured(depth, incidence=1.0, noise=1.0):
    return sensor.measure_depth(frame(depth, incidence), np.random.default_rng(0), noise)


@pytest.mark.parametrize("distance", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
def test_noise_grows_with_the_square_of_the_distance(distance, noise):
    depth = measured(distance, noise=noise)
    known = depth[depth > 0]
    assert len(known) == depth.size
    expected = noise * 0.0012 * distance**2
    assert known.std() == pytest.approx(np.hypot(expected, 0.001 / np.sqrt(12)), rel=0.05)
    assert known.mean() == pytest.approx(distance, abs=5 * expected / np.sqrt(known.size))
    np.testing.assert_allclose(np.round(known, 3), known, atol=1e-6)  # steps of 1 mm


def test_no_noise_is_the_exact_depth_everywhere():
    exact = np.linspace(0.01, 20, 160)
    np.testing.assert_array_equal(measured(exact, noise=0), frame(exact).depth)


def test_nothing_is_measured_too_near_too_far_or_where_nothing_is():
    depth = measured(np.array([0.0, 0.25, 0.35, 5.9, 6.1]).repeat(32), noise=1.0)
    inside = depth[:, 2::32]  # the middles of the bands
    assert [bool((inside[:, k] > 0).all()) for k in range(5)] == [False, False, True, True, False]


def test_edges_have_gaps_and_slopes_have_none():
    step = np.where(np.arange(160) < 80, 2.0, 3.0)
    gaps = (measured(step) == 0).any(axis=0)
    assert np.flatnonzero(gaps).tolist() == [79, 80]
    # a floor that recedes by 1 % from pixel to pixel, seen at the angle which that means
    slope = 2.0 * 1.01 ** np.arange(160) / 2
    assert (measured(slope, incidence=0.3)[:, :110] > 0).mean() > 0.99


@pytest.mark.parametrize("incidence, share", [(0.05, 0.0), (0.14, 0.5), (0.25, 1.0)])
def test_grazing_rays_come_back_by_chance(incidence, share):
    assert (measured(2.0, incidence) > 0).mean() == pytest.approx(share, abs=0.05)


def photograph(level, seed=0):
    color = np.full((120, 160, 3), level, np.float32)
    return sensor.photograph(color, np.random.default_rng(seed))


def test_exposure_brings_dark_and_bright_scenes_together():
    dark, bright = (photograph(level).mean() for level in (40, 200))
    assert 80 < dark < bright < 160
    exposures = [photograph(100, seed).mean() for seed in range(20)]
    assert 2 < np.std(exposures) < 12  # a little off, differently each time


def test_corners_are_darker_and_pixels_noisy():
    image = photograph(100).astype(float)
    assert image[:20, :20].mean() < 0.95 * image[50:70, 70:90].mean()
    assert 1 < image[50:70, 70:90, 1].std() < 4


def test_highlights_saturate_softly():
    color = np.full((120, 160, 3), 60.0, np.float32)
    color[60:, :, :] = np.linspace(100, 1000, 160)[None, :, None]
    image = sensor.photograph(color, np.random.default_rng(0))
    row = image[100].mean(axis=-1)
    assert image.dtype == np.uint8 and row.max() > 225
    assert np.diff(np.convolve(row, np.ones(9) / 9, "valid")).min() > -2  # brighter stays brighter
