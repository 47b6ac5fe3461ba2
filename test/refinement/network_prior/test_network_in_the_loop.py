"""The network inside the back end: it helps where it can, is refused where it contradicts what is
known, and never harms.
"""

import gc
import logging
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from adapter_of_truth import write_truth
from folders import SUPPORT
from stand_in_network import StandInNetwork, stand_in
from tiny_network import filled_network, tiny_config

from vggt3_ros import Backend, BackendConfig, KeyframeStore
from vggt3_ros.adapters.client import adapter_process
from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.geometry import se3
from vggt3_ros.memory.localizer import NOT_LOCALIZED, Localization
from vggt3_ros.network.checkpoint import CheckpointError, save_checkpoint
from vggt3_ros.store.snapshot import Snapshot

SIDE, SCALE = 126, 0.37
QUICK = {"device": "cpu", "map.voxel_size": 0.06, "network.image_side": SIDE}


def config(**changes):
    return BackendConfig.from_flat(
        QUICK | {name.replace("__", "."): value for name, value in changes.items()}
    )


@pytest.fixture
def store(refined_copy):
    """28 keyframes with their features, never refined."""
    shutil.rmtree(refined_copy / "snapshots")
    with KeyframeStore(refined_copy) as store:
        yield store


@pytest.fixture(scope="module")
def without(refined_folder):
    """The same keyframes refined without a network."""
    return Snapshot.load(refined_folder / "snapshots" / "000001")


def stand_in_for(rendered, **quality):
    return StandInNetwork(
        rendered.keyframes,
        rendered.T_world_cam,
        SCALE,
        SIDE,
        rendered.queries,
        rendered.T_world_query,
        **quality,
    )


