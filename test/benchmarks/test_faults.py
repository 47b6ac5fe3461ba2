"""A front end that freezes or jumps costs nothing once loops are closed, with false loops among
the right ones: a part of `vggt3 benchmark faults`.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vggt3_ros.benchmarks.faults import FAULTS, Bench, faulty, untimed
from vggt3_ros.config import BackendConfig
from vggt3_ros.datasets.sequence import KeyframeList, Sequence
from vggt3_ros.geometry import se3
from vggt3_ros.refinement.closing import close_loops
from vggt3_ros.refinement.odometry_breaks import told
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.store.stored_poses import StoredPoses
from vggt3_ros.surface.fusion import empty_map


@pytest.fixture(scope="module")
def bench(rendered, encoder, matcher):
    some = rendered.keyframes
    keyframes = KeyframeList(
        rendered.camera,
        rendered.stamps_ns,
        rendered.T_odom_cam,
        lambda i: some[i].image,
        lambda i: some[i].depth,
    )
    sequence = Sequence(
        "rendered", rendered.camera, rendered.stamps_ns, keyframes, rendered.T_world_cam
    )
    return Bench(
        sequence, BackendConfig.from_flat({"device": "cpu"}), encoder=encoder, matcher=matcher
    )


@pytest.mark.parametrize(
    "fault", ["frozen for 3", "jump 0.5 m 30 deg", "frozen for 3, then a jump"]
)
def test_a_fault_costs_little_and_is_told(bench, fault):
    for row in bench.rows([fault], [0], [0.0, 0.1]):
        assert row.odometry_m > 5 * row.corrected_m and row.passes and row.accepted > 30
        assert len(FAULTS[fault]) <= len(row.breaks) <= len(FAULTS[fault]) + 1  # see below
        assert all("odometry broke between keyframes" in text for text in row.breaks)


def test_what_is_told_without_a_fault_is_true(bench):
    """The simulated drift has a step or another that is off by more than a front end's noise
    explains.
    """
    found = told(bench.closed(bench.T_odom_cam).report)
    assert len(found) <= 1
    for broken in found:
        off = [
            se3.inverse(T[broken.before]) @ T[broken.after]
            for T in (bench.T_odom_cam, bench.truth)
        ]
        off = se3.inverse(off[0]) @ off[1]
        assert np.linalg.norm(off[:3, 3]) > 0.7 * broken.metres > 0.03


def test_loops_that_one_refinement_rejected_are_judged_again_by_the_next(bench):
    first = bench.closed(bench.T_odom_cam)
    rejected = tuple(
        replace(loop, accepted=False, reason="the solved graph disagrees by 0.40 m and 3.0 deg")
        for loop in first.loops
    )
    ids = np.arange(len(bench.truth))
    snapshot = Snapshot(
        1,
        ids,
        bench.stamps_ns,
        bench.T_odom_cam,
        bench.T_odom_cam,
        first.covariances,
        rejected,
        empty_map(),
    )
    known = {(loop.source_id, loop.target_id) for loop in rejected}

    class Unasked:
        def verify_all(self, pairs, frames, step):
            assert not {(source, target) for _, source, target, _ in pairs} & known
            return bench.verifier.verify_all(pairs, frames, step)

    poses = StoredPoses(ids, bench.stamps_ns, bench.T_odom_cam, bench.covariances)
    again = close_loops(
        poses,
        bench.frames.__getitem__,
        SimpleNamespace(snapshot=snapshot, memory=None),
        bench.places,
        None,
        None,
        bench.config,
        untimed,
        verifier=Unasked(),
    )
    accepted = sum(loop.accepted for loop in first.loops)
    assert accepted > 30 and sum(loop.accepted for loop in again.loops) >= accepted
    np.testing.assert_allclose(again.T_map_cam[:, :3, 3], first.T_map_cam[:, :3, 3], atol=0.01)


def test_faults_are_what_they_are_called():
    T = np.array([se3.exp([0.1 * k, 0, 0, 0, 0, 0.05 * k]) for k in range(40)])
    motion = lambda poses: se3.inverse(poses[:-1]) @ poses[1:]
    off = lambda name, seed: motion(faulty(T, name, seed)) @ se3.inverse(motion(T))
    frozen = np.linalg.norm(motion(faulty(T, "frozen for 3", 0))[:, :3, 3], axis=1)
    assert (frozen < 1e-9).sum() == 3 and np.ptp(np.flatnonzero(frozen < 1e-9)) == 2
    for seed in (0, 1):
        jumps = np.linalg.norm(off("two jumps", seed)[:, :3, 3], axis=1) > 1e-6
        assert jumps.sum() == 2
        turned = se3.rotation_angle(off("turn 20 deg", seed))
        assert np.sort(np.degrees(turned))[-2:] == pytest.approx([0, 20], abs=1e-4)
    scaled = np.linalg.norm(motion(faulty(T, "scale 1.3", 1))[:, :3, 3], axis=1) / np.linalg.norm(
        motion(T)[:, :3, 3], axis=1
    )
    assert (np.abs(scaled - 1.3) < 1e-6).sum() == 10 and (np.abs(scaled - 1) < 1e-6).sum() == 29
