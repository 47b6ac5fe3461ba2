"""Error of a trajectory against ground truth, by evo."""

from dataclasses import dataclass

import numpy as np
from evo.core import metrics
from evo.core.trajectory import PoseTrajectory3D

from vggt3_ros.evaluation.trajectory_alignment import POSITIONS, aligned
from vggt3_ros.geometry import se3


@dataclass(frozen=True, eq=False)
class TrajectoryError:
    """ate_m: RMSE of positions in metres after SE(3) alignment. rotation_deg: RMSE of the
    remaining rotation in degrees. T_truth_estimate: (4, 4), the alignment. distances_m: (N,) per
    keyframe. scale: factor applied to the estimate's lengths before the alignment. aligned_by:
    what determined the rotation of the alignment, "positions" or "positions and orientations".
    """

    ate_m: float
    rotation_deg: float
    T_truth_estimate: np.ndarray
    distances_m: np.ndarray
    scale: float = 1.0
    aligned_by: str = POSITIONS


def trajectory_error(
    T_map_cam: np.ndarray,
    T_truth_cam: np.ndarray,
    stamps_ns: np.ndarray,
    correct_scale: bool = False,
) -> TrajectoryError:
    """Compare an estimate with the truth, both (N, 4, 4) at (N,) stamps; rows whose truth is NaN
    are skipped.

    Absolute trajectory error as in Sturm et al., IROS 2012, computed by evo. The alignment uses
    positions, and orientations as well if positions do not determine it, as on a straight road.
    correct_scale: use Sim(3) alignment (evo_ape -as), as is usual for monocular systems, whose
    scale is not observable. Raise ValueError for fewer than 3 poses with truth.
    """
    known = np.isfinite(T_truth_cam).all(axis=(1, 2))
    if known.sum() < 3:
        raise ValueError(
            f"{known.sum()} of {len(known)} keyframes have a true pose; 3 are needed to align a trajectory"
        )
    seconds = np.asarray(stamps_ns)[known] / 1e9
    estimate = PoseTrajectory3D(poses_se3=list(np.array(T_map_cam)[known]), timestamps=seconds)
    truth = PoseTrajectory3D(poses_se3=list(np.array(T_truth_cam)[known]), timestamps=seconds)
    found = aligned(np.array(T_map_cam)[known], np.array(T_truth_cam)[known], correct_scale)
    alignment = se3.from_rotation_translation(found.rotation, found.translation)
    estimate.scale(found.scale)
    estimate.transform(alignment)
    errors = {}
    for relation in (
        metrics.PoseRelation.translation_part,
        metrics.PoseRelation.rotation_angle_deg,
    ):
        ape = metrics.APE(relation)
        ape.process_data((truth, estimate))
        errors[relation] = ape
    position = errors[metrics.PoseRelation.translation_part]
    rotation = errors[metrics.PoseRelation.rotation_angle_deg]
    return TrajectoryError(
        position.get_statistic(metrics.StatisticsType.rmse),
        rotation.get_statistic(metrics.StatisticsType.rmse),
        alignment,
        position.error,
        found.scale,
        found.by,
    )
