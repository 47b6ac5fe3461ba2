"""What the back end keeps of keyframes stays within its limits however many there are."""

import numpy as np

from vggt3_ros.features.xfeat import Features
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.mapping.frame import FrameSource
from vggt3_ros.mapping.keyframe import Keyframe
from vggt3_ros.mapping.store import KeyframeStore

WIDTH, HEIGHT, KEYFRAMES = 320, 240, 300


class _Encoder:
    """Features of the sizes that the real one gives, in no time."""

    config = "of a test"

    def encode(self, image):
        rng = np.random.default_rng(int(image[0, 0, 0]))
        pixels = rng.uniform(0, (WIDTH - 1, HEIGHT - 1), (200, 2)).astype(np.float32)
        return Features(WIDTH, HEIGHT, pixels, np.ones(200, np.float32), np.ones((200, 64), np.float16),
                        rng.normal(size=(64, HEIGHT // 8, WIDTH // 8)).astype(np.float16), np.ones((HEIGHT // 8, WIDTH // 8), np.float16))


def test_frames_of_many_keyframes_stay_within_the_limit(tmp_path):
    camera, depth = Camera(WIDTH, HEIGHT, 260.0, 260.0, 159.5, 119.5), np.full((HEIGHT, WIDTH), 2.0, np.float32)
    with KeyframeStore(tmp_path) as store:
        for i in range(KEYFRAMES):
            store.put(Keyframe(i, i + 1, np.full((HEIGHT, WIDTH, 3), i % 256, np.uint8), camera, np.eye(4), depth))
        source = FrameSource(store, _Encoder(), limit_mb=16)
        for _ in range(2):  # encoded, then read from the store
            for i in range(KEYFRAMES):
                source(i)
                held = source._frames.values()
                assert sum(frame.nbytes for frame in held) <= 16 * 2**20
        assert 10 < len(held) < KEYFRAMES / 2
        for frame in held:  # an array that is a view of a larger one would keep all of that alive, uncounted
            for array in (frame.gray, frame.keypoint_depth, frame.cell_depth, frame.features.dense, frame.features.descriptors):
                assert array.base is None or memoryview(array.base).nbytes <= array.nbytes