def error(snapshot, rendered):
    return trajectory_error(
        snapshot.T_map_cam,
        rendered.T_world_cam[: len(snapshot)],
        rendered.stamps_ns[: len(snapshot)],
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_a_fifth_of_outliers_and_a_smooth_warp_do_no_harm_and_leave_the_scale(
    store, rendered, without, seed
):
    network = stand_in_for(rendered, seed=seed)
    snapshot = Backend(store, config(), network).refine()
    found = snapshot.report["network"]
    assert found["used"] and abs(found["metres_per_unit"] / SCALE - 1) < 0.01
    wrong = network.wrong[:28].sum()
    assert wrong >= 3 and found["trusted"] <= 28 - wrong
    assert found["edges_kept"] > 0 and len(found["segment_scales"]) == 2
    assert network.mapped == [list(range(28))]
    assert error(snapshot, rendered).ate_m <= 1.01 * error(without, rendered).ate_m


def test_keyframes_without_depth_are_closed_mapped_and_localized_against(tmp_path, rendered):
    network = stand_in_for(rendered, noise_m=0.01, warp_m=0.02, outliers=0.1)
    with KeyframeStore(tmp_path / "store") as store:
        backend = Backend(store, config(), network)
        for keyframe in rendered.keyframes:
            backend.add(replace(keyframe, depth=None))
        snapshot = backend.refine()
        before, after = (
            trajectory_error(rendered.T_odom_cam, rendered.T_world_cam, rendered.stamps_ns),
            error(snapshot, rendered),
        )
        assert after.rotation_deg < 0.5 * before.rotation_deg and after.ate_m < before.ate_m
        assert sum(loop.accepted for loop in snapshot.loops) > 30 and len(snapshot.cloud) > 5000
        answers = [backend.localize(image, rendered.camera) for image in rendered.queries]
        assert sum(answer.code == "ok" for answer in answers) >= len(answers) // 2
    # the depth is in the store, not in the network
    with KeyframeStore(tmp_path / "store") as store:
        again = [
            Backend(store, config()).localize(rendered.queries[i], rendered.camera)
            for i in range(3)
        ]
        assert [answer.code for answer in again] == [answer.code for answer in answers[:3]]


def test_a_camera_that_stands_still_is_refused_with_the_reason_and_the_rest_goes_on(
    tmp_path, rendered, caplog
):
    still = [
        replace(
            k,
            depth=None,
            T_odom_cam=rendered.T_odom_cam[0]
            @ se3.exp(1e-4 * np.random.default_rng(k.id).standard_normal(6)),
        )
        for k in rendered.keyframes[:6]
    ]
    with KeyframeStore(tmp_path / "store") as store, caplog.at_level(logging.WARNING):
        backend = Backend(store, config(), stand_in_for(rendered, outliers=0.0))
        for keyframe in still:
            backend.add(keyframe)
        snapshot = backend.refine()
    found = snapshot.report["network"]
    assert not found["used"] and (
        "share no rotation" in found["summary"]
        or "does not determine the scale" in found["summary"]
    )
    assert found["summary"].removeprefix("not used: ") in caplog.text
    assert len(snapshot) == 6 and np.isfinite(snapshot.T_map_cam).all()
    assert (
        Snapshot.load(sorted((tmp_path / "store" / "snapshots").iterdir())[-1]).report["network"]
        == found
    )


def test_two_keyframes_are_too_few(tmp_path, rendered):
    with KeyframeStore(tmp_path / "store") as store:
        backend = Backend(store, config(), stand_in_for(rendered))
        for keyframe in rendered.keyframes[:2]:
            backend.add(keyframe)
        assert "too few" in backend.refine().report["network"]["summary"]


@pytest.mark.parametrize("attention", ["ttt", "softmax"])
def test_a_checkpoint_that_knows_nothing_changes_nothing(
    store, rendered, without, tmp_path, attention
):
    """Random weights through file, loader, map() and heads: what they say is refused, and the
    result is that without them.
    """
    save_checkpoint(filled_network(tiny_config(attention)), tmp_path / "random.safetensors")
    backend = Backend(
        store,
        config(
            network__checkpoint=str(tmp_path / "random.safetensors"),
            network__dtype="float32",
            network__image_side=70,
        ),
    )
    stages = []
    snapshot = backend.refine(progress=lambda stage, fraction: stages.append(stage))
    assert "network" in stages and snapshot.seconds["network"] > 0
    assert not snapshot.report["network"]["used"] and snapshot.report["network"]["summary"]
    np.testing.assert_array_equal(snapshot.T_map_cam, without.T_map_cam)
    assert backend.localize(rendered.queries[0], rendered.camera).code == "ok"


def test_a_wrong_checkpoint_is_refused_at_the_start(tmp_path):
    with (
        KeyframeStore(tmp_path / "store") as store,
        pytest.raises(CheckpointError, match="no such file"),
    ):
        Backend(store, config(network__checkpoint=str(tmp_path / "nothing.safetensors")))


def test_without_a_checkpoint_there_is_no_stage(store, without):
    stages = []
    snapshot = Backend(store, config()).refine(
        progress=lambda stage, fraction: stages.append(stage)
    )
    assert "network" not in stages and "network" not in snapshot.report
    np.testing.assert_array_equal(snapshot.T_map_cam, without.T_map_cam)


def test_a_few_new_keyframes_are_queried_and_many_mapped_again(tmp_path, rendered):
    network = stand_in_for(rendered, outliers=0.0, noise_m=0.002, warp_m=0.005)
    with KeyframeStore(tmp_path / "store") as store:
        backend = Backend(store, config(network__growth=0.2, fixed_poses=True), network)

        def refine_up_to(count):
            for keyframe in rendered.keyframes[len(store) : count]:
                backend.add(replace(keyframe, T_odom_cam=rendered.T_world_cam[keyframe.id]))
            report = backend.refine().report["network"]
            assert (
                report["used"] and report["keyframes"] == count and report["trusted"] > 0.7 * count
            )

        refine_up_to(16)
        assert (network.mapped, network.queried) == ([list(range(16))], [])
        refine_up_to(16)
        assert (len(network.mapped), network.queried) == (1, [])
        refine_up_to(18)
        assert (len(network.mapped), network.queried) == (1, [[16, 17]])
        backend = Backend(store, backend.config, network)  # a restart
        assert (
            backend.network.place(rendered.queries[0], rendered.camera, backend.snapshot)
            is not None
        )
        refine_up_to(18)
        assert len(network.mapped) == 1 and len(network.queried) == 2
        refine_up_to(20)
        assert network.mapped[1:] == [list(range(20))]
        store.clear()
        assert Backend(store, backend.config, network).network.scene.last is None


def test_more_keyframes_than_may_be_mapped_at_once_are_queried(store, rendered):
    network = stand_in_for(rendered, outliers=0.0, noise_m=0.002, warp_m=0.005)
    snapshot = Backend(
        store, config(network__max_keyframes=10, fixed_poses=True), network
    ).refine()
    assert (
        len(network.mapped[0]) == 10 and network.mapped[0][0] == 0 and network.mapped[0][-1] == 27
    )
    assert sorted(network.mapped[0] + network.queried[0]) == list(range(28))
    assert snapshot.report["network"]["trusted"] > 20


def test_cancelling_while_the_network_looks_leaves_the_last_snapshot(store, rendered):
    backend = Backend(store, config(), stand_in_for(rendered))
    reached = []
    with pytest.raises(Exception, match="cancelled during network"):
        backend.refine(
            lambda stage, fraction: reached.append((stage, fraction)),
            lambda: ("network", 0.0) in reached,
        )
    assert backend.snapshot is None


def test_the_network_tells_where_to_look_for_an_image_that_was_not_found(store, rendered):
    """Every query is placed near its truth, whether it is localized without or not; those that
    are, are placed where they are found.
    """
    backend = Backend(
        store, config(), stand_in_for(rendered, outliers=0.0, noise_m=0.01, warp_m=0.01)
    )
    snapshot = backend.refine()
    T_map_world = se3.mean_motion(snapshot.T_map_cam, rendered.T_world_cam[: len(snapshot)])
    found = 0
    for image, T_world_query in zip(rendered.queries, rendered.T_world_query):
        placed = backend.network.place(image, rendered.camera, backend.snapshot)
        apart = se3.inverse(T_map_world @ T_world_query) @ placed
        assert np.linalg.norm(apart[:3, 3]) < 0.15 and se3.rotation_angle(apart) < 0.1
        answer = backend.localize(image, rendered.camera)
        if answer.code == "ok":
            found += 1
            apart = se3.inverse(answer.T_map_cam) @ placed
            assert np.linalg.norm(apart[:3, 3]) < 0.15 and se3.rotation_angle(apart) < 0.1
    assert found >= len(rendered.queries) // 2


def test_an_image_that_was_not_found_is_found_where_the_network_says(store, rendered, monkeypatch):
    """Without the network these answers are "not localized": the coarse pose by the memory is
    taken away.
    """
    backend = Backend(
        store,
        config(network__second_opinion="failed"),
        stand_in_for(rendered, outliers=0.0, noise_m=0.01, warp_m=0.01),
    )
    snapshot = backend.refine()
    T_map_world = se3.mean_motion(snapshot.T_map_cam, rendered.T_world_cam[: len(snapshot)])
    localize = backend.localizer.localize

    def only_near(scene, image, camera, hint=None, verify=True):
        return (
            Localization(NOT_LOCALIZED, "taken away", generation=1)
            if hint is None
            else localize(scene, image, camera, hint, verify)
        )

    monkeypatch.setattr(backend.localizer, "localize", only_near)
    answers = [
        (backend.localize(image, rendered.camera), truth)
        for image, truth in zip(rendered.queries, rendered.T_world_query)
    ]
    found = [
        se3.inverse(T_map_world @ truth) @ answer.T_map_cam
        for answer, truth in answers
        if answer.code == "ok"
    ]
    assert len(found) >= len(answers) // 2
    assert np.median(np.linalg.norm(np.array(found)[:, :3, 3], axis=1)) < 0.05
    backend.network = None
    assert backend.localize(rendered.queries[0], rendered.camera).code == NOT_LOCALIZED


@pytest.mark.parametrize("configured", ["camera_from_world", "world_from_camera"])
def test_a_checkpoint_with_camera_to_world_poses_needs_the_switch_and_is_refused_without(
    store, rendered, without, configured
):
    network = stand_in_for(
        rendered, outliers=0.0, noise_m=0.005, warp_m=0.005, world_from_camera=True
    )
    backend = Backend(
        store, config(network__pose_convention=configured, fixed_poses=True), network
    )
    report = backend.refine().report["network"]
    if configured == "world_from_camera":
        assert (
            report["used"]
            and report["pose_convention"] == configured
            and abs(report["metres_per_unit"] / SCALE - 1) < 0.02
        )
        assert (
            backend.network.place(rendered.queries[0], rendered.camera, backend.snapshot)
            is not None
        )
        again = Backend(
            store, config(network__pose_convention="camera_from_world", fixed_poses=True), network
        )
        assert again.network.scene.last is None  # what was kept was read the other way
    else:
        assert not report["used"] and "only when read as world_from_camera" in report["summary"]


@pytest.fixture
def adapter(rendered, tmp_path):
    """network.adapter of one that knows the truth in a frame and scale of its own, and its
    weights.
    """
    poses, _, _ = stand_in(
        rendered.T_world_cam, SCALE, seed=2, noise_m=0.005, warp_m=0.005, outliers=0.1
    )
    depth = [
        cv2.resize(keyframe.depth, (80, 60), interpolation=cv2.INTER_NEAREST_EXACT) / SCALE
        for keyframe in rendered.keyframes
    ]

    def settings(**truth):
        path = write_truth(
            tmp_path / "truth.npz",
            [keyframe.image for keyframe in rendered.keyframes],
            poses,
            depth,
            **truth,
        )
        return {
            "network__adapter": f"{SUPPORT / 'adapter_of_truth.py'}:AdapterOfTruth",
            "network__checkpoint": path,
        }

    yield settings
    adapter_process.cache_clear()
    gc.collect()


@pytest.mark.parametrize("poses", ["camera_from_world", "world_from_camera"])
def test_another_network_by_an_adapter_is_a_prior_like_ours(
    store, rendered, without, adapter, poses
):
    backend = Backend(store, config(**adapter(poses=poses, metric=True)))
    assert "not yet connected" in backend.running_on
    snapshot = backend.refine()
    found = snapshot.report["network"]
    assert (
        found["used"]
        and found["pose_convention"] == poses
        and found["metric"]
        and "where it claims metres" in found["summary"]
    )
    assert (
        abs(found["metres_per_unit"] / SCALE - 1) < 0.01
        and 20 <= found["trusted"] <= 28
        and found["edges_kept"] > 0
    )
    assert error(snapshot, rendered).ate_m <= 1.01 * error(without, rendered).ate_m
    assert "prior the truth (truth.npz) on cpu, float64; none" in backend.running_on


def test_an_adapter_gives_depth_to_keyframes_without(tmp_path, rendered, adapter):
    with KeyframeStore(tmp_path / "store") as store:
        backend = Backend(store, config(fixed_poses=True, **adapter()))
        for keyframe in rendered.keyframes:
            backend.add(
                replace(keyframe, depth=None, T_odom_cam=rendered.T_world_cam[keyframe.id])
            )
        snapshot = backend.refine()
        assert snapshot.report["network"]["used"] and len(snapshot.cloud) > 1000
        depth, truth = (
            backend.frames(5).cell_depth,
            cv2.resize(rendered.keyframes[5].depth, backend.frames(5).cell_depth.shape[::-1]),
        )
        known = (depth > 0) & (truth > 0)
        assert known.mean() > 0.3 and abs(np.median(depth[known] / truth[known]) - 1) < 0.02


def test_an_adapter_that_dies_is_told_and_the_refinement_goes_on_without_it(
    store, without, adapter, caplog
):
    snapshot = Backend(store, config(**adapter(mischief="die"))).refine()
    summary = snapshot.report["network"]["summary"]
    assert (
        "not used: the process of the adapter" in summary
        and "ended (exit status 3)" in summary
        and summary[10:] in caplog.text
    )
    np.testing.assert_array_equal(snapshot.T_map_cam, without.T_map_cam)


def test_a_missing_program_of_an_adapter_is_refused_at_the_start(tmp_path):
    with (
        KeyframeStore(tmp_path / "store") as store,
        pytest.raises(ValueError, match="program '/no/such/python' not found"),
    ):
        Backend(store, config(network__adapter="a:B", network__adapter_python="/no/such/python"))


def test_the_line_about_device_and_licence_names_no_prior_where_there_is_none(tmp_path, rendered):
    with KeyframeStore(tmp_path / "store") as store:
        assert (
            Backend(store, config()).running_on
            == "cpu, float32, embedded networks (XFeat, LighterGlue; Apache-2.0); no prior"
        )
        save_checkpoint(filled_network(tiny_config()), tmp_path / "random.safetensors")
        text = Backend(
            store,
            config(
                network__checkpoint=str(tmp_path / "random.safetensors"), network__dtype="float32"
            ),
        ).running_on
        assert text.endswith(
            f"prior {tmp_path / 'random.safetensors'} on cpu, float32; licence unknown: the terms of the publisher of the weights apply"
        )
