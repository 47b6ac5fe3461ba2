"""Evaluation of the whole back end on one sequence with ground truth."""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as AnySequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vggt3_ros.backend import Backend
from vggt3_ros.config import BackendConfig
from vggt3_ros.datasets.sequence import Query, Sequence
from vggt3_ros.datasets.synthetic.scene import Scene
from vggt3_ros.evaluation.cloud import cloud_error, surface_error
from vggt3_ros.evaluation.localization import score_localizations
from vggt3_ros.evaluation.trajectory import TrajectoryError, trajectory_error
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.memory.localizer import Localization
from vggt3_ros.refinement.scene_scale import REPORT as SCENE_SCALE
from vggt3_ros.refinement.scene_scale import in_scale
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.surface.fusion import fuse
from vggt3_ros.system.memory_use import peak_mb

Progress = Callable[[str, float], None]  # (stage, fraction in 0..1)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """result: nested dict of figures (see `vggt3 evaluate --help`). trajectories: {name: (N, 3)}
    in metres in the frame of the truth. snapshot: the refined Snapshot. odometry, corrected: their
    TrajectoryErrors. T_truth_cam: (N, 4, 4), the truth of the keyframes, NaN where unknown.
    queries: those with truth. answers: {verify: Localizations of the queries}; without
    verification the scene memory answers alone. running_on: device, dtype and prior, for people.
    """

    result: dict[str, Any]
    trajectories: dict[str, np.ndarray]
    snapshot: Snapshot
    odometry: TrajectoryError
    corrected: TrajectoryError
    T_truth_cam: np.ndarray
    queries: tuple[Query, ...]
    answers: dict[bool, list[Localization]]
    running_on: str


def evaluate_sequence(
    sequence: Sequence,
    folder: str | Path,
    config: BackendConfig,
    progress: Progress,
    grow: int = 0,
    surfaces: Scene | None = None,
    depth: bool = True,
) -> Evaluation:
    """Run the back end on a sequence with ground truth and score it.

    folder: of an empty store. progress(stage, fraction) is called throughout. grow: hold back the
    last `grow` keyframes, refine, add them and refine again; result["grow"] reports the cost of
    that. depth: False withholds measured depth from the back end. Without depth the scale is the
    odometry's; result["sim3"] then has the figures after Sim(3) alignment as well. All other
    figures are after SE(3) alignment of the corrected trajectory, which also applies to the
    localized queries and the map. surfaces: exact surfaces of the scene (apartment.surfaces_of);
    without them the map is compared with depth fused at the true poses. result["empty"]: why the
    map or the memory is empty, if so.
    """
    if sequence.groundtruth is None:
        raise ValueError(f"{sequence.name} has no ground truth to be scored against")
    with KeyframeStore(folder) as store, closing(Backend(store, config)) as backend:
        first = len(sequence) - grow
        _add(backend, sequence, range(first), progress, depth)
        snapshot = backend.refine(progress=progress)
        seconds, peak = dict(snapshot.seconds), peak_mb()
        if grow:
            _add(backend, sequence, range(first, len(sequence)), progress, depth)
            snapshot = backend.refine(progress=progress)
        odometry = trajectory_error(sequence.T_odom_cam, sequence.groundtruth, sequence.stamps_ns)
        corrected = trajectory_error(snapshot.T_map_cam, sequence.groundtruth, sequence.stamps_ns)
        result: dict[str, Any] = {
            name: {
                "ate_m": error.ate_m,
                "rotation_deg": error.rotation_deg,
                "aligned_by": error.aligned_by,
            }
            for name, error in (("odometry", odometry), ("corrected", corrected))
        }
        queries = [
            query
            for query in sequence.queries
            if query.T_world_cam is not None and np.isfinite(query.T_world_cam).all()
        ]
        answers = _localizations(queries, sequence.camera, backend, progress)
        result.update(_localization_scores(queries, answers, corrected))
        result["map"] = {"points": len(snapshot.cloud)}
        if snapshot.report.get("empty"):
            result["empty"] = snapshot.report["empty"]
        result["scene"] = {name: snapshot.report[name] for name in (SCENE_SCALE, "scene_depth_m")}
        map_error = _map_judge(sequence, snapshot, config, surfaces, progress)
        if map_error is not None:
            result["map"]["median_error_m"] = map_error(corrected)
        if len(store.without_depth()) == len(store):
            fitted = trajectory_error(
                snapshot.T_map_cam, sequence.groundtruth, sequence.stamps_ns, correct_scale=True
            )
            result["sim3"] = {
                "scale": fitted.scale,
                "corrected": {"ate_m": fitted.ate_m, "rotation_deg": fitted.rotation_deg},
                **_localization_scores(queries, answers, fitted),
            }
            if map_error is not None:
                result["sim3"]["map"] = {"median_error_m": map_error(fitted)}
        result["odometry"]["breaks"] = snapshot.report.get("odometry_breaks", [])
        result["loops"] = {
            name: value for name, value in snapshot.report.items() if name.startswith("loop")
        }
        if "network" in snapshot.report:
            result["network"] = snapshot.report["network"]
        result["seconds"], result["peak_memory_mb"] = seconds, peak
        running_on = backend.running_on
        if grow:
            result["grow"] = {"keyframes": grow, "onto": first, "seconds": dict(snapshot.seconds)}
    trajectories = {
        "ground truth": sequence.groundtruth[:, :3, 3],
        "odometry": se3.transform_points(odometry.T_truth_estimate, sequence.T_odom_cam[:, :3, 3]),
        "corrected": se3.transform_points(
            corrected.T_truth_estimate, snapshot.T_map_cam[:, :3, 3]
        ),
    }
    return Evaluation(
        result,
        trajectories,
        snapshot,
        odometry,
        corrected,
        sequence.groundtruth,
        tuple(queries),
        answers,
        running_on,
    )


def _add(
    backend: Backend, sequence: Sequence, indices: Iterable[int], progress: Progress, depth: bool
) -> None:
    for i in indices:
        keyframe = sequence.keyframes[i]
        backend.add(keyframe if depth else replace(keyframe, depth=None))
        progress("keyframes", (i + 1) / len(sequence))


def _map_judge(
    sequence: Sequence,
    snapshot: Snapshot,
    config: BackendConfig,
    surfaces: Scene | None,
    progress: Progress,
) -> Callable[[TrajectoryError], float] | None:
    """Return a function from a TrajectoryError to the median distance of the map's points from the
    truth in metres, or None if there is nothing to compare.
    """
    if not len(snapshot.cloud):
        return None
    points = snapshot.cloud.points
    if surfaces is not None:
        return lambda error: (
            surface_error(error.scale * points, surfaces, error.T_truth_estimate).median_m
        )
    truth = fuse(
        sequence.keyframes,
        sequence.groundtruth,
        in_scale(config, snapshot.report[SCENE_SCALE]).map,
        progress=lambda f: progress("true map", f),
    )
    if not len(truth):  # no measured depth
        return None
    return lambda error: (
        cloud_error(error.scale * points, truth.points, error.T_truth_estimate).median_m
    )


def _localizations(
    queries: AnySequence[Query], camera: Camera, backend: Backend, progress: Progress
) -> dict[bool, list[Localization]]:
    """Return {verify: answers to the queries}."""
    answers: dict[bool, list[Localization]] = {True: [], False: []}
    for i, query in enumerate(queries):
        image = query.image
        for verify in answers:
            answers[verify].append(backend.localize(image, camera, verify=verify))
        progress("localization", (i + 1) / len(queries))
    return answers


def _localization_scores(
    queries: AnySequence[Query],
    answers: Mapping[bool, AnySequence[Localization]],
    error: TrajectoryError,
) -> dict[str, dict[str, float]]:
    if not queries:
        return {}
    truth = [query.T_world_cam for query in queries if query.T_world_cam is not None]

    def score(verify: bool) -> dict[str, float]:
        scaled = [_scaled(answer, error.scale) for answer in answers[verify]]
        return score_localizations(scaled, truth, error.T_truth_estimate).as_dict()

    return {"localization": score(True), "localization_memory": score(False)}


def _scaled(answer: Localization, scale: float) -> Localization:
    if scale == 1 or answer.T_map_cam is None:
        return answer
    return replace(
        answer,
        T_map_cam=se3.from_rotation_translation(
            answer.T_map_cam[:3, :3], scale * answer.T_map_cam[:3, 3]
        ),
    )
