"""The place index follows the keyframes: known ones are not read again, until there are so many
that they deserve a new vocabulary.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from vggt3_ros.refinement.places import place_index


def frame(id, keypoints=60):
    """A frame of place id // 4: views of one place share most of their descriptors."""
    place, view = np.random.default_rng(id // 4), np.random.default_rng(1000 + id)
    descriptors = place.normal(size=(keypoints, 64)) + 0.2 * view.normal(size=(keypoints, 64))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    return SimpleNamespace(
        id=id, features=SimpleNamespace(descriptors=descriptors.astype(np.float16))
    )


class Frames:
    def __init__(self):
        self.read = []

    def __call__(self, id):
        self.read.append(id)
        return frame(id)


def nothing():
    pass


@pytest.fixture(scope="module")
def old():
    return place_index(list(range(12)), frame, None, (), nothing)


def test_views_of_a_place_find_each_other_whatever_their_ids(old):
    ids = [40 + k for k in range(8)]
    places = place_index(ids, frame, None, (), nothing)
    for k in range(8):
        assert {j // 4 for j in places.similar(k, 3, np.arange(8) != k)} == {k // 4}


def test_only_new_keyframes_are_read(old):
    frames = Frames()
    ids = [5, 4, 30, 11, 31]  # some gone, the order changed, two new
    places = place_index(ids, frames, old, list(range(12)), nothing)
    assert frames.read == [30, 31]
    np.testing.assert_array_equal(places.centres, old.centres)
    for row, id in enumerate(ids):
        if id < 12:
            np.testing.assert_array_equal(places.vectors[row], old.vectors[id])
    assert places.similar(2, 1, np.arange(5) != 2) == [4]


def test_twice_as_many_keyframes_get_a_new_vocabulary(old):
    same = place_index(list(range(24)), frame, old, list(range(12)), nothing)
    more = place_index(list(range(25)), frame, old, list(range(12)), nothing)
    assert same.learned_from == 12 and more.learned_from == 25
    assert len(more.vectors) == 25 and not np.array_equal(more.centres, same.centres)


def test_without_a_keypoint_there_is_no_index():
    assert place_index([0, 1], lambda id: frame(id, keypoints=0), None, (), nothing) is None


def test_building_can_be_stopped():
    class Stop(Exception):
        pass

    frames = Frames()

    def step():
        if len(frames.read) == 3:
            raise Stop

    with pytest.raises(Stop):
        place_index(list(range(12)), frames, None, (), step)
    assert frames.read == [0, 1, 2]
