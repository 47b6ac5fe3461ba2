"""Fusion in a process of its own: the same map from what is new and what moved alone, cancelled at
once, its end an error in words.
"""

import gc
import logging
import os
import signal
import socket
import threading
import time

import numpy as np
import psutil
import pytest
from walls import POSES, same_surface, wall

from vggt3_ros.backend import Backend
from vggt3_ros.config import BackendConfig, MapConfig
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.surface.fusion import fuse
from vggt3_ros.surface.fusion_process import FusionError, FusionProcess, moved
from vggt3_ros.system import wire

CONFIG = MapConfig(voxel_size=0.04)
POSES = np.array([*POSES, *(se3.exp([0.1 * k, 0.2, 0, 0, -0.03 * k, 0.01 * k]) for k in range(6))])


class Seen:
    """Keyframes of a wall, and which of them were asked for since the last look."""

    def __init__(self, blind=()):
        self.keyframes = [wall(2.0, pose, k, depth=k not in blind) for k, pose in enumerate(POSES)]
        self.asked = []

    def __call__(self, i):
        self.asked.append(i)
        return self.keyframes[i]

    def look(self):
        asked, self.asked = self.asked, []
        return asked


@pytest.fixture(scope="module")
def process():
    with FusionProcess() as fusion:
        yield fusion


@pytest.fixture
def fusion(process):
    """With nothing fused yet that could be used again."""
    process([0], POSES[:1], Seen(), MapConfig(voxel_size=0.5))
    return process


def expected(ids, poses, seen):
    return fuse([seen.keyframes[i] for i in ids], poses, CONFIG)


def test_the_map_is_the_same_and_progress_is_told(fusion):
    seen, told, ids = Seen(blind=(2,)), [], list(range(12))
    apart, here = (
        fusion(ids, POSES, seen, CONFIG, progress=told.append),
        expected(ids, POSES, seen),
    )
    order, reference = np.lexsort(apart.points.T), np.lexsort(here.points.T)
    for name in ("points", "colors", "confidence"):
        np.testing.assert_array_equal(getattr(apart, name)[order], getattr(here, name)[reference])
    assert told == sorted(told) and told[0] == 0 and told[-1] == 1
    assert len(fusion([2], POSES[:1], seen, CONFIG)) == 0


def test_only_what_is_new_or_moved_is_fused_and_the_map_is_that_of_all(fusion):
    seen, ids = Seen(blind=(3,)), list(range(12))
    fusion(ids[:8], POSES[:8], seen, CONFIG)
    assert seen.look() == ids[:8]
    for shift in ([0.05, 0, 0.02, 0, 0, 0], [0, 0, 0, 0, 0.01, 0]):
        poses = POSES.copy()
        poses[5] = poses[5] @ se3.exp(shift)
        poses[:3] = se3.exp([0.001, 0, 0, 0, 0, 0]) @ poses[:3]  # by less than anyone would see
        cloud = fusion(ids, poses, seen, CONFIG)
        assert sorted(seen.look()) in ([5, 8, 9, 10, 11], [5])
        same_surface(cloud, expected(ids, np.vstack([POSES[:5], poses[5:]]), seen))
    fusion(ids, poses, seen, CONFIG)
    assert seen.look() == []


def test_small_motions_add_up(fusion):
    seen, ids = Seen(), list(range(6))
    fusion(ids, POSES[:6], seen, CONFIG)
    seen.look()
    asked = []
    for k in range(1, 5):
        poses = POSES[:6].copy()
        poses[4, 0, 3] += 0.002 * k
        fusion(ids, poses, seen, CONFIG)
        asked += seen.look()
    assert asked == [4]


def test_where_most_moved_all_are_fused_anew(fusion):
    seen, ids = Seen(), list(range(12))
    fusion(ids, POSES, seen, CONFIG)
    seen.look()
    turned = se3.exp([1, 2, 0, 0, 0, 0.5]) @ POSES
    same_surface(fusion(ids, turned, seen, CONFIG), expected(ids, turned, seen))
    assert seen.look() == ids


