"""The whole back end on one sequence with known truth -> every figure."""

from dataclasses import dataclass, replace

import numpy as np

from vggt3_ros.backend import Backend, peak_memory_mb
from vggt3_ros.evaluation.cloud import cloud_error, surface_error
from vggt3_ros.evaluation.localization import score_localizations
from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.geometry import se3
from vggt3_ros.mapping.fusion import fuse
from vggt3_ros.mapping.store import KeyframeStore


@dataclass(frozen=True, eq=False)
class Evaluation:
    """result: nested dict of figures (see `vggt3 evaluate --help`); trajectories: {name: (N, 3)} in the truth's frame."""

    result: dict
    trajectories: dict
    snapshot: object


def evaluate_sequence(sequence, folder, config, progress, grow=0, surfaces=None, depth=True):
    """Sequence with ground truth, an empty store folder, BackendConfig, progress(stage, fraction) -> Evaluation.

    grow: hold the last so many keyframes back, refine, add them and refine again: result["grow"] tells what that cost.
    depth: False withholds the measured depth from the back end.
    surfaces: the scene's exact ones (datasets.apartment.surfaces_of); without them the map is compared to depth fused at true poses.
    The alignment of map to truth is the SE(3) that aligns the corrected trajectory; the localized queries and the map use it too.
    """
    with KeyframeStore(folder) as store:
        backend = Backend(store, config)
        first = len(sequence) - grow
        _add(backend, sequence, range(first), progress, depth)
        snapshot = backend.refine(progress=progress)
        seconds, peak = dict(snapshot.seconds), peak_memory_mb()
        if grow:
            _add(backend, sequence, range(first, len(sequence)), progress, depth)
            snapshot = backend.refine(progress=progress)
        odometry = trajectory_error(sequence.T_odom_cam, sequence.groundtruth, sequence.stamps_ns)
        corrected = trajectory_error(snapshot.T_map_cam, sequence.groundtruth, sequence.stamps_ns)
        result = {"odometry": {"ate_m": odometry.ate_m, "rotation_deg": odometry.rotation_deg},
                  "corrected": {"ate_m": corrected.ate_m, "rotation_deg": corrected.rotation_deg}}
        result.update(_localizations(sequence, backend, corrected.T_truth_estimate, progress))
        result["map"] = {"points": len(snapshot.cloud)}
        if len(snapshot.cloud) and surfaces is not None:
            result["map"]["median_error_m"] = surface_error(snapshot.cloud.points, surfaces, corrected.T_truth_estimate).median_m
        elif len(snapshot.cloud):
            truth = fuse(sequence.keyframes, sequence.groundtruth, config.map, progress=lambda f: progress("true map", f))
            if len(truth):  # without measured depth there is nothing to compare with
                result["map"]["median_error_m"] = cloud_error(snapshot.cloud.points, truth.points, corrected.T_truth_estimate).median_m
        result["loops"] = {name: value for name, value in snapshot.report.items() if name.startswith("loop")}
        if "network" in snapshot.report:
            result["network"] = snapshot.report["network"]
        result["seconds"], result["peak_memory_mb"] = seconds, peak
        if grow:
            result["grow"] = {"keyframes": grow, "onto": first, "seconds": dict(snapshot.seconds)}
    trajectories = {"ground truth": sequence.groundtruth[:, :3, 3],
                    "odometry": se3.transform_points(odometry.T_truth_estimate, sequence.T_odom_cam[:, :3, 3]),
                    "corrected": se3.transform_points(corrected.T_truth_estimate, snapshot.T_map_cam[:, :3, 3])}
    return Evaluation(result, trajectories, snapshot)


def _add(backend, sequence, indices, progress, depth):
    for i in indices:
        keyframe = sequence.keyframes[i]
        backend.add(keyframe if depth else replace(keyframe, depth=None))
        progress("keyframes", (i + 1) / len(sequence))


def _localizations(sequence, backend, T_truth_map, progress):
    queries = [query for query in sequence.queries if query.T_world_cam is not None and np.isfinite(query.T_world_cam).all()]
    if not queries:
        return {}
    answers = {True: [], False: []}
    for i, query in enumerate(queries):
        image = query.image
        for verify in answers:
            answers[verify].append(backend.localize(image, sequence.camera, verify=verify))
        progress("localization", (i + 1) / len(queries))
    truth = [query.T_world_cam for query in queries]
    return {"localization": score_localizations(answers[True], truth, T_truth_map).as_dict(),
            "localization_memory": score_localizations(answers[False], truth, T_truth_map).as_dict()}
