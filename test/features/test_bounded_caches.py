"""What the back end keeps of keyframes stays within its limits however many there are."""

import numpy as np
from stand_in_encoder import HEIGHT, KEYFRAMES, WIDTH, StandInEncoder

from vggt3_ros.features.frame import FrameSource
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.keyframes import KeyframeStore


def test_frames_of_many_keyframes_stay_within_the_limit(tmp_path):
    camera, depth = (
        Camera(WIDTH, HEIGHT, 260.0, 260.0, 159.5, 119.5),
        np.full((HEIGHT, WIDTH), 2.0, np.float32),
    )
    with KeyframeStore(tmp_path) as store:
        for i in range(KEYFRAMES):
            store.put(
                Keyframe(
                    i,
                    i + 1,
                    np.full((HEIGHT, WIDTH, 3), i % 256, np.uint8),
                    camera,
                    np.eye(4),
                    depth,
                )
            )
        source = FrameSource(store, StandInEncoder(), limit_mb=16)
        for _ in range(2):  # encoded, then read from the store
            for i in range(KEYFRAMES):
                source(i)
                held = source._frames.values()
                assert sum(frame.nbytes for frame in held) <= 16 * 2**20
        assert 10 < len(held) < KEYFRAMES / 2
        # an array that is a view of a larger one would keep all of that alive, uncounted
        for frame in held:
            for array in (
                frame.gray,
                frame.keypoint_depth,
                frame.cell_depth,
                frame.features.dense,
                frame.features.descriptors,
            ):
                assert array.base is None or memoryview(array.base).nbytes <= array.nbytes
