"""The embedded back end on the device: the time of its stages, and whether its results equal those
on the CPU.

A bare machine has no Open3D: the map is not fused here. Everything else runs as in the node.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Collection
from collections.abc import Sequence as Items
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from vggt3_ros.backend import Backend
from vggt3_ros.config import BackendConfig, MapConfig
from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.datasets.tum import load_tum
from vggt3_ros.geometry import se3
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import PointMap, Snapshot
from vggt3_ros.surface.fusion_process import FusionProcess

REFINED_SECONDS, QUERY_SECONDS, SAME_POSE_M = 6.0, 0.015, 0.002


class NoFusion(FusionProcess):
    """Replaces FusionProcess where Open3D is absent: returns an empty map."""

    def start(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def __call__(
        self,
        ids: Items[int],
        T_map_cam: np.ndarray,
        keyframe: Callable[[int], Keyframe],
        config: MapConfig,
        renewed: Collection[int] = (),
        progress: Callable[[float], object] | None = None,
    ) -> PointMap:
        """Return an empty map."""
        return PointMap(
            np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32)
        )


def refinement(
    folder: Path, device: str, keyframes: int | None = None
) -> tuple[dict[str, Any], np.ndarray]:
    """Refine all keyframes of `folder` on `device` from a cold start, then localize its queries.

    Returns (figures, T_map_cam).
    """
    sequence = load_tum(folder)
    count = min(len(sequence), keyframes or len(sequence))
    with (
        tempfile.TemporaryDirectory() as scratch,
        KeyframeStore(Path(scratch) / "store") as store,
        closing(Backend(store, BackendConfig.from_flat({"device": device}))) as backend,
    ):
        backend.fusion = NoFusion()
        for i in range(count):
            backend.add(sequence.keyframes[i])
        _warm_up(backend, sequence)
        started = time.perf_counter()
        snapshot = backend.refine()
        seconds = time.perf_counter() - started
        result = {
            "device": str(backend.device),
            "keyframes": count,
            "seconds": seconds,
            "stages": dict(snapshot.seconds),
        }
        for name, verify in (("verified", True), ("memory", False)):
            result[name] = _queries(backend, sequence, snapshot, count, verify)
        return result, snapshot.T_map_cam


def _warm_up(backend: Backend, sequence: Sequence) -> None:
    """Load and compile the kernels, which a robot does once a day."""
    frame = backend.encoder.encode(sequence.keyframes[0].image)
    other = backend.encoder.encode_many([sequence.keyframes[i].image for i in range(2)])[1]
    backend.matcher.lighterglue(frame, other)


def _queries(
    backend: Backend, sequence: Sequence, snapshot: Snapshot, count: int, verify: bool
) -> dict[str, Any]:
    """Return the seconds per query and the share localized within 10 cm and 10 degrees of the
    truth.
    """
    assert sequence.groundtruth is not None
    T_truth_map = _aligned(snapshot.T_map_cam[:, :3, 3], sequence.groundtruth[:count, :3, 3])
    seconds, within = [], 0
    for k, query in enumerate(sequence.queries):
        started = time.perf_counter()
        answer = backend.localize(query.image, sequence.camera, verify=verify)
        if k:  # the first loads kernels
            seconds.append(time.perf_counter() - started)
        if answer.T_map_cam is not None:
            off = se3.inverse(query.T_world_cam) @ T_truth_map @ answer.T_map_cam
            within += bool(
                np.linalg.norm(off[:3, 3]) < 0.1 and np.degrees(se3.rotation_angle(off)) < 10
            )
    return {
        "median_seconds": statistics.median(seconds),
        "within_10cm_10deg": within / len(sequence.queries),
        "queries": len(sequence.queries),
    }


def _aligned(estimated: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return T_truth_estimated (4, 4) that aligns positions (N, 3) with the true ones in least
    squares.

    evo, which scores elsewhere, is not available on a bare machine.
    """
    rotation = Rotation.align_vectors(truth - truth.mean(0), estimated - estimated.mean(0))[
        0
    ].as_matrix()
    return se3.from_rotation_translation(rotation, truth.mean(0) - rotation @ estimated.mean(0))


def embedded(folder: Path, device: str, keyframes: int | None = None) -> dict[str, Any]:
    """Run on `device` and on the CPU. Returns the seconds of each stage and the largest difference
    of a position, metres.
    """
    here, T_here = refinement(folder, device, keyframes)
    print(f"    {here}", flush=True)
    there, T_there = refinement(folder, "cpu", keyframes)
    apart = float(np.linalg.norm(T_here[:, :3, 3] - T_there[:, :3, 3], axis=1).max())
    passed = apart < SAME_POSE_M and (
        device == "cpu"
        or (
            here["seconds"] <= REFINED_SECONDS
            and here["memory"]["median_seconds"] <= QUERY_SECONDS
        )
    )
    return {
        "passed": passed,
        "here": here,
        "on_the_cpu": there,
        "largest_pose_difference_m": apart,
        "map": "not fused: no Open3D",
    }
