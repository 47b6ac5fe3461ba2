"""The same sequence in every layout: what is read is the same, and so is what the back end makes
of it.
"""

import json

import cv2
import numpy as np
import pytest
from layouts import write_bag, write_euroc, write_seven_scenes

from vggt3_ros.cli.main import main
from vggt3_ros.datasets.dataset import Options, kind_of, open_dataset
from vggt3_ros.datasets.rosbag_topics import Topics
from vggt3_ros.datasets.sequence import KeyframeList, Sequence
from vggt3_ros.datasets.tum import load_tum, write_tum
from vggt3_ros.frontend.selection import SelectionConfig
from vggt3_ros.geometry import se3

QUICK = ["--quiet", "--set", "map.voxel_size=0.05", "--set", "device=cpu"]
TRUTH = Topics(groundtruth="/truth")
LAYOUTS = {
    "seven_scenes": (
        lambda path, s: write_seven_scenes(path / "seq-01", s),
        Options(every_frame=True),
    ),
    "euroc": (write_euroc, Options(every_frame=True, odometry="odometry.txt")),
    "rosbag-mcap": (write_bag, Options(every_frame=True, topics=TRUTH)),
    "rosbag-sqlite3": (
        lambda path, s: write_bag(path, s, "sqlite3"),
        Options(every_frame=True, topics=TRUTH),
    ),
    "rosbag-compressed": (
        lambda path, s: write_bag(path, s, form="compressed"),
        Options(every_frame=True, topics=TRUTH),
    ),
    "rosbag-zstd": (
        lambda path, s: write_bag(path, s, "sqlite3", compression=True),
        Options(every_frame=True, topics=TRUTH),
    ),
    "rosbag-keyframes": (
        lambda path, s: write_bag(path, s, form="keyframes"),
        Options(topics=TRUTH),
    ),
    "rosbag-late": (
        lambda path, s: write_bag(path, s, late_ns=7_000_000),
        Options(every_frame=True, topics=TRUTH),
    ),
}


@pytest.fixture(scope="module")
def tum(rendered, tmp_path_factory):
    """Ten rendered keyframes at half their size in the TUM layout, depth in whole millimetres so
    that every layout holds it exactly.
    """
    folder = tmp_path_factory.mktemp("data") / "tum"
    some = rendered.keyframes[:10]
    start = 2 * 10**9 - int(rendered.stamps_ns[0])
    keyframes = KeyframeList(
        rendered.camera.scaled(320, 240),
        rendered.stamps_ns[:10] + start,
        rendered.T_odom_cam[:10],
        lambda i: cv2.resize(some[i].image, (320, 240), interpolation=cv2.INTER_AREA),
        lambda i: np.round(some[i].depth[::2, ::2] * 1000).astype(np.float32) / 1000,
    )
    write_tum(
        folder,
        Sequence(
            "some", keyframes.camera, keyframes.stamps_ns, keyframes, rendered.T_world_cam[:10]
        ),
    )
    return folder


@pytest.fixture(scope="module")
def written(tum, tmp_path_factory):
    """written(layout) -> its path, each made once from what load_tum reads."""
    root, done = tmp_path_factory.mktemp("layouts"), {}

    def path(layout):
        if layout not in done:
            done[layout] = LAYOUTS[layout][0](root / layout, load_tum(tum))
            if layout == "euroc":
                (done[layout] / "odometry.txt").write_text((tum / "odometry.txt").read_text())
        return done[layout]

    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_sequence_is_read_from_every_layout(layout, written, tum):
    expected, sequence = load_tum(tum), open_dataset(written(layout), LAYOUTS[layout][1])
    assert kind_of(written(layout)) == layout.split("-")[0] and kind_of(tum) == "tum"
    assert len(sequence) == 10 and sequence.camera.undistorted() == expected.camera
    # 7-Scenes counts frames of 1/30 s
    assert np.abs(sequence.stamps_ns - expected.stamps_ns).max() <= 34
    np.testing.assert_allclose(sequence.groundtruth, expected.groundtruth, atol=1e-6)
    np.testing.assert_allclose(sequence.T_odom_cam, expected.T_odom_cam, atol=1e-6)
    for index in (7, 2):  # in any order
        got, wanted = sequence.keyframes[index], expected.keyframes[index]
        np.testing.assert_array_equal(got.image, wanted.image)
        if layout == "euroc":
            assert got.depth is None
        else:
            np.testing.assert_allclose(got.depth, wanted.depth, atol=1e-6)


