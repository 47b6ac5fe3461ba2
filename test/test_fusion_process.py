"""Fusion in a process of its own: the same map, cancelled at once, and its end is an error in words."""

import threading
import time

import numpy as np
import pytest
from test_fusion import POSES, wall

from vggt3_ros.config import MapConfig
from vggt3_ros.mapping.fusion import fuse
from vggt3_ros.mapping.fusion_process import FusionProcess

CONFIG = MapConfig(voxel_size=0.04)


def test_the_map_is_the_same_and_progress_is_told():
    seen = [wall(2.0, pose, depth=k != 2) for k, pose in enumerate(POSES)]
    told = []
    with FusionProcess() as fusion:
        apart = fusion(iter(seen), np.array(POSES), CONFIG, told.append)
    here = fuse(seen, np.array(POSES), CONFIG)
    order, reference = np.lexsort(apart.points.T), np.lexsort(here.points.T)
    for name in ("points", "colors", "confidence"):
        np.testing.assert_array_equal(getattr(apart, name)[order], getattr(here, name)[reference])
    assert told == sorted(told) and told[0] == 0 and told[-1] == 1
    with FusionProcess() as fusion:
        assert len(fusion([wall(2.0, POSES[0], depth=False)], np.array(POSES[:1]), CONFIG)) == 0


def test_what_progress_raises_ends_it_at_once():
    class Enough(Exception):
        pass

    def progress(fraction):
        if fraction > 0.3:
            raise Enough

    with pytest.raises(Enough), FusionProcess() as fusion:
        fusion((wall(2.0, pose) for pose in POSES), np.array(POSES), CONFIG, progress)
    assert fusion._process.poll() is not None


def test_a_process_that_ends_is_an_error_in_words():
    with FusionProcess() as fusion:
        threading.Timer(0.5, fusion._process.kill).start()
        with pytest.raises(RuntimeError, match="exit status -9"):
            fusion((time.sleep(0.1) or wall(2.0, POSES[0]) for _ in range(10_000)), np.tile(np.eye(4), (10_000, 1, 1)), CONFIG)