def test_keyframes_that_are_gone_leave_no_surface(fusion):
    seen = Seen()
    fusion(range(12), POSES, seen, CONFIG)
    same_surface(
        fusion([0, 1, 2, 9], POSES[[0, 1, 2, 9]], seen, CONFIG),
        expected([0, 1, 2, 9], POSES[[0, 1, 2, 9]], seen),
    )


def test_another_depth_of_the_same_keyframe_replaces_the_first(fusion):
    seen, ids = Seen(blind=(1,)), list(range(6))
    fusion(ids, POSES[:6], seen, CONFIG)
    for i in (1, 4):
        seen.keyframes[i] = wall(1.5, POSES[i], i)
        same_surface(
            fusion(ids, POSES[:6], seen, CONFIG, renewed={i}), expected(ids, POSES[:6], seen)
        )


def test_what_progress_raises_passes_at_once_and_the_next_call_goes_on_from_there(fusion):
    class Enough(Exception):
        pass

    def progress(fraction):
        if fraction > 0.3:
            raise Enough

    seen, ids, pid = Seen(), list(range(12)), fusion.pid
    with pytest.raises(Enough):
        fusion(ids, POSES, seen, CONFIG, progress=progress)
    first = seen.look()
    assert 3 < len(first) < 12
    poses = POSES.copy()
    poses[0] = poses[0] @ se3.exp([0, 0, 0.1, 0, 0, 0])
    same_surface(fusion(ids, poses, seen, CONFIG), expected(ids, poses, seen))
    assert set(seen.look()) == set(ids) - set(first) | {0} and fusion.pid == pid


def test_what_a_keyframe_raises_leaves_the_others_as_they_are(fusion):
    seen, ids = Seen(), list(range(8))

    def damaged(i):
        if i == 5:
            raise ValueError("keyframe 5 cannot be read")
        return seen(i)

    with pytest.raises(ValueError, match="keyframe 5"):
        fusion(ids, POSES[:8], damaged, CONFIG)
    same_surface(fusion(ids, POSES[:8], seen, CONFIG), expected(ids, POSES[:8], seen))


def test_a_process_that_ends_is_an_error_in_words_and_the_next_call_starts_another(caplog):
    seen = Seen()
    with FusionProcess() as fusion:
        threading.Timer(0.5, os.kill, (fusion.pid, 9)).start()
        with pytest.raises(RuntimeError, match="SIGKILL"):
            fusion(
                range(10_000),
                np.tile(np.eye(4), (10_000, 1, 1)),
                lambda i: time.sleep(0.1) or seen.keyframes[0],
                CONFIG,
            )
        same_surface(
            fusion(range(4), POSES[:4], seen, CONFIG), expected(range(4), POSES[:4], seen)
        )
        os.kill(fusion.pid, 9)
        fusion._child.wait()
        with caplog.at_level(logging.WARNING):
            same_surface(
                fusion(range(5), POSES[:5], seen, CONFIG), expected(range(5), POSES[:5], seen)
            )
        assert "(SIGKILL)" in caplog.text


def test_it_ends_with_whoever_owns_it():
    fusion = FusionProcess()
    fusion.start()
    pid = fusion.pid
    del fusion
    gc.collect()
    assert not psutil.pid_exists(pid)


def test_the_surface_outlives_the_thread_that_asked_for_it():
    seen = Seen()
    with FusionProcess() as fusion:
        first = threading.Thread(target=fusion, args=(range(4), POSES[:4], seen, CONFIG))
        first.start()
        first.join()
        pid = fusion.pid
        seen.look()
        time.sleep(0.3)
        same_surface(
            fusion(range(5), POSES[:5], seen, CONFIG), expected(range(5), POSES[:5], seen)
        )
        assert fusion.pid == pid and seen.look() == [4]