def test_evaluation_gives_the_same_figures_from_every_layout(written, tum, tmp_path):
    def figures(path, *arguments):
        assert (
            main(["evaluate", str(path), "--out", str(tmp_path / "out.json"), *arguments, *QUICK])
            == 0
        )
        return json.loads((tmp_path / "out.json").read_text())

    expected = figures(tum)
    for layout, arguments in (
        ("seven_scenes", ["--all-frames"]),
        ("rosbag-mcap", ["--all-frames", "--groundtruth-topic", "/truth"]),
    ):
        result = figures(written(layout), *arguments)
        for name, tolerance in (("odometry", 1e-6), ("corrected", 1e-3)):
            assert result[name]["aligned_by"] == expected[name]["aligned_by"]
            assert [result[name][key] for key in ("ate_m", "rotation_deg")] == pytest.approx(
                [expected[name][key] for key in ("ate_m", "rotation_deg")], abs=tolerance
            )
        assert [(b["before"], b["after"]) for b in result["odometry"]["breaks"]] == [
            (b["before"], b["after"]) for b in expected["odometry"]["breaks"]
        ]
        assert result["loops"]["loops_accepted"] == expected["loops"]["loops_accepted"]
        assert result["map"]["median_error_m"] == pytest.approx(
            expected["map"]["median_error_m"], abs=1e-3
        )


def test_keyframes_are_chosen_from_a_stream(written):
    """A bag holds every frame: those that have moved on become keyframes, as from the node's plain
    topics.
    """
    everything = open_dataset(written("rosbag-mcap"), Options(every_frame=True))
    for limits in (SelectionConfig(), SelectionConfig(translation=0.6, rotation=0.5, overlap=0.0)):
        chosen = open_dataset(written("rosbag-mcap"), Options(limits=limits))
        assert (
            3 <= len(chosen) < len(everything) + (limits == SelectionConfig())
            and chosen.groundtruth is None
        )
        motions = se3.inverse(chosen.T_odom_cam[:-1]) @ chosen.T_odom_cam[1:]
        if not limits.overlap:
            assert np.all(
                (np.linalg.norm(motions[:, :3, 3], axis=1) >= 0.6)
                | (se3.rotation_angle(motions) >= 0.5)
            )


def test_the_truth_can_be_made_to_drift(written):
    exact = open_dataset(written("euroc"), Options(every_frame=True, drift=0.1))
    assert np.abs(exact.T_odom_cam[:, :3, 3] - exact.groundtruth[:, :3, 3]).max() > 0.03
    with pytest.raises(ValueError, match="no ground truth"):
        open_dataset(written("rosbag-mcap"), Options(drift=0.1))


def test_another_sequence_of_the_same_scene_asks_the_queries(written):
    sequence = open_dataset(
        written("seven_scenes"), Options(queries=written("seven_scenes"), every_frame=True)
    )
    assert len(sequence.queries) >= 3
    np.testing.assert_array_equal(sequence.queries[0].image, sequence.keyframes[0].image)
    np.testing.assert_allclose(sequence.queries[0].T_world_cam, sequence.groundtruth[0])
    with pytest.raises(ValueError, match="different cameras"):
        open_dataset(written("seven_scenes"), Options(queries=written("euroc")))


def test_what_is_no_data_set_is_said_so(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    for name in ("empty", "notes.txt"):
        with pytest.raises(
            ValueError, match="not a known kind of data set: TUM .* rosbag2 .* 7-Scenes .* EuRoC"
        ):
            open_dataset(tmp_path / name)
    with pytest.raises(ValueError, match="does not exist"):
        open_dataset(tmp_path / "nowhere")
