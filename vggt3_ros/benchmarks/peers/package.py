"""This package as a contender: odometry as given, or by its own front end."""

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from vggt3_ros.backend import Backend
from vggt3_ros.benchmarks.peers.given import Array, Given
from vggt3_ros.benchmarks.peers.outcome import Clock, Outcome
from vggt3_ros.config import BackendConfig
from vggt3_ros.datasets.recording import Recording
from vggt3_ros.frontend.keyframes import tracked_keyframes
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.keyframes import KeyframeStore


def contend(
    given: Given,
    folder: Path,
    config: Mapping[str, Any],
    refine: bool = True,
    verify: bool = True,
) -> Outcome:
    """Map the keyframes and localize the queries as `vggt3 evaluate` does. refine: False gives the
    odometry back. verify: False lets the scene memory answer alone.
    """
    settings, clock = BackendConfig.from_flat(dict(config)), Clock()
    known, poses, covariances = odometry(given)
    T_map_cam, model = np.full((len(given), 4, 4), np.nan), np.full(len(given), -1)
    model[known] = 0
    if not refine:
        T_map_cam[known] = poses
        return Outcome(T_map_cam, model, True, *clock.read())
    shots = given.shots
    with KeyframeStore(folder / "store") as store, closing(Backend(store, settings)) as backend:
        for k, pose, covariance in zip(known.tolist(), poses, covariances):
            backend.add(
                Keyframe(
                    id=k,
                    stamp_ns=shots[k].stamp_ns,
                    image=given.image(shots[k]),
                    camera=given.camera,
                    T_odom_cam=pose,
                    depth=given.depth(shots[k]),
                    odometry_covariance=covariance,
                )
            )
        snapshot = backend.refine()
        spent = clock.read()
        T_map_cam[snapshot.keyframe_ids] = snapshot.T_map_cam
        in_map = np.zeros(len(given), bool)
        in_map[snapshot.keyframe_ids] = True
        model[~in_map] = -1
        answers = np.full((len(given.queries), 4, 4), np.nan)
        seconds = np.zeros(len(answers))
        for k, shot in enumerate(given.queries):
            image, started = given.image(shot), time.perf_counter()
            answer = backend.localize(image, given.camera, verify=verify)
            seconds[k] = time.perf_counter() - started
            if answer.T_map_cam is not None:
                answers[k] = answer.T_map_cam
    return Outcome(T_map_cam, model, True, *spent, answers, seconds)


def odometry(given: Given) -> tuple[Array, Array, list[Array | None]]:
    """(indices (N,) of the keyframes with a pose, their T_odom_cam (N, 4, 4), their covariances as
    in Keyframe.odometry_covariance): as given, else tracked by this package's front end over all
    frames.
    """
    if given.poses is not None:
        known = np.flatnonzero(np.isfinite(given.poses).all(axis=(1, 2)))
        covariances: list[Array | None] = [None] * len(known)
        if given.covariances is not None:
            covariances = [c if c.any() else None for c in given.covariances[known]]
        return known, given.poses[known], covariances
    frames = given.frames
    recording = Recording(
        given.name,
        given.camera,
        np.array([shot.stamp_ns for shot in frames], np.int64),
        lambda i: given.image(frames[i]),
        (lambda i: given.depth(frames[i])) if given.has_depth else None,
    )
    keyframe_at = {frames[index].stamp_ns: k for k, index in enumerate(given.keyframes)}
    known_rows, poses, found, guessed = [], [], [], None
    for tracked in tracked_keyframes(recording):
        guessed = tracked.odometry_covariance if guessed is None else guessed
        k = keyframe_at.get(tracked.stamp_ns)
        if k is None:
            continue  # a motion that was guessed on the way is part of that to the next keyframe
        known_rows.append(k)
        poses.append(tracked.T_odom_cam)
        found.append(guessed)
        guessed = None
    if not known_rows:
        raise ValueError("the front end tracked none of the keyframes")
    return np.array(known_rows), np.array(poses), found
