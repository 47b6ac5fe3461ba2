"""Runs and maps found in the map held: breaks of the odometry are borne, two places that look
alike are not taken for one.
"""

import numpy as np
import pytest
from fake_backend import Localization

from vggt3_ros.geometry import se3
from vggt3_ros.refinement import placing

# where the odometry's frame lies in the map held
OTHER = se3.exp([4.0, -1.0, 0.5, 0.1, -0.2, 2.0])


def walk(apart=np.eye(4), at=12):
    """Odometry of 24 views along a corridor, and where they are found: OTHER, but for an error of
    the odometry after view `at`.
    """
    truth = np.array([se3.exp([0.2 * k, 0.1 * np.sin(k), 0, 0, 0, 0.05 * k]) for k in range(24)])
    odometry = np.concatenate(
        [truth[:at], truth[at] @ apart @ se3.inverse(truth[at]) @ truth[at:]]
    )
    return odometry, OTHER @ truth


def found_at(poses):
    return lambda k: Localization("ok", "", poses[k], np.eye(6), 100, 0.5, 1, 0.0)


@pytest.mark.parametrize("at", [6, 12, 17])
def test_a_run_whose_odometry_broke_is_placed_by_its_longer_part(at):
    odometry, found = walk(se3.exp([0.5, 0.3, 0, 0, 0, np.radians(30)]), at)
    T_map_odom = placing.place(odometry, found_at(found), breaks=True)
    off = se3.inverse(found) @ T_map_odom @ odometry
    assert sum(np.linalg.norm(off[:, :3, 3], axis=1) < 0.05) >= 10


def test_a_run_through_two_rooms_that_look_alike_is_not_placed():
    """Odometry is right: half of the views are found in the wrong room, eight metres away."""
    odometry, found = walk()
    found[12:] = OTHER @ se3.exp([-8.0, 0, 0, 0, 0, 0]) @ odometry[12:]
    for breaks in (False, True):
        with pytest.raises(placing.LoadError, match="same place"):
            placing.place(odometry, found_at(found), breaks=breaks)
