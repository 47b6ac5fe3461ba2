"""The encoder: features lie where the image has them, whatever its size."""

import cv2
import numpy as np
import pytest
from photographs import scaled

from vggt3_ros.config import FeatureConfig
from vggt3_ros.features.xfeat import Features, XFeatEncoder


def assert_equal(a, b):
    assert (a.width, a.height) == (b.width, b.height)
    for name in ("keypoints", "scores", "descriptors", "dense", "reliability"):
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_the_same_image_gives_the_same_features_best_first(encoder):
    image = scaled("motorcycle_left.png")
    features = encoder.encode(image)
    assert_equal(features, encoder.encode(image.copy()))
    assert 300 < len(features.keypoints) <= FeatureConfig().keypoints
    assert (np.diff(features.scores) <= 0).all()
    np.testing.assert_allclose(
        np.linalg.norm(features.descriptors.astype(float), axis=1), 1, atol=2e-3
    )
    assert features.reliability.min() >= 0 and features.reliability.max() <= 1


def test_features_move_with_the_image(encoder):
    image = scaled("motorcycle_left.png", 704, 544)
    first, second = (
        encoder.encode(np.ascontiguousarray(image[y : y + 480, x : x + 640]))
        for x, y in ((0, 0), (32, 64))
    )
    expected = first.keypoints - (32, 64)
    inside = ((expected > 40) & (expected < (600, 440))).all(axis=1)
    distance = np.linalg.norm(expected[inside][:, None] - second.keypoints[None], axis=2)
    nearest = distance.argmin(axis=1)
    found = distance.min(axis=1) < 0.5
    assert found.mean() > 0.8
    alike = (
        first.descriptors[inside][found].astype(float) * second.descriptors[nearest[found]]
    ).sum(axis=1)
    assert np.median(alike) > 0.97
    shift = first.dense[:, 20:50, 20:50].astype(float), second.dense[:, 12:42, 16:46].astype(float)
    assert np.corrcoef(shift[0].ravel(), shift[1].ravel())[0, 1] > 0.95


@pytest.mark.parametrize(
    "width, height", [(640, 480), (500, 333), (97, 71), (32, 32), (20, 13), (1280, 720)]
)
def test_every_size_has_features_in_its_own_pixels(encoder, width, height):
    features = encoder.encode(scaled("motorcycle_left.png", width, height))
    assert (features.width, features.height) == (width, height)
    assert (features.keypoints >= -0.5).all() and (
        features.keypoints <= (width - 0.5, height - 0.5)
    ).all()
    centres = features.cell_centres()
    assert centres.shape == features.dense.shape[1:] + (2,) == features.reliability.shape + (2,)
    np.testing.assert_allclose(
        centres.mean(axis=(0, 1), dtype=float), [(width - 1) / 2, (height - 1) / 2], atol=1e-3
    )
    cell = width / centres.shape[1], height / centres.shape[0]
    np.testing.assert_allclose(centres[0, 0], [cell[0] / 2 - 0.5, cell[1] / 2 - 0.5], atol=1e-3)


def test_a_large_image_is_reduced_and_its_features_still_lie_in_its_pixels(encoder):
    small = scaled("motorcycle_left.png", 640, 480)
    large = cv2.resize(small, (1280, 960), interpolation=cv2.INTER_LINEAR)
    a, b = encoder.encode(small), encoder.encode(large)
    expected = (a.keypoints + 0.5) * 2 - 0.5
    nearest = np.linalg.norm(expected[:, None] - b.keypoints[None], axis=2).min(axis=1)
    assert (nearest < 1.0).mean() > 0.7
    assert a.dense.shape == b.dense.shape


@pytest.mark.parametrize("x, y", [(40, 50), (371, 233)])
def test_keypoints_lie_on_the_only_thing_in_the_image(encoder, x, y):
    image = np.full((480, 640, 3), 110, np.uint8)
    image[y : y + 200, x : x + 240] = scaled("motorcycle_left.png", 240, 200)
    keypoints = encoder.encode(image).keypoints
    low, high = np.quantile(keypoints, (0.02, 0.98), axis=0)
    assert len(keypoints) > 100
    np.testing.assert_allclose(low, (x, y), atol=10)
    np.testing.assert_allclose(high, (x + 240, y + 200), atol=10)


def test_a_blank_image_has_no_keypoints(encoder):
    features = encoder.encode(np.full((480, 640, 3), 90, np.uint8))
    assert len(features.keypoints) == len(features.scores) == len(features.descriptors) == 0
    assert_equal(Features.from_bytes(features.to_bytes()), features)


def test_the_configuration_limits_keypoints_and_size():
    few = XFeatEncoder(FeatureConfig(keypoints=100, image_side=320), "cpu").encode(
        scaled("motorcycle_left.png")
    )
    assert len(few.keypoints) == 100 and max(few.reliability.shape) == 320 // 8
    lenient, strict = (
        len(
            XFeatEncoder(FeatureConfig(detection_threshold=least, keypoints=8192), "cpu")
            .encode(scaled("motorcycle_left.png"))
            .keypoints
        )
        for least in (0.05, 0.3)
    )
    assert 0 < strict < 0.9 * lenient


def test_features_survive_as_bytes_and_damage_is_noticed(encoder):
    features = encoder.encode(scaled("motorcycle_left.png", 320, 240))
    blob = features.to_bytes()
    assert_equal(Features.from_bytes(blob), features)
    for damaged in (b"", b"short", blob[:100], blob[:-10], b"\x00" * len(blob)):
        with pytest.raises(ValueError, match="cached features"):
            Features.from_bytes(damaged)
