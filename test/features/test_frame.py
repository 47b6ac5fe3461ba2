"""Frames: encoded once, the same from the store, with the depth that is known now, in threads
too.
"""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from stand_in_encoder import StandInEncoder

from vggt3_ros.features.frame import CACHE_NAME, FrameSource, encode_frame, with_depth
from vggt3_ros.geometry.camera import Camera, undistort
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.keyframes import KeyframeStore

LENS = Camera(320, 240, 260.0, 260.0, 159.5, 119.5, "plumb_bob", (0.1, -0.05, 0.0, 0.0, 0.0))


class Counting(StandInEncoder):
    def __init__(self):
        self.encoded = 0

    def encode(self, image):
        self.encoded += 1
        return super().encode(image)


def keyframe(id, depth=True):
    image = cv2.GaussianBlur(
        np.random.default_rng(id).integers(0, 256, (240, 320, 3), np.uint8), (0, 0), 3
    )
    image[0, 0, 0] = id
    y, x = np.indices((240, 320), np.float32)
    return Keyframe(
        id,
        id + 1,
        image,
        LENS,
        np.eye(4),
        (1 + x / 160 + y / 240).astype(np.float32) if depth else None,
    )


@pytest.fixture
def store(tmp_path):
    with KeyframeStore(tmp_path / "store") as store:
        for id in range(4):
            store.put(keyframe(id, depth=id < 2))
        yield store


def test_a_frame_is_of_the_undistorted_image_and_has_its_depth_at_keypoints_and_cells():
    frame = encode_frame(keyframe(0), StandInEncoder())
    straight = undistort(keyframe(0).image, LENS)
    np.testing.assert_array_equal(frame.gray, cv2.cvtColor(straight, cv2.COLOR_RGB2GRAY))
    assert frame.camera == LENS.undistorted() and frame.has_depth and not frame.estimated
    known = frame.keypoint_depth > 0
    x, y = frame.features.keypoints[known].T
    inside = (x > 40) & (x < 280) & (y > 30) & (y < 210)  # there the lens bends little
    np.testing.assert_allclose(
        frame.keypoint_depth[known][inside], (1 + x / 160 + y / 240)[inside], atol=0.05
    )
    assert (
        inside.sum() > 50
        and frame.cell_depth.shape == (30, 40)
        and (frame.cell_depth > 0).mean() > 0.8
    )
    assert frame.nbytes > frame.gray.nbytes + frame.features.dense.nbytes


def test_depth_across_an_edge_is_not_looked_up():
    frame = encode_frame(keyframe(0), StandInEncoder())
    step = np.where(np.arange(320) < 164, np.float32(1), np.float32(3)) * np.ones(
        (240, 1), np.float32
    )
    cells = with_depth(frame, step).cell_depth
    assert (
        set(np.unique(cells)) <= {0, 1, 3}
        and (cells[:, [19, 20]] == 0).any()
        and (cells == 1).any()
        and (cells == 3).any()
    )


def test_a_frame_is_encoded_once_and_the_same_from_the_store(store):
    encoder = Counting()
    first = FrameSource(store, encoder, 64)
    assert first.missing([0, 1, 9]) == [0, 1, 9]
    made = first(1)
    assert first(1) is made and encoder.encoded == 1 and first.missing([0, 1, 9]) == [0, 9]
    again = FrameSource(store, encoder, 64)(1)
    assert encoder.encoded == 1
    for name in ("gray", "keypoint_depth", "cell_depth"):
        np.testing.assert_array_equal(getattr(again, name), getattr(made, name))
    np.testing.assert_array_equal(again.features.keypoints, made.features.keypoints)
    store.put_cache(1, CACHE_NAME, first.version, b"damaged")
    assert FrameSource(store, encoder, 64)(1).has_depth and encoder.encoded == 2


def test_whoever_is_asked_for_is_heard_of(store):
    source, heard = FrameSource(store, StandInEncoder(), 64), []
    source.touched = heard.append
    source(2)
    source(2)
    assert heard == [2, 2]


def test_depth_that_changes_while_a_frame_is_read_is_in_the_next_one(store):
    """A thread that localizes reads the old estimate, a refinement replaces it, then the thread
    comes to keep what it has read.
    """
    source = FrameSource(store, StandInEncoder(), 64)
    source.estimate(2, np.full((60, 80), 2.0, np.float32))
    read = source.estimated.at_size

    def slowly(*arguments):
        depth = read(*arguments)
        source.estimated.at_size = read
        source.estimate(2, np.full((60, 80), 5.0, np.float32))
        return depth

    source.estimated.at_size = slowly
    assert np.median(source(2).cell_depth[2:-2, 2:-2]) == 2.0
    assert np.median(source(2).cell_depth[2:-2, 2:-2]) == 5.0 and source(2) is source(2)


def test_a_frame_read_while_ids_change_their_meaning_is_not_kept(store):
    encoder = Counting()
    source, encode = FrameSource(store, encoder, 64), encoder.encode

    def renumbered(image):
        source.clear()
        return encode(image)

    encoder.encode = renumbered
    first = source(0)
    encoder.encode = encode
    assert source(0) is not first and source(0) is source(0)


def test_a_store_that_is_only_read_is_not_written_to(store):
    with KeyframeStore(store.folder, read_only=True) as other:
        assert replace(FrameSource(other, StandInEncoder(), 64)(3)).gray.shape == (240, 320)
    assert not store.cached(CACHE_NAME, FrameSource(store, StandInEncoder(), 64).version)
