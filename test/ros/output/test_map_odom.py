"""Stamps of map->odom grow, so that tf2 takes every correction. The broadcast itself:
integration/test_tf_topic.py, test_use_sim_time.py.
"""

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: scripts/setup brings it")

from vggt3_ros.ros.output.map_odom import Stamps


def test_time_that_runs_gives_its_own_stamps():
    stamps = Stamps()
    assert [stamps.after(t) for t in (100, 200, 350)] == [100, 200, 350]


def test_time_that_stands_still_gives_the_next_nanosecond_each_time():
    stamps = Stamps()
    assert [stamps.after(1000) for _ in range(4)] == [1000, 1001, 1002, 1003]
    # and what it borrowed it gives back, without a stamp twice
    assert [stamps.after(t) for t in (1002, 1003, 1010)] == [1004, 1005, 1010]


def test_a_simulation_that_begins_again_is_followed():
    stamps = Stamps()
    for _ in range(5):
        stamps.after(10**9)
    assert [stamps.after(t) for t in (5, 5, 7)] == [5, 6, 7]
