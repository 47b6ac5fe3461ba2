"""What may move map->odom: corrections within the gate, and localizations that are not alone with
a far jump.
"""

import numpy as np
import pytest

from vggt3_ros.geometry import se3
from vggt3_ros.ros.node_config import GateConfig
from vggt3_ros.ros.output.gate import MapOdom
from vggt3_ros.store.snapshot import Loop, Snapshot
from vggt3_ros.surface.fusion import empty_map

CORRECTION = se3.exp([0.6, 0.0, 0.8, 0.0, 0.3, 0.0])


def snapshot(T_map_odom, residuals=(0.01, 0.02, 0.3), rejected=1):
    T_odom_cam = np.array([np.eye(4), se3.exp([0.0, 0, 0, 0.1, 0.2, 0.3])])
    loops = [
        Loop(1, 0, True, "", "place", 40, np.eye(4), np.eye(6), residual, 0.0)
        for residual in residuals
    ]
    loops += [Loop(1, 0, False, "too few", "place", 4)] * rejected
    return Snapshot(
        1,
        np.arange(2),
        np.arange(2),
        T_map_odom @ T_odom_cam,
        T_odom_cam,
        np.zeros((2, 6, 6)),
        tuple(loops),
        empty_map(),
    )


@pytest.mark.parametrize(
    "gate, reason",
    [
        (GateConfig(), ""),
        (GateConfig(translation=1.05, rotation=0.31, residual=0.03, inlier_ratio=0.7), ""),
        (GateConfig(translation=0.95), "gate.translation"),
        (GateConfig(rotation=0.29), "gate.rotation"),
        (GateConfig(residual=0.015), "gate.residual"),
        (GateConfig(inlier_ratio=0.8), "gate.inlier_ratio"),
    ],
)
def test_a_correction_beyond_the_gate_is_not_in_force_and_says_why(gate, reason):
    map_odom = MapOdom()
    before = map_odom.correct(snapshot(CORRECTION), gate)
    assert (
        np.array_equal(before, np.eye(4))
        and reason in map_odom.withheld
        and bool(map_odom.withheld) == bool(reason)
    )
    np.testing.assert_allclose(
        map_odom.T_map_odom, np.eye(4) if reason else CORRECTION, atol=1e-12
    )


def test_a_correction_is_measured_against_what_is_in_force():
    map_odom, gate = MapOdom(), GateConfig(translation=1.2)
    for metres in (1.0, 2.0, 3.0):
        map_odom.correct(snapshot(se3.exp([metres, 0, 0, 0, 0, 0])), gate)
        assert map_odom.T_map_odom[0, 3] == pytest.approx(metres) and not map_odom.withheld
    map_odom.correct(snapshot(np.eye(4)), gate)
    assert map_odom.T_map_odom[0, 3] == pytest.approx(3.0) and "3.00 m" in map_odom.withheld


def test_one_wrong_localization_moves_nothing_and_three_that_agree_do():
    map_odom, gate = MapOdom(), GateConfig(relocalization=0.5)
    map_odom.reset(None)

    def see(x, gate=gate):
        return map_odom.see(se3.exp([x, 0, 0, 0, 0, 0]), se3.exp([0, 2.0, 0, 0, 0, 1.0]), gate)

    assert see(0.0) and see(0.2) and map_odom.T_map_odom[0, 3] == pytest.approx(0.2)
    assert not see(5.0) and map_odom.withheld and see(0.1) and not map_odom.withheld
    assert (
        not see(5.0)
        and not see(9.0)
        and not see(9.1)
        and map_odom.T_map_odom[0, 3] == pytest.approx(0.1)
    )
    assert see(9.2) and map_odom.T_map_odom[0, 3] == pytest.approx(9.2)
    assert see(0.0, GateConfig(relocalization=0.0))
