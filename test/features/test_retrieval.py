"""Place recognition: views of the same thing rank before views of others."""

import numpy as np
import pytest
from photographs import NAMES, scaled, warped

from vggt3_ros.features.retrieval import PlaceIndex


@pytest.fixture(scope="module")
def views(encoder):
    """Four views of each photograph: index // 4 is the photograph."""
    return [
        encoder.encode(warped(scaled(name), seed, 0.12)[0]) for name in NAMES for seed in range(4)
    ]


def test_other_views_of_the_same_photograph_come_first(views):
    places = PlaceIndex.build(views)
    index = np.arange(len(views))
    for i in range(len(views)):
        assert {j // 4 for j in places.similar(i, 3, index != i)} == {i // 4}


def test_only_the_allowed_are_ranked(views):
    places = PlaceIndex.build(views)
    allowed = np.arange(len(views)) >= 8
    ranked = places.similar(0, 50, allowed)
    assert sorted(ranked) == list(range(8, len(views)))
    assert places.similar(0, 3, np.zeros(len(views), bool)) == []


def test_a_blank_image_among_others_does_no_harm(views, encoder):
    blank = encoder.encode(np.zeros((480, 640, 3), np.uint8))
    places = PlaceIndex.build(views[:8] + [blank])
    assert np.isfinite(places.vectors).all()
    assert places.similar(0, 3, np.arange(9) != 0)[0] in (1, 2, 3)


def test_an_unknown_view_is_placed_with_its_like(views, encoder):
    places = PlaceIndex.build(views)
    for k, name in enumerate(NAMES):
        assert {
            j // 4 for j in places.like(encoder.encode(warped(scaled(name), 9, 0.12)[0]), 3)
        } == {k}


def test_images_without_any_keypoint_make_no_index(encoder):
    blank = encoder.encode(np.zeros((480, 640, 3), np.uint8))
    assert PlaceIndex.build([blank, blank]) is None


def test_an_index_is_the_same_after_saving_and_damage_is_named(views, tmp_path):
    places, path = PlaceIndex.build(views), tmp_path / "places.safetensors"
    places.save(path)
    loaded = PlaceIndex.load(path)
    assert [loaded.like(view, 3) for view in views] == [places.like(view, 3) for view in views]
    for damaged in (path.read_bytes()[:-20], b"", b"another file altogether"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="places.safetensors"):
            PlaceIndex.load(path)


def test_the_same_images_give_the_same_ranking(views):
    first, second = PlaceIndex.build(views), PlaceIndex.build(views)
    np.testing.assert_array_equal(first.vectors, second.vectors)


def test_a_vocabulary_is_outgrown_by_twice_the_images_until_it_came_from_enough(views, tmp_path):
    places, path = PlaceIndex.build(views[:6]), tmp_path / "places.safetensors"
    assert not places.outgrown(12) and places.outgrown(13)
    grown = places.regrown([*range(6), *[-1] * 5], lambda k: views[k])
    grown.save(path)
    assert PlaceIndex.load(path).outgrown(13) and not PlaceIndex.load(path).outgrown(12)
    assert not PlaceIndex(places.centres, places.vectors, 256).outgrown(10_000)
