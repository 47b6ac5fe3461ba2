"""What contenders are given: undistorted images, nothing of the truth, nothing of the queries."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from vggt3_ros.benchmarks.peers.given import Given
from vggt3_ros.benchmarks.peers.preparing import prepared
from vggt3_ros.datasets.camera_file import read_camera, write_camera
from vggt3_ros.datasets.dataset import Options, open_dataset
from vggt3_ros.geometry.camera import undistort


@pytest.fixture
def folder(peers_folder, tmp_path):
    """A copy whose camera file tells of a distorting lens."""
    place = shutil.copytree(peers_folder, tmp_path / "lens")
    camera, scale = read_camera(place / "camera.yaml", 5000.0)
    lens = replace(
        camera, distortion_model="plumb_bob", distortion=(-0.2, 0.05, 0.001, 0.001, 0.0)
    )
    write_camera(place / "camera.yaml", lens, scale)
    return place


def test_images_are_those_of_evaluate_without_distortion(folder, tmp_path):
    sequence = open_dataset(folder, Options())
    given, truth = prepared(str(folder), tmp_path / "work", Options(), "cpu")
    again = Given.load(given.folder)
    assert len(again) == len(sequence) == 12 and len(again.queries) == len(sequence.queries) == 3
    assert not again.camera.is_distorted and sequence.camera.is_distorted
    for keyframe, shot in zip(sequence.keyframes, again.shots):
        assert np.array_equal(again.image(shot), undistort(keyframe.image, sequence.camera))
        assert not np.array_equal(again.image(shot), keyframe.image)
        assert np.array_equal(
            again.depth(shot), undistort(keyframe.depth, sequence.camera, nearest=True)
        )
    for query, shot in zip(sequence.queries, again.queries):
        assert np.array_equal(again.image(shot), undistort(query.image, sequence.camera))
    assert np.array_equal(again.poses, sequence.T_odom_cam)
    assert np.array_equal(truth.keyframes, sequence.groundtruth)
    assert all(k not in row for k, row in enumerate(again.similar))


def test_the_truth_stays_with_the_judge(folder, tmp_path):
    (folder / "odometry.txt").unlink()
    given, truth = prepared(str(folder), tmp_path / "work", Options(), "cpu")
    assert given.poses is None and Given.load(given.folder).poses is None
    assert {path.suffix for path in given.folder.rglob("*.*")} == {".png", ".tiff", ".json"}
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["given", "truth.npy"]
    posed = Given.load(given.folder, truth.file)
    assert np.array_equal(posed.poses, truth.keyframes)


def test_own_front_end_takes_no_odometry(folder, tmp_path):
    given, _ = prepared(str(folder), tmp_path / "work", Options(), "cpu", own_front_end=True)
    assert given.poses is None and len(given) == 12


def test_held_out_keyframes_are_seen_by_nobody(folder, tmp_path):
    for name in ("queries.txt", "queries_groundtruth.txt"):
        (folder / name).unlink()
    sequence = open_dataset(folder, Options())
    given, truth = prepared(str(folder), tmp_path / "work", Options(), "cpu", hold_out=4)
    assert len(given.queries) == 3 and len(given) == len(given.frames) == 9
    assert [shot.stamp_ns for shot in given.queries] == sequence.stamps_ns[[2, 6, 10]].tolist()
    assert np.array_equal(truth.queries, sequence.groundtruth[[2, 6, 10]])
    mapped = {given.image(shot).tobytes() for shot in given.frames}
    assert not mapped & {given.image(shot).tobytes() for shot in given.queries}


def test_without_truth_it_is_refused(folder, tmp_path):
    (folder / "groundtruth.txt").unlink()
    with pytest.raises(ValueError, match="no ground truth"):
        prepared(str(folder), tmp_path / "work", Options(), "cpu")
