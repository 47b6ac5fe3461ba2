"""Several runs of a front end in one map: a second one starts in a frame of its own and ends in
the first one's.
"""

from dataclasses import replace

import numpy as np
import pytest
from drifted_sessions import ELSEWHERE, QUICK, drifted, error_of
from folders import SHARED

from vggt3_ros.backend import Backend
from vggt3_ros.cli.main import main
from vggt3_ros.config import BackendConfig
from vggt3_ros.datasets.tum import load_tum
from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.store.keyframes import FIRST_ID, KeyframeStore
from vggt3_ros.store.snapshot import Snapshot

KITCHEN = SHARED / "kitchen"


@pytest.fixture(scope="module")
def runs(rendered):
    """Indices of the keyframes of two runs through the same rooms, and the odometry of the
    second.
    """
    first, second = np.arange(0, 22, 2), np.arange(5, 24, 2)
    return first, second, drifted(rendered.T_world_cam[second])


@pytest.fixture(scope="module")
def tied(rendered, runs, tmp_path_factory):
    """(Snapshot of the first run, of the loaded map at the session's beginning, of both;
    folder)
    """
    first, second, odometry = runs
    folder = tmp_path_factory.mktemp("sessions") / "store"
    with KeyframeStore(folder) as store:
        backend = Backend(store, BackendConfig.from_flat(QUICK))
        for k, i in enumerate(first):
            backend.add(replace(rendered.keyframes[i], id=k))
        before = backend.refine()
        assert backend.begin_session() == 1
        begun = Backend(store, BackendConfig.from_flat(QUICK)).snapshot
        # the front end counts from zero again, its clock too
        for k, (i, pose) in enumerate(zip(second, odometry)):
            backend.add(replace(rendered.keyframes[i], id=k, stamp_ns=10**9 + k, T_odom_cam=pose))
        return before, begun, backend.refine(), folder


def test_a_session_keeps_the_map_and_frees_the_ids(tied, runs):
    before, begun, _, _ = tied
    assert (
        begun.keyframe_ids.tolist() == before.keyframe_ids.tolist()
        and begun.generation == before.generation
    )
    np.testing.assert_array_equal(begun.T_map_cam, before.T_map_cam)
    with KeyframeStore(tied[3]) as store:
        names = store.public_ids()
        assert [names[k] for k in range(len(runs[0]))] == [
            FIRST_ID + k for k in range(len(runs[0]))
        ]
        assert [names[id] for id in store.ids()[len(runs[0]) :]] == list(range(len(runs[1])))
    assert not begun.places_odometry and before.places_odometry


def test_a_second_run_is_found_without_a_hint_and_ends_in_the_firsts_frame(tied, rendered, runs):
    before, _, after, _ = tied
    first, second, odometry = runs
    assert (
        after.sessions.tolist() == [0] * len(first) + [1] * len(second) and after.places_odometry
    )
    assert (
        error_of(after.T_map_cam, rendered.T_world_cam[first], rendered.T_world_cam[second]) < 0.05
    )
    across = [
        loop
        for loop in after.loops
        if loop.accepted and (loop.source_id >= FIRST_ID) != (loop.target_id >= FIRST_ID)
    ]
    assert len(across) >= 5
    # the frame stays; what bent may be mended
    np.testing.assert_allclose(after.T_map_cam[0], before.T_map_cam[0], atol=1e-3)
    errors = [
        trajectory_error(poses[: len(first)], rendered.T_world_cam[first], before.stamps_ns).ate_m
        for poses in (before.T_map_cam, after.T_map_cam)
    ]
    assert errors[1] < errors[0] + 0.01
    np.testing.assert_allclose(after.T_map_odom @ odometry[-1], after.T_map_cam[-1], atol=1e-9)


def test_new_keyframes_of_the_session_go_on_from_there(tied, rendered, tmp_path):
    import shutil

    folder = shutil.copytree(tied[3], tmp_path / "store")
    with KeyframeStore(folder) as store:
        backend = Backend(store, BackendConfig.from_flat(QUICK))
        last = replace(
            rendered.keyframes[25],
            id=99,
            stamp_ns=10**9 + 99,
            T_odom_cam=ELSEWHERE @ rendered.T_world_cam[25],
        )
        backend.add(last)
        snapshot = backend.refine()
    assert (
        snapshot.keyframe_ids[-1] == 99
        and snapshot.sessions[-1] == 1
        and len(snapshot) == len(tied[2]) + 1
    )


