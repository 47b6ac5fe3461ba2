"""Parameters input.*: the camera's place on the robot as text."""

from typing import get_args

import numpy as np
import pytest

from vggt3_ros.geometry import se3
from vggt3_ros.ros.input.input_config import InputConfig, Source


def test_seven_numbers_are_a_pose_and_nothing_is_none():
    T = se3.exp([0.1, -0.2, 0.3, 0.4, 0.5, -0.6])
    position, quaternion = se3.to_quaternion(T)
    for separator in (" ", ", ", "\t"):
        text = separator.join(repr(float(value)) for value in (*position, *quaternion))
        config = InputConfig(base_to_camera=text)
        np.testing.assert_allclose(config.T_base_camera(), T, atol=1e-12)
    assert InputConfig().T_base_camera() is None
    assert InputConfig(base_to_camera="  ").T_base_camera() is None


@pytest.mark.parametrize(
    "text", ["0 0 0", "0 0 0 0 0 0 0", "0 0 0 0 0 0 2", "0 0 0 0 0 0 one", "0 0 nan 0 0 0 1"]
)
def test_what_is_no_pose_is_refused_when_it_is_set(text):
    with pytest.raises(ValueError, match="base_to_camera must be 'x y z qx qy qz qw'") as refused:
        InputConfig(base_to_camera=text)
    assert f"got '{text}'" in str(refused.value)


@pytest.mark.parametrize("source", get_args(Source))
def test_every_source_can_be_chosen_and_no_other(source):
    assert InputConfig(source=source).source == source
    with pytest.raises(ValueError, match="source"):
        InputConfig(source=source + "s")
