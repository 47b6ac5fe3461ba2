"""All keyframes are encoded once, in batches where that is faster, and damaged ones are set
aside.
"""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from random_keyframes import make_keyframe
from stand_in_encoder import HEIGHT, WIDTH, StandInEncoder

from vggt3_ros.features.encoding import AT_ONCE, encode_all
from vggt3_ros.features.frame import FrameSource
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.suspicion import DEATHS

CAMERA = Camera(WIDTH, HEIGHT, 260.0, 260.0, 159.5, 119.5)
COUNT = 20


class Batching(StandInEncoder):
    """Notes the sizes of its batches."""

    def __init__(self):
        self.batches = []

    def encode(self, image):
        return self.encode_many([image])[0]

    def encode_many(self, images):
        self.batches.append(len(images))
        return [super(Batching, self).encode(image) for image in images]


@pytest.fixture
def store(tmp_path):
    with KeyframeStore(tmp_path / "store") as store:
        for id in range(COUNT):
            small = make_keyframe(id)
            image = cv2.resize(small.image, (WIDTH, HEIGHT))
            store.put(replace(small, image=image, camera=CAMERA, depth=None))
        yield store


@pytest.fixture
def frames(store):
    return FrameSource(store, Batching(), 100)


def damage(store, id):
    with store.database.writing() as connection:
        connection.execute("UPDATE images SET image=x'00112233' WHERE id=?", (id,))


@pytest.mark.parametrize(
    "device, batches", [("cpu", [1] * COUNT), ("cuda", [AT_ONCE["cuda"], COUNT - AT_ONCE["cuda"]])]
)
def test_a_gpu_encodes_in_batches_and_nothing_is_encoded_twice(frames, device, batches):
    told = []
    assert encode_all(frames, list(range(COUNT)), device, told.append) == set()
    assert frames.encoder.batches == batches
    np.testing.assert_allclose(told, np.cumsum(batches) / COUNT)
    assert encode_all(frames, list(range(COUNT)), device, told.append) == set()
    assert frames.encoder.batches == batches and len(told) == len(batches)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_damaged_keyframes_are_set_aside_and_the_others_encoded(store, frames, device, caplog):
    for id in (3, 4, 18):
        damage(store, id)
    assert encode_all(frames, list(range(COUNT)), device, lambda done: None) == {3, 4, 18}
    assert set(store.aside()) == {3, 4, 18} and "cannot be read" in store.aside()[4]
    assert frames.missing(range(COUNT)) == [3, 4, 18]
    for id in (3, 4, 18):
        assert f"keyframe {id} is set aside" in caplog.text


def test_under_suspicion_images_are_encoded_one_at_a_time(store, frames):
    store.note(DEATHS, json.dumps({"keyframes": {"7": {"features": 1}}}))
    asked = []
    frames.touched = asked.append
    encode_all(frames, list(range(COUNT)), "cuda", lambda done: None)
    assert frames.encoder.batches == [1] * COUNT and asked == list(range(COUNT))


def test_what_was_encoded_before_a_cancellation_is_kept(frames):
    class Stop(Exception):
        pass

    def step(done):
        if done >= 0.5:
            raise Stop

    with pytest.raises(Stop):
        encode_all(frames, list(range(COUNT)), "cpu", step)
    assert frames.missing(range(COUNT)) == list(range(COUNT // 2, COUNT))
