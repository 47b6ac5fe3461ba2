"""What the soak says of figures. The run itself: integration/test_load.py."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: scripts/setup brings it")

from vggt3_ros.benchmarks import soak


def test_a_map_worse_than_its_odometry_misses_the_target():
    pairs = (0.05, 0.10), (0.10, 0.10), (0.1001, 0.10), (0.149, 0.10)
    assert [soak.error_row(*errors)[-1] for errors in pairs] == [True, True, False, False]
    assert soak.error_row(0.149, 0.1)[1:3] == ("14.9 cm", "at most that of the odometry, 10.0 cm")


def test_keyframes_arrive_in_bursts_at_the_rate_asked_for():
    pace = soak._pace(4.0, seed=1)
    times = np.array([pace(k) for k in range(4000)])
    waits = np.diff(times)
    assert times[0] == 0 and (waits >= 0).all()
    assert 3.7 < 3999 / times[-1] < 4.3
    # half of them come within 0.17 s of the one before, and some after more than a second
    assert np.mean(waits < np.log(2) / 4) == pytest.approx(0.5, abs=0.05) and waits.max() > 1.0
    assert soak._pace(4.0, seed=1)(100) == times[100] != soak._pace(4.0, seed=2)(100)


def test_the_rows_of_a_soak_without_a_map_and_with_lost_keyframes_miss_their_targets(tmp_path):
    from types import SimpleNamespace

    from random_keyframes import make_keyframe

    from vggt3_ros.ros.load.mischief import BROKEN_IDS
    from vggt3_ros.store.keyframes import KeyframeStore

    with KeyframeStore(tmp_path / "soak_store") as store:
        for id in (0, 1, BROKEN_IDS + 3):
            store.put(make_keyframe(id) if id < 2 else _strange(id))
    status, vandal = SimpleNamespace(refused=4), SimpleNamespace(sent=5)
    rows = {row[0]: row[1:] for row in soak._keyframes(tmp_path, 3, status, vandal)}
    assert rows["keyframes lost"] == ("1 of 3", "0", False)
    assert rows["malformed keyframes refused"] == ("4 of 5, 1 accepted", "all", False)
    assert [row[-1] for row in soak._map(tmp_path, None)] == [False]


def _strange(id):
    from dataclasses import replace

    from random_keyframes import make_keyframe

    return replace(make_keyframe(2), id=id)
