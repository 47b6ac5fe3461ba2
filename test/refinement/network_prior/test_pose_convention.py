"""Poses read the wrong way are contradicted by the odometry; poses read rightly never are, however
noisy they or the odometry may be.
"""

import numpy as np
import pytest
from stand_in_network import corridor, room_tour, stand_in

from vggt3_ros.geometry import se3
from vggt3_ros.refinement.network_prior.pose_convention import contradiction

PATHS = {"room": room_tour(80), "corridor": corridor(40), "few": room_tour(120)[:12]}


def drifting(T_world_cam, seed):
    """Odometry that drifts by a few percent and half a degree a step."""
    rng = np.random.default_rng(seed)
    steps = se3.inverse(T_world_cam[:-1]) @ T_world_cam[1:]
    metres = np.linalg.norm(steps[:, :3, 3], axis=1).mean()
    noise = np.concatenate(
        [
            0.05 * metres * rng.standard_normal((len(steps), 3)),
            0.01 * rng.standard_normal((len(steps), 3)),
        ],
        axis=1,
    )
    out = [np.eye(4)]
    for step in steps @ se3.exp(noise):
        out.append(out[-1] @ step)
    return np.array(out)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("seed", range(6))
def test_only_the_wrong_reading_is_contradicted(path, seed):
    truth = PATHS[path]
    poses, confidence, _ = stand_in(truth, 0.4, seed, outliers=0.2 if len(truth) > 20 else 0.0)
    odometry = drifting(truth, seed)
    assert contradiction(odometry, poses, confidence, "camera_from_world", 0.25) == ""
    wrong = contradiction(odometry, se3.inverse(poses), confidence, "camera_from_world", 0.25)
    assert (
        "were read as camera_from_world, but they fit the odometry only when read as world_from_camera"
        in wrong
    )


@pytest.mark.parametrize("case", ["standing", "nonsense", "unseen"])
def test_where_neither_reading_fits_nothing_is_said(case):
    rng = np.random.default_rng(0)
    odometry = PATHS["room"]
    poses, confidence, _ = stand_in(odometry, 1.0)
    if case == "standing":
        odometry = odometry[:1] @ se3.exp(1e-5 * rng.standard_normal((len(poses), 6)))
    elif case == "nonsense":
        poses = room_tour(80, seed=3)[rng.permutation(80)]
    else:
        poses = np.full_like(poses, np.nan)
    for convention in ("camera_from_world", "world_from_camera"):
        assert contradiction(odometry, poses, confidence, convention, 0.25) == ""


def test_poses_that_say_nothing_do_not_matter():
    poses, confidence, _ = stand_in(PATHS["room"], 0.4)
    poses[::3] = np.nan
    confidence[::3] = 0
    assert contradiction(PATHS["room"], poses, confidence, "world_from_camera", 0.25) == ""
    assert "read as camera_from_world" in contradiction(
        PATHS["room"],
        se3.inverse(np.nan_to_num(poses, nan=0) + np.eye(4) * np.isnan(poses)),
        confidence,
        "world_from_camera",
        0.25,
    )
