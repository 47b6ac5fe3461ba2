"""Matches of pairs: right, found once, within bounded memory, over restarts, and never those of
another keyframe of the same id.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from random_keyframes import make_keyframe

from vggt3_ros.features.xfeat import Features
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.refinement.monocular.pair_matches import NAME, PairMatches
from vggt3_ros.store.keyframes import KeyframeStore

CAMERA, COUNT = Camera(640, 480, 500.0, 500.0, 320.0, 240.0), 12


class Views:
    """frames(id) of cameras along a line that see the same points, keypoints in an order of their
    own; a few show something else.
    """

    version = "of a test"

    def __init__(self, store=None, seed=0):
        rng = np.random.default_rng(seed)
        self.store, self.points = store, rng.uniform((-1.5, -1, 3), (1.5, 1, 6), (120, 3))
        names = rng.standard_normal((120, 64))
        self.order, self.frames = [], []
        for i in range(COUNT):
            order = rng.permutation(120)
            pixels = CAMERA.project(self.points[order] - (0.1 * i, 0, 0))
            pixels[:10] = rng.uniform((0, 0), (639, 479), (10, 2))
            described = names[order] + 0.1 * rng.standard_normal((120, 64))
            described /= np.linalg.norm(described, axis=1, keepdims=True)
            features = Features(
                640,
                480,
                pixels.astype(np.float32),
                np.ones(120, np.float32),
                described.astype(np.float16),
                np.zeros((64, 60, 80), np.float16),
                np.ones((60, 80), np.float16),
            )
            self.order.append(order)
            self.frames.append(SimpleNamespace(features=features, camera=CAMERA))

    def __call__(self, keyframe_id):
        return self.frames[keyframe_id]


@pytest.fixture
def store(tmp_path):
    with KeyframeStore(tmp_path) as store:
        for i in range(COUNT):
            store.put(make_keyframe(i))
        yield store


@pytest.fixture
def found(monkeypatch):
    """Pairs that were really matched."""
    pairs, really = [], PairMatches._matched
    monkeypatch.setattr(
        PairMatches, "_matched", lambda self, *pair: (pairs.append(pair), really(self, *pair))[1]
    )
    return pairs


def test_matches_show_the_same_points_and_what_breaks_the_geometry_is_gone():
    views = Views()
    first, second = PairMatches(views, 2**20)(4, 1).T
    assert len(first) > 90 and first.dtype == np.uint16
    assert (views.order[4][first] == views.order[1][second]).mean() > 0.99
    assert (first < 10).sum() <= 2
    views.frames[5].features.descriptors[:] = np.random.default_rng(1).standard_normal((120, 64))
    assert PairMatches(views, 2**20)(5, 1).shape == (0, 2)


def test_a_pair_is_matched_once_also_over_restarts(store, found):
    matched = PairMatches(Views(store), 2**20)
    first = [matched(3, 1), matched(3, 2), matched(3, 1)]
    again = PairMatches(Views(store), 2**20)
    np.testing.assert_array_equal(again(3, 2), first[1])
    np.testing.assert_array_equal(again(3, 1), first[0])
    assert found == [(3, 1), (3, 2)]
    store.put_cache(3, NAME, again._version, b"damaged")
    np.testing.assert_array_equal(PairMatches(Views(store), 2**20)(3, 1), first[0])
    assert len(found) == 3


def test_another_keyframe_of_the_same_id_is_matched_anew(store, found):
    assert len(PairMatches(Views(store), 2**20)(3, 1)) > 90
    merged = PairMatches(Views(store, seed=5), 2**20)  # both ids mean other images now
    # the one that the matches are kept with is still the same
    merged.frames.frames[3] = Views().frames[3]
    assert len(merged(3, 1)) == 0 and found == [(3, 1), (3, 1)]


def test_memory_is_bounded_and_nothing_is_matched_twice(store, found):
    limit = 6000
    matched = PairMatches(Views(store), limit)
    pairs = [(i, j) for i in range(COUNT) for j in range(max(0, i - 3), i)]
    first = {pair: matched(*pair) for pair in pairs}
    assert sum(len(m) * 4 for m in first.values()) > 2 * limit
    for pair in pairs:
        np.testing.assert_array_equal(matched(*pair), first[pair])
        assert 0 < matched.nbytes <= limit
    assert len(found) == len(pairs)
