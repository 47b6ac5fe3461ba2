"""Evaluation of the back end on a sequence: what it needs. Its figures: test_dataset.py."""

import numpy as np
import pytest

from vggt3_ros.config import BackendConfig
from vggt3_ros.datasets.sequence import KeyframeList, Sequence
from vggt3_ros.evaluation.sequence import evaluate_sequence
from vggt3_ros.geometry.camera import Camera


def test_a_sequence_without_ground_truth_is_refused_before_anything_is_stored(tmp_path):
    camera, stamps = Camera(8, 6, 8.0, 8.0, 3.5, 2.5), np.array([1, 2]) * 10**9
    poses = np.tile(np.eye(4), (2, 1, 1))
    frames = KeyframeList(camera, stamps, poses, lambda i: np.zeros((6, 8, 3), np.uint8))
    sequence = Sequence("unknown", camera, stamps, frames)
    with pytest.raises(ValueError, match="unknown has no ground truth"):
        evaluate_sequence(sequence, tmp_path / "store", BackendConfig(), lambda *_: None)
    assert not (tmp_path / "store").exists()