def test_a_run_elsewhere_waits_and_says_why(tied, rendered, tmp_path, caplog):
    import shutil

    folder = shutil.copytree(tied[3], tmp_path / "store")
    rng = np.random.default_rng(0)
    with KeyframeStore(folder) as store:
        backend = Backend(store, BackendConfig.from_flat(QUICK))
        assert backend.begin_session() == 2
        for k in range(5):
            noise = rng.integers(0, 256, rendered.keyframes[0].image.shape, np.uint8)
            backend.add(replace(rendered.keyframes[k], id=k, image=noise))
        snapshot = backend.refine()
    assert set(snapshot.sessions.tolist()) == {0, 1} and not snapshot.places_odometry
    assert (
        "of 5 views of it were localized" in snapshot.report["sessions_waiting"]["2"]
        and "session 2" in caplog.text
    )


@pytest.fixture(scope="module")
def robots(rendered, runs, tmp_path_factory):
    """Stores of two robots that drove at the same time: ids and stamps collide, frames differ. The
    second was never refined.
    """
    folder = tmp_path_factory.mktemp("robots")
    first, second, odometry = runs
    for name, indices, poses in (
        ("a", first, rendered.T_odom_cam[first]),
        ("b", second, odometry),
    ):
        with KeyframeStore(folder / name) as store:
            for k, (i, pose) in enumerate(zip(indices, poses)):
                store.put(
                    replace(
                        rendered.keyframes[i],
                        id=k,
                        stamp_ns=10**9 * k + (name == "b"),
                        T_odom_cam=pose,
                    )
                )
    return folder


def test_stores_of_two_robots_merge_from_the_command_line(
    robots, rendered, runs, tmp_path, capsys
):
    settings = [part for name, value in QUICK.items() for part in ("--set", f"{name}={value}")]
    before = [sorted(path.name for path in (robots / name).rglob("*")) for name in "ab"]
    assert (
        main(
            [
                "merge",
                str(robots / "a"),
                str(robots / "b"),
                "--out",
                str(tmp_path / "both"),
                "--quiet",
                *settings,
            ]
        )
        == 0
    )
    assert "loops between the runs" in capsys.readouterr().out
    assert [sorted(path.name for path in (robots / name).rglob("*")) for name in "ab"] == before
    snapshot = Snapshot.load(max((tmp_path / "both" / "snapshots").iterdir()))
    second = snapshot.keyframe_ids >= FIRST_ID
    order = np.concatenate([np.flatnonzero(~second), np.flatnonzero(second)])
    both = replace(snapshot, T_map_cam=snapshot.T_map_cam[order])
    assert (
        second.sum() == len(runs[1])
        and error_of(both.T_map_cam, rendered.T_world_cam[runs[0]], rendered.T_world_cam[runs[1]])
        < 0.05
    )
    with KeyframeStore(tmp_path / "both") as store:
        assert len(store) == len(snapshot)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["both"]


def test_merging_says_what_is_wrong_and_leaves_nothing(robots, tmp_path, capsys):
    def refused(*arguments):
        assert main(["merge", "--quiet", *map(str, arguments)]) == 2
        assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*.partial"))
        return capsys.readouterr().err

    assert "two or more maps" in refused(robots / "a", "--out", tmp_path / "out")
    assert "none/keyframes.db" in refused(
        robots / "a", tmp_path / "none", "--out", tmp_path / "out"
    )
    (tmp_path / "there").mkdir()
    assert "there exists" in refused(robots / "a", robots / "b", "--out", tmp_path / "there")


@pytest.mark.skipif(not KITCHEN.exists(), reason="needs ../shared/data/kitchen")
def test_the_second_half_of_a_real_sequence_ends_in_the_firsts_frame(tmp_path):
    """Every second and third keyframe, to be quick. The truth itself is good to about 5 cm."""
    sequence = load_tum(KITCHEN)
    first, second = np.arange(0, 62, 2), np.arange(62, len(sequence), 3)
    with KeyframeStore(tmp_path) as store:
        backend = Backend(store, BackendConfig.from_flat(QUICK))
        for i in first:
            backend.add(sequence.keyframes[int(i)])
        backend.refine()
        backend.begin_session()
        for i in second:
            keyframe = sequence.keyframes[int(i)]
            backend.add(replace(keyframe, T_odom_cam=ELSEWHERE @ keyframe.T_odom_cam))
        snapshot = backend.refine()
    assert len(snapshot) == len(first) + len(second)
    both = np.concatenate([first, second])
    # one frame for both
    fit = trajectory_error(
        snapshot.T_map_cam, sequence.groundtruth[both], sequence.stamps_ns[both]
    )
    assert np.sqrt((fit.distances_m[len(first) :] ** 2).mean()) < 0.05 and fit.ate_m < 0.05
    assert (
        error_of(snapshot.T_map_cam, sequence.groundtruth[first], sequence.groundtruth[second])
        < 0.07
    )
