"""Pairing parameters: seconds become nanoseconds exactly, and values out of range name their field."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggt3_ros.frontend.pairing import PairingConfig
from vggt3_ros.frontend.pose_track import PoseTrack
from vggt3_ros.frontend.synchronizer import Miss, Nearest
from vggt3_ros.geometry import se3


@given(st.integers(0, 1_000_000_000), st.integers(0, 10_000_000_000))
def test_nanoseconds_are_exact(tolerance_ns, gap_ns):
    config = PairingConfig(sync_tolerance=tolerance_ns / 1e9, pose_gap=gap_ns / 1e9)
    assert (config.tolerance_ns, config.gap_ns) == (tolerance_ns, gap_ns)


@pytest.mark.parametrize(
    "field, value",
    [
        ("sync_tolerance", -0.001),
        ("sync_tolerance", 1.1),
        ("pose_gap", 10.5),
        ("pose_gap", math.nan),
        ("jump_translation", -1.0),
        ("jump_rotation", 3.2),
        ("jump_rotation", math.inf),
    ],
)
def test_a_value_out_of_range_names_its_field(field, value):
    with pytest.raises(ValueError, match=field):
        PairingConfig(**{field: value})


def test_depth_belongs_to_an_image_up_to_the_tolerance():
    depth = Nearest(PairingConfig(sync_tolerance=0.02).tolerance_ns, 10)
    for stamp_ns in (0, 100_000_000):
        depth.add(stamp_ns, stamp_ns)
    assert depth.at(20_000_000) == 0 and depth.at(80_000_000) == 100_000_000
    assert isinstance(depth.at(20_000_001), Miss) and isinstance(depth.at(79_999_999), Miss)


def test_a_jump_is_bridged_by_default_and_kept_where_zero_says_never():
    def end_of(config):
        track = PoseTrack(config.gap_ns, config.jump_translation, config.jump_rotation)
        for k in range(40):  # 1 m/s along x, with a step of 0.5 m along y in the middle
            step = 0.5 if k >= 20 else 0.0
            track.add(k * 50_000_000, se3.exp([0.05 * k, step, 0, 0, 0, 0]))
        return track.at(39 * 50_000_000).T_kept_body[:3, 3]

    np.testing.assert_allclose(end_of(PairingConfig()), [1.95, 0, 0], atol=1e-6)
    np.testing.assert_allclose(
        end_of(PairingConfig(jump_translation=0.0, jump_rotation=0.0)), [1.95, 0.5, 0], atol=1e-6
    )
