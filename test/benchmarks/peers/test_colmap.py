"""pycolmap on a small rendered sequence: true poses up to scale, with the camera that is given."""

from dataclasses import replace

import pytest

pytest.importorskip("pycolmap", reason="scripts/setup brings it")

from vggt3_ros.benchmarks.peers import colmap_mapping, posed_keyframes
from vggt3_ros.benchmarks.peers.given import Given
from vggt3_ros.benchmarks.peers.preparing import prepared
from vggt3_ros.benchmarks.peers.scoring import score
from vggt3_ros.datasets.dataset import Options


@pytest.fixture(scope="module")
def scene(peers_folder, tmp_path_factory):
    return prepared(str(peers_folder), tmp_path_factory.mktemp("colmap"), Options(), "cpu")


@pytest.mark.parametrize(
    "features, mapper", [("sift", "incremental"), ("sift", "global"), ("xfeat", "incremental")]
)
def test_it_maps_and_localizes(scene, tmp_path, features, mapper):
    given, truth = scene
    row = score(colmap_mapping.contend(given, tmp_path, features, mapper), truth)
    assert not row["metric"] and row["registered"] > 0.9 and row["models"] == 1
    assert 1e-5 < row["ate_scaled_m"] < 0.02
    assert row["localization"]["within_10cm_10deg"] >= 0.5


def test_posed_keyframes_give_metric_answers(scene, tmp_path):
    given, truth = scene
    posed = Given.load(given.folder, truth.file)
    row = score(posed_keyframes.contend(posed, tmp_path, "xfeat"), truth, knows_poses=True)
    assert row["metric"] and row["localization"]["median_m"] < 0.03
    with pytest.raises(ValueError, match="poses"):
        posed_keyframes.contend(replace(given, poses=None), tmp_path)


def test_what_makes_no_sense_is_refused(scene, tmp_path):
    given, _ = scene
    with pytest.raises(ValueError, match="mapper"):
        colmap_mapping.contend(given, tmp_path, "sift", "hierarchical")
    with pytest.raises(ValueError, match="features"):
        colmap_mapping.contend(given, tmp_path, "orb")
