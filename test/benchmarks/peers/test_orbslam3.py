"""ORB-SLAM3's own word at its end counts, not what it says live; without it, how to install it."""

import sys

import given_scene
import numpy as np
import pytest
from folders import SUPPORT

from vggt3_ros.benchmarks.peers.orbslam3 import contend

COMMAND = f"{sys.executable} {SUPPORT / 'stand_in_orbslam3.py'}"


def test_its_last_trajectory_counts(tmp_path):
    given, _ = given_scene.make(tmp_path)
    for loop_closing, offset in ((False, 0.0), (True, 0.05)):
        (tmp_path / str(loop_closing)).mkdir()
        outcome = contend(given, tmp_path / str(loop_closing), COMMAND, loop_closing)
        assert np.allclose(outcome.T_map_cam[:, 0, 3], 0.1 * np.arange(8) + offset)
        assert outcome.metric and outcome.in_largest.all() and outcome.T_map_query is None


def test_a_new_map_is_another_model(tmp_path):
    given, _ = given_scene.make(tmp_path, keyframes=12)
    outcome = contend(given, tmp_path, COMMAND + " --breaks", False)
    assert outcome.in_largest.tolist() == [False] * 5 + [True] * 7
    assert outcome.model[4] == -1 and len(set(outcome.model[:4].tolist())) == 1


def test_without_it_the_row_says_how_to_install_it(tmp_path):
    given, _ = given_scene.make(tmp_path)
    with pytest.raises(ValueError, match="pip install numpy pyorbslam3"):
        contend(given, tmp_path, "", True)


def test_without_depth_it_says_so(tmp_path):
    given, _ = given_scene.make(tmp_path, depth=False)
    with pytest.raises(ValueError, match="needs depth"):
        contend(given, tmp_path, COMMAND, True)
