"""A back end with the interface of vggt3_ros.backend.Backend that needs no torch: for tests of the
worker and the node.

It corrects nothing but the origin: map = odom shifted by 1 m along x. memory.steps is the length
of a refinement in 10 ms; an image whose first pixel is (1, 2, 3) ends the process, as a crash in
native code would, one with (4, 5, n) takes n / 20 s, one with (7, 8, n) was taken n decimetres
along x of the map from its origin, one with (9, 9, 9) is never answered. Refining keyframes DEADLY
ends the process, STUCK takes for ever, LARGE runs out of memory where max_slots is above 200,000,
POISON raises. The odometry is reported to have broken before keyframe LOST.
"""

import os
import time
from dataclasses import dataclass, replace

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.refinement.odometry_breaks import Break, reported
from vggt3_ros.store.sessions import begin_session
from vggt3_ros.store.snapshot import Loop, PointMap, Snapshot
from vggt3_ros.system.stages import Cancelled

CRASH, SLOW, AT, NEVER = (1, 2, 3), (4, 5), (7, 8), (9, 9, 9)
DEADLY, STUCK, LARGE, POISON, LOST = 1001, 1002, 1003, 1004, 1005
SHIFT = se3.exp([1.0, 0, 0, 0, 0, 0])


@dataclass(frozen=True)
class Localization:
    code: str
    message: str
    T_map_cam: np.ndarray | None
    covariance: np.ndarray | None
    inliers: int
    reprojection_error_px: float
    generation: int
    seconds: float


class Backend:
    touched = staticmethod(lambda keyframe_id: None)
    running_on = property(
        lambda self: (
            f"{self.config.device}, float32, no networks; prior {self.config.network.checkpoint or 'none'}, any licence"
        )
    )

    def __init__(self, store, config):
        if config.device == "cuda:99":
            raise ValueError("device cuda:99 does not exist")
        self.store, self.config = store, config
        self.snapshot = next(
            filter(
                None, map(self._read, sorted(store.snapshots.glob("[0-9]*[0-9]"), reverse=True))
            ),
            None,
        )

    def _read(self, folder):
        try:
            return Snapshot.of(self.store, folder)
        except ValueError:
            return None

    def refine(self, progress=None, cancelled=None):
        poses = self.store.poses()
        if len(poses) < 2:
            raise ValueError(f"at least 2 keyframes are needed, there are {len(poses)}")
        for step in range(self.config.memory.steps):
            progress("memory", step / self.config.memory.steps)
            if cancelled():
                raise Cancelled("refinement cancelled")
            time.sleep(0.01)
        for id in map(int, poses.ids):
            self.touched(id)
            self._work_on(id)
            progress("memory", 1.0)
        return self._publish(poses)

    def begin_session(self):
        number = begin_session(self.store)
        if self.snapshot is not None:
            self.snapshot = replace(self.snapshot, session=number)
        return number

    def _work_on(self, id):
        if id == DEADLY:
            os._exit(7)
        if id == STUCK:
            time.sleep(1e6)
        if id == LARGE and self.config.memory.max_slots > 200_000:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: "
                "you tried to allocate 9 bytes"
            )
        if id == POISON:
            raise RuntimeError("this keyframe is poison")

    def distil(self, seconds, cancelled=None):
        if self.snapshot is None or self.snapshot.generation % 2 == 0:
            return None
        for _step in range(20):
            if cancelled():
                raise Cancelled("distillation cancelled")
            time.sleep(0.01)
        return self._publish(self.store.poses())

    def _publish(self, poses):
        generation = 1 + max(
            (int(folder.name) for folder in self.store.snapshots.glob("[0-9]*[0-9]")), default=0
        )
        points = np.random.default_rng(0).uniform(-1, 1, (100, 3)).astype(np.float32)
        cloud = PointMap(
            points,
            np.full((100, 3), (10, 20, 30), np.uint8),
            np.linspace(0, 1, 100, dtype=np.float32),
        )
        loops = (
            Loop(
                int(poses.ids[0]),
                int(poses.ids[-1]),
                True,
                "",
                "memory",
                50,
                np.eye(4),
                np.eye(6),
                0.01,
                0.02,
            ),
            Loop(int(poses.ids[-1]), int(poses.ids[0]), False, "too few inliers", "place", 5),
        )
        report = {"memory_error_m": float("nan")} | (
            {"network": {"summary": "not used: it stands still"}}
            if self.config.network.checkpoint
            else {}
        )
        lost = np.flatnonzero(poses.ids == LOST)
        report |= reported([Break(int(poses.ids[k - 1]), LOST, 0.285, 24.0) for k in lost])
        snapshot = Snapshot(
            generation,
            poses.ids,
            poses.stamps_ns,
            SHIFT @ poses.T_odom_cam,
            poses.T_odom_cam,
            np.tile(np.diag([1, 2, 3, 4, 5, 6]) * 1e-4, (len(poses), 1, 1)),
            loops,
            cloud,
            {"total": 0.5},
            report,
            poses.sessions,
            self.store.session,
        )
        self.store.snapshots.mkdir(exist_ok=True)
        snapshot.save(self.store.snapshots / f"{generation:06d}")
        self.snapshot = snapshot
        return snapshot

    def localize(self, image, camera, hint=None, verify=True):
        if tuple(image[0, 0]) == CRASH:
            os._exit(7)
        if tuple(image[0, 0]) == NEVER:
            time.sleep(1e6)
        if tuple(image[0, 0, :2]) == SLOW:
            time.sleep(image[0, 0, 2] / 20)
        if self.snapshot is None:
            return Localization(
                "no_map", "no refined map yet", None, None, 0, float("nan"), 0, 0.0
            )
        if not image.any():
            return Localization(
                "not_localized",
                "the image shows nothing",
                None,
                None,
                0,
                float("nan"),
                self.snapshot.generation,
                0.0,
            )
        pose = SHIFT if hint is None else hint
        if tuple(image[0, 0, :2]) == AT:
            pose = se3.exp([0.1 * int(image[0, 0, 2]), 0, 0, 0, 0, 0])
        return Localization(
            "ok",
            "",
            pose,
            np.eye(6) * (1e-4 if verify else 1e-2),
            100,
            0.5,
            self.snapshot.generation,
            0.01,
        )