def test_a_keyframe_has_moved_when_what_it_sees_has():
    held = {1: np.eye(4), 2: np.eye(4), 3: None, 4: np.eye(4)}
    now = np.array(
        [
            se3.exp(step)
            for step in (
                [0.01, 0, 0, 0, 0, 0],
                [0.002, 0, 0, 0, 0, 0],
                np.ones(6),
                [0, 0, 0, 0.004, 0, 0],
                np.ones(6),
            )
        ]
    )
    assert moved(held, [1, 2, 3, 4, 5], now, MapConfig(moved=0.005)) == [1, 4]
    assert moved({}, [1], now[:1], MapConfig(moved=0.005)) == []


@pytest.fixture
def patient():
    """A FusionProcess that has started, and that is given up after a second from now on."""
    with FusionProcess() as fusion:
        fusion([0], POSES[:1], Seen(), CONFIG)
        fusion.silent_seconds = 1.0
        yield fusion


def test_a_process_that_hangs_is_an_error_in_words_and_the_next_call_starts_another(patient):
    seen, ids, pid = Seen(), list(range(12)), patient.pid

    def stopping(i):
        if i == 6:
            os.kill(pid, signal.SIGSTOP)
        return seen(i)

    with pytest.raises(FusionError, match="(no reply|nor sent data) for 1 s") as raised:
        patient(ids, POSES, stopping, CONFIG)
    # one that it had been given and had not answered for
    assert raised.value.keyframe in range(1, 7)
    patient.silent_seconds = 60.0
    same_surface(patient(ids, POSES, seen, CONFIG), expected(ids, POSES, seen))
    assert patient.pid != pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_process_that_no_longer_takes_what_it_is_sent_is_given_up_too(patient):
    """More than fits between the two is on its way when it stops: sending, not waiting for an
    answer, is where it hangs.
    """
    large = Camera(1920, 1080, 1000.0, 1000.0, 959.5, 539.5)
    keyframe = Keyframe(
        1,
        1,
        np.zeros((1080, 1920, 3), np.uint8),
        large,
        np.eye(4),
        np.full((1080, 1920), 2.0, np.float32),
    )
    os.kill(patient.pid, signal.SIGSTOP)
    with pytest.raises(FusionError, match="nor sent data for 1 s"):
        patient([0, 1], np.array([POSES[0], np.eye(4)]), lambda i: keyframe, CONFIG)
    assert patient.pid is None


def test_a_process_that_stops_in_the_middle_of_an_answer_is_given_up_too(patient, monkeypatch):
    ours, theirs = socket.socketpair()
    theirs.sendall(wire.LENGTHS.pack(20, 1000) + b"{")  # and no more
    monkeypatch.setattr(patient, "_connection", ours)
    monkeypatch.setattr(patient, "_ask", lambda header, payload=b"": patient._asked.append(None))
    with pytest.raises(FusionError, match="nor sent data for 1 s"):
        patient([0], POSES[:1], Seen(), MapConfig(voxel_size=0.5))
    ours.close()
    theirs.close()


def test_a_refinement_whose_fusion_hangs_fails_with_the_reason_and_the_next_one_completes(
    refined_copy,
):
    config = BackendConfig.from_flat({"device": "cpu", "map.voxel_size": 0.06})
    with KeyframeStore(refined_copy) as store:
        backend, phases = Backend(store, config), []

        def stop(phase, fraction):
            if phase == "fusion" and fraction > 0.2 and "fusion" not in phases:
                os.kill(backend.fusion.pid, signal.SIGSTOP)
                backend.fusion.silent_seconds = 0.5
            phases.append(phase if fraction > 0.2 else "")

        before = backend.snapshot
        with pytest.raises(FusionError, match="the fusion process .* for 0.5 s"):
            backend.refine(progress=stop)
        assert backend.snapshot is before and "memory" not in phases
        backend.fusion.silent_seconds = 120.0
        after = backend.refine()
        assert (
            after.generation == before.generation + 1
            and len(after) == len(before)
            and len(after.cloud) > 10_000
        )
        backend.close()
