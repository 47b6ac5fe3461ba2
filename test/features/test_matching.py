"""Matches between two views of real photographs, judged by the homography between them."""

from dataclasses import replace

import numpy as np
import pytest
from photographs import moved, scaled, warped

from vggt3_ros.features import matching
from vggt3_ros.features.matching import guided, mutual_nearest

EMPTY = np.zeros((0, 2))


def _truncated(features, count):
    return replace(
        features,
        keypoints=features.keypoints[:count],
        scores=features.scores[:count],
        descriptors=features.descriptors[:count],
    )


@pytest.fixture(scope="module")
def pair(encoder):
    image = scaled("motorcycle_left.png")
    other, homography = warped(image)
    return encoder.encode(image), encoder.encode(other), homography


def right(matches, pair, within=4.0):
    first, second, homography = pair
    return (
        np.linalg.norm(
            moved(first.keypoints[matches[:, 0]], homography) - second.keypoints[matches[:, 1]],
            axis=1,
        )
        < within
    )


def methods(matcher):
    return {"lighterglue": matcher.lighterglue, "mutual": mutual_nearest}


@pytest.mark.parametrize("method, least", [("lighterglue", 200), ("mutual", 200)])
def test_matches_of_two_views_are_right(pair, matcher, method, least):
    matches, confidence = methods(matcher)[method](*pair[:2])
    assert len(matches) == len(confidence) >= least
    assert right(matches, pair).mean() > {"lighterglue": 0.9, "mutual": 0.65}[method]
    assert len(set(matches[:, 0])) == len(set(matches[:, 1])) == len(matches)
    assert confidence.min() > 0 and confidence.max() <= 1.01


@pytest.mark.parametrize("method", ["lighterglue", "mutual"])
def test_photographs_of_different_things_hardly_match(encoder, matcher, pair, method):
    other = encoder.encode(scaled("astronaut.png"))
    alike, unlike = (
        len(methods(matcher)[method](pair[0], features)[0]) for features in (pair[1], other)
    )
    assert unlike < alike / 8


@pytest.mark.parametrize("method", ["lighterglue", "mutual"])
def test_images_without_keypoints_match_nothing(encoder, matcher, pair, method):
    blank = encoder.encode(np.zeros((480, 640, 3), np.uint8))
    for first, second in (
        (pair[0], blank),
        (blank, pair[0]),
        (blank, blank),
        (_truncated(pair[0], 1), blank),
    ):
        matches, confidence = methods(matcher)[method](first, second)
        assert matches.shape == (0, 2) and len(confidence) == 0
    matches, _ = methods(matcher)[method](_truncated(pair[0], 1), pair[1])
    assert len(matches) <= 1


def test_lighterglue_is_asked_for_the_best_keypoints_alone(matcher, pair):
    matches, _ = matcher.lighterglue(*pair[:2], keypoints=200)
    assert len(matches) > 20 and matches.max() < 200


def test_guided_matches_lie_where_they_are_expected_and_are_more(pair):
    first, second, homography = pair
    expected = moved(second.keypoints, np.linalg.inv(homography)) + np.random.default_rng(
        0
    ).normal(0, 1.5, second.keypoints.shape)
    matches, _ = guided(first, second, expected, 8.0)
    assert (
        np.linalg.norm(first.keypoints[matches[:, 0]] - expected[matches[:, 1]], axis=1) <= 8.0
    ).all()
    assert right(matches, pair).mean() > right(mutual_nearest(first, second)[0], pair).mean()
    assert right(matches, pair).sum() > right(mutual_nearest(first, second)[0], pair).sum()


def test_guided_leaves_out_what_is_not_visible_or_expected_elsewhere(pair):
    first, second, homography = pair
    expected = moved(second.keypoints, np.linalg.inv(homography))
    expected[::2] = np.nan
    matches, _ = guided(first, second, expected, 8.0)
    assert len(matches) > 50 and (matches[:, 1] % 2 == 1).all()
    assert len(guided(first, second, np.full_like(expected, np.nan), 8.0)[0]) == 0
    assert len(guided(first, second, expected + 5000, 8.0)[0]) == 0


def test_many_pairs_at_once_match_as_each_alone(encoder, matcher, pair, monkeypatch):
    """Pairs of images with other numbers of keypoints in between, and one without any."""
    first, second = pair[:2]
    few, none = _truncated(first, 50), _truncated(first, 0)
    pairs = [
        (first, second),
        (few, second),
        (none, second),
        (second, first),
        (first, few),
        (first, second),
    ]
    alone = [matcher.lighterglue(*p) for p in pairs]
    monkeypatch.setitem(matching.PAIRS_AT_ONCE, "cpu", 4)
    together = list(matcher.lighterglue_many(pairs))
    for (matches, scores), (matches_together, scores_together) in zip(
        alone, together, strict=True
    ):
        np.testing.assert_array_equal(matches_together, matches)
        np.testing.assert_allclose(scores_together, scores, atol=1e-5)
    assert len(together[0][0]) > 100 and len(together[2][0]) == 0
