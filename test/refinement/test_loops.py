"""Loops verified on rendered keyframes whose true motion is known."""

import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from vggt3_ros.config import LoopConfig
from vggt3_ros.features.frame import encode_frame
from vggt3_ros.geometry import se3
from vggt3_ros.refinement.loops import LoopVerifier, odometry_contradiction
from vggt3_ros.store.snapshot import Loop
from vggt3_ros.system.stages import Cancelled


@pytest.fixture(scope="module")
def verifier(matcher):
    return LoopVerifier(LoopConfig(), matcher)


def true_motion(rendered, i, j):
    return se3.inverse(rendered.T_world_cam[i]) @ rendered.T_world_cam[j]


def apart(rendered, i, j):
    motion = true_motion(rendered, i, j)
    return np.linalg.norm(motion[:3, 3]), se3.rotation_angle(motion)


def test_overlapping_keyframes_make_loops_of_the_true_motion(rendered, frames, verifier):
    errors, distances, accepted, tried = [], [], 0, 0
    for i in range(1, len(frames)):
        tried += 1
        loop = verifier.verify("sequence", frames[i], frames[i - 1], True)
        if not loop.accepted:
            continue
        accepted += 1
        error = se3.log(se3.inverse(true_motion(rendered, i, i - 1)) @ loop.T_source_target)
        errors.append((np.linalg.norm(error[:3]), np.degrees(np.linalg.norm(error[3:]))))
        distances.append(error @ loop.information @ error)
        assert (loop.source_id, loop.target_id, loop.origin, loop.reason) == (
            frames[i].id,
            frames[i - 1].id,
            "sequence",
            "",
        )
        assert loop.inliers >= LoopConfig().minimum_inliers
    assert accepted > 0.9 * tried
    metres, degrees = np.transpose(errors)
    assert np.median(metres) < 0.01 and metres.max() < 0.08
    assert np.median(degrees) < 0.3 and degrees.max() < 2
    assert np.median(distances) < 20  # chi square of 6 has 5.3


def test_a_keyframe_of_a_smaller_camera_closes_loops_with_the_others(
    rendered, frames, verifier, encoder
):
    camera, errors = rendered.camera.scaled(320, 240), []
    for i in (4, 9, 14):
        seen = rendered.keyframes[i]
        small = encode_frame(
            replace(
                seen,
                camera=camera,
                image=cv2.resize(seen.image, (320, 240), interpolation=cv2.INTER_AREA),
                depth=cv2.resize(seen.depth, (320, 240), interpolation=cv2.INTER_NEAREST),
            ),
            encoder,
        )
        for loop, true in (
            (
                verifier.verify("place", small, frames[i - 1], True),
                true_motion(rendered, i, i - 1),
            ),
            (
                verifier.verify("place", frames[i - 1], small, True),
                true_motion(rendered, i - 1, i),
            ),
        ):
            assert loop.accepted, loop.reason
            errors.append(np.linalg.norm((se3.inverse(true) @ loop.T_source_target)[:3, 3]))
    assert np.median(errors) < 0.02


def test_keyframes_that_share_nothing_are_rejected_with_a_reason(rendered, frames, verifier):
    pairs = [
        (i, j) for i in range(len(frames)) for j in range(i) if apart(rendered, i, j)[1] > 2.2
    ]
    assert len(pairs) >= 5
    for i, j in pairs[:: max(1, len(pairs) // 10)]:
        loop = verifier.verify("place", frames[i], frames[j], True)
        assert not loop.accepted and "fewer than 30 matches" in loop.reason
        assert loop.T_source_target is None and loop.information is None


def test_both_directions_measure_the_same_motion(rendered, frames, verifier):
    there, back = (
        verifier.verify("sequence", frames[6], frames[5], True),
        verifier.verify("sequence", frames[5], frames[6], True),
    )
    difference = se3.log(there.T_source_target @ back.T_source_target)
    assert np.linalg.norm(difference[:3]) < 0.03 and np.linalg.norm(difference[3:]) < 0.01


def straight(count=20, step=0.5):
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = step * np.arange(count)
    return poses


@pytest.mark.parametrize(
    "shift, believed", [(0.0, True), (0.3, True), (1.5, True), (2.5, False), (30.0, False)]
)
def test_a_loop_may_contradict_the_odometry_by_a_share_of_the_path(shift, believed):
    T = straight()  # 7.5 m of path between 17 and 2: 0.5 + 0.15 * 7.5 = 1.6 m
    motion = se3.inverse(T[17]) @ se3.exp([0, shift, 0, 0, 0, 0]) @ T[2]
    reason = odometry_contradiction(
        Loop(17, 2, True, "", "place", 99, motion, np.eye(6)), 17, 2, T, LoopConfig()
    )
    assert (reason == "") == believed
    assert believed or (f"{shift:.2f} m" in reason and "loops.drift_per_metre" in reason)


def test_many_pairs_in_threads_give_what_one_after_the_other_gives(frames, matcher):
    """Motions to the last bit, in the order asked for, whatever number of keyframes is in a
    group.
    """
    pairs = [("proximity", i, j, (i + j) % 2 == 0) for i in range(1, 8) for j in range(i)]
    one_by_one, together = (
        LoopVerifier(LoopConfig(), matcher, threads).verify_all(
            pairs, lambda i: frames[i], lambda done: None
        )
        for threads in (1, 3)
    )
    assert [
        (loop.source_id, loop.target_id, loop.accepted, loop.inliers) for loop in together
    ] == [(loop.source_id, loop.target_id, loop.accepted, loop.inliers) for loop in one_by_one]
    assert any(loop.accepted for loop in together) and not all(loop.accepted for loop in together)
    for here, there in zip(one_by_one, together):
        if here.accepted:
            np.testing.assert_allclose(there.T_source_target, here.T_source_target, atol=1e-6)


def test_threads_stop_when_the_caller_cancels(frames, matcher):
    groups = []

    def step(done):
        groups.append(done)
        if done:
            raise Cancelled

    pairs = [("proximity", i, j, False) for i in range(1, 8) for j in range(i)]
    with pytest.raises(Cancelled):
        LoopVerifier(LoopConfig(), matcher, 2).verify_all(pairs, lambda i: frames[i], step)
    assert len(groups) == 2 and groups[1] < len(pairs)


def test_torch_keeps_its_threads_where_pairs_are_verified(frames, matcher):
    before = torch.get_num_threads()
    LoopVerifier(LoopConfig(), matcher, 2).verify_all(
        [("proximity", 1, 0, False)], lambda i: frames[i], lambda done: None
    )
    seen = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert torch.get_num_threads() == before == seen[0]
