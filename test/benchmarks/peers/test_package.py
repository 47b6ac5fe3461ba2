"""This package as a contender: the figures of `vggt3 evaluate`, what its ablations leave out, and
its own front end.
"""

import pytest

from vggt3_ros.benchmarks.peers.contenders import chosen, contenders
from vggt3_ros.benchmarks.peers.package import contend
from vggt3_ros.benchmarks.peers.preparing import prepared
from vggt3_ros.benchmarks.peers.scoring import score
from vggt3_ros.config import BackendConfig
from vggt3_ros.datasets.dataset import Options, open_dataset
from vggt3_ros.evaluation.sequence import evaluate_sequence
from vggt3_ros.evaluation.trajectory import trajectory_error

CONFIG = {"device": "cpu", "map.voxel_size": 0.05}


@pytest.fixture(scope="module")
def scene(peers_folder, tmp_path_factory):
    return prepared(str(peers_folder), tmp_path_factory.mktemp("package"), Options(), "cpu")


def settings(name):
    return dict(next(c for c in contenders(CONFIG, None) if c.name == name).settings)


def test_its_figures_are_those_of_evaluate(scene, peers_folder, tmp_path):
    given, truth = scene
    expected = evaluate_sequence(
        open_dataset(peers_folder, Options()),
        tmp_path / "evaluate",
        BackendConfig.from_flat(CONFIG),
        lambda stage, part: None,
    ).result
    row = score(contend(given, tmp_path, **settings("vggt3")), truth)
    assert row["ate_m"] == pytest.approx(expected["corrected"]["ate_m"], rel=0.02)
    assert row["ate_m"] < 0.5 * expected["odometry"]["ate_m"]
    found, wanted = row["localization"], expected["localization"]
    assert found["median_m"] == pytest.approx(wanted["median_m"], rel=0.05)
    for name in ("queries", "localized", "within_5cm_5deg", "within_10cm_10deg"):
        assert found[name] == wanted[name]


def test_odometry_alone_is_what_was_given(scene, tmp_path):
    given, truth = scene
    row = score(contend(given, tmp_path, **settings("odometry")), truth)
    expected = trajectory_error(truth.odometry, truth.keyframes, truth.stamps_ns)
    assert row["ate_m"] == expected.ate_m > 0.01 and "localization" not in row


def test_without_a_scene_memory_keyframes_alone_localize(scene, tmp_path):
    given, truth = scene
    changed = settings("vggt3-no-memory")
    row = score(contend(given, tmp_path, **changed), truth)
    assert row["ate_m"] < 0.03 and row["localization"]["localized"] > 0.5
    alone = contend(given, tmp_path / "alone", **changed, verify=False)
    assert score(alone, truth)["localization"]["localized"] == 0


def test_its_own_front_end_tracks_where_no_odometry_is_given(peers_folder, tmp_path):
    given, truth = prepared(
        str(peers_folder), tmp_path / "scene", Options(), "cpu", own_front_end=True
    )
    row = score(contend(given, tmp_path, CONFIG, refine=False), truth)
    assert row["registered"] > 0.9 and 1e-4 < row["ate_m"] < 0.1


def test_a_contender_that_nobody_knows_is_refused():
    everyone = contenders({}, None)
    assert [c.name for c in chosen(everyone, ["vggt3", "hloc"], ["hloc"])] == ["vggt3"]
    assert len(chosen(everyone, [], [])) == len(everyone) == len({c.name for c in everyone})
    with pytest.raises(ValueError, match="called 'orb'; there are: odometry, vggt3"):
        chosen(everyone, ["orb"], [])
