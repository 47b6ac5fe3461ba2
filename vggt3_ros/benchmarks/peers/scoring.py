"""An Outcome and the truth -> the figures of a row, by the code that scores `vggt3 evaluate`."""

from typing import Any

import numpy as np

from vggt3_ros.benchmarks.peers.given import Array
from vggt3_ros.benchmarks.peers.outcome import Outcome
from vggt3_ros.benchmarks.peers.preparing import Truth
from vggt3_ros.evaluation.localization import pose_errors, score_localizations
from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.memory.localizer import NOT_LOCALIZED, OK, Localization

LEAST_POSES = 3  # that a trajectory is aligned by
# of the recall curve: queries within so many centimetres, and as many degrees but at least
# LEAST_DEGREES. A truth that is turned by a degree or two against the camera, as motion capture
# often is, would hide what the first centimetres say.
CURVE = (*(k / 10 for k in range(1, 20)), *(k / 2 for k in range(4, 51)))
LEAST_DEGREES = 5.0


def score(outcome: Outcome, truth: Truth, knows_poses: bool = False) -> dict[str, Any]:
    """Figures of the largest model: errors of its trajectory after SE(3) alignment (only where it
    is metric) and after Sim(3) alignment, localization after the first, or the second where scale
    is free. knows_poses: the poses are the truth's own; nothing is aligned.

    Keyframes that are not in the largest model have no error: the share registered says how many
    there are. A query that is not localized is infinitely far off.
    """
    registered = outcome.in_largest
    known = registered & np.isfinite(truth.keyframes).all(axis=(1, 2))
    row: dict[str, Any] = {
        "keyframes": len(registered),
        "registered": float(registered.mean()),
        "models": len(np.unique(outcome.model[outcome.model >= 0])),
        "metric": bool(outcome.metric),
        "seconds": float(outcome.seconds),
        "cpu_seconds": float(outcome.cpu_seconds),
    }
    if outcome.note:
        row["note"] = outcome.note
    T_truth_map, scale = np.eye(4), 1.0
    if not knows_poses:
        if known.sum() < LEAST_POSES:
            return row | {"failure": f"{known.sum()} keyframes registered: too few to align"}
        arguments = outcome.T_map_cam[known], truth.keyframes[known], truth.stamps_ns[known]
        fitted = trajectory_error(*arguments, correct_scale=True)
        row |= {"ate_scaled_m": fitted.ate_m, "scale": fitted.scale}
        used = fitted
        if outcome.metric:
            used = trajectory_error(*arguments)
            row["ate_m"] = used.ate_m
        row["rotation_deg"] = used.rotation_deg
        T_truth_map, scale = used.T_truth_estimate, used.scale
    if outcome.T_map_query is not None and len(truth.queries):
        poses = outcome.T_map_query.copy()
        poses[:, :3, 3] *= scale
        row |= _localization(poses, outcome.query_seconds, truth.queries, T_truth_map)
    return row


def _localization(
    T_map_query: Array, seconds: Array | None, T_truth_query: Array, T_truth_map: Array
) -> dict[str, Any]:
    found = np.asarray(np.isfinite(T_map_query).all(axis=(1, 2)))
    each = np.zeros(len(found)) if seconds is None else seconds
    answers = [
        Localization(OK if has else NOT_LOCALIZED, T_map_cam=pose if has else None, seconds=spent)
        for has, pose, spent in zip(found, T_map_query, each.tolist())
    ]
    scores = score_localizations(answers, T_truth_query, T_truth_map).as_dict()
    for name in ("in_ellipsoid", "in_pose_ellipsoid"):  # not every contender has covariances
        del scores[name]
    metres, degrees = pose_errors(answers, T_truth_query, T_truth_map)
    curve = [
        float(np.mean((100 * metres <= limit) & (degrees <= max(limit, LEAST_DEGREES))))
        for limit in CURVE
    ]
    return {"localization": scores, "recall_curve": curve}
