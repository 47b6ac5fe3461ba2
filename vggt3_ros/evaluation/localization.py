"""Accuracy of localizations in a map whose alignment to the ground truth is known."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
from scipy.special import chdtri  # quantiles of chi-squared

from vggt3_ros.geometry import se3


class Answer(Protocol):
    """A localization: pose (4, 4) in the map or None, covariance (6, 6) in map axes or None, and its
    duration in seconds.
    """

    @property
    def T_map_cam(self) -> np.ndarray | None: ...

    @property
    def covariance(self) -> np.ndarray | None: ...

    @property
    def seconds(self) -> float: ...


@dataclass(frozen=True)
class LocalizationScore:
    """Medians (metres, degrees) and fractions over all queries. A query that is not localized
    counts as an infinite error.

    in_ellipsoid, in_pose_ellipsoid: fraction of the localized queries whose true position (3
    degrees of freedom) or pose (6) lies within the 95 % ellipsoid of the reported covariance; NaN
    if there is none.
    """

    queries: int
    localized: float
    median_m: float
    median_deg: float
    within_5cm_5deg: float
    within_10cm_10deg: float
    seconds_per_query: float
    in_ellipsoid: float
    in_pose_ellipsoid: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def score_localizations(
    answers: Sequence[Answer],
    T_truth_cam: Sequence[np.ndarray] | np.ndarray,
    T_truth_map: np.ndarray,
) -> LocalizationScore:
    """Score localizations against their true poses (N, 4, 4), with the map's alignment T_truth_map
    (4, 4).

    A query that is not localized enters the medians as an infinite error, so that refusing hard
    images cannot improve them. Raise ValueError without queries.
    """
    if not len(answers) or len(answers) != len(T_truth_cam):
        raise ValueError(
            f"{len(answers)} answers for {len(T_truth_cam)} queries with ground truth"
        )
    metres, degrees = pose_errors(answers, T_truth_cam, T_truth_map)
    T_map_truth = se3.inverse(T_truth_map)
    inside = [
        _inside(answer.T_map_cam, T_map_truth @ truth, answer.covariance)
        for answer, truth in zip(answers, T_truth_cam)
        if answer.T_map_cam is not None and answer.covariance is not None
    ]
    return LocalizationScore(
        len(answers),
        float(np.isfinite(metres).mean()),
        float(np.median(metres)),
        float(np.median(degrees)),
        float(np.mean((metres <= 0.05) & (degrees <= 5))),
        float(np.mean((metres <= 0.10) & (degrees <= 10))),
        float(np.mean([answer.seconds for answer in answers])),
        *(map(float, np.mean(inside, axis=0)) if inside else (float("nan"),) * 2),
    )


def pose_errors(
    answers: Sequence[Answer],
    T_truth_cam: Sequence[np.ndarray] | np.ndarray,
    T_truth_map: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the errors of localizations against true poses (N, 4, 4), (N,) in metres and (N,) in
    degrees; infinite where an image was not localized.
    """
    metres, degrees = np.full((2, len(answers)), np.inf)
    for i, (answer, truth) in enumerate(zip(answers, T_truth_cam)):
        if answer.T_map_cam is not None:
            error = se3.inverse(truth) @ T_truth_map @ answer.T_map_cam
            metres[i] = np.linalg.norm(error[:3, 3])
            degrees[i] = np.degrees(se3.rotation_angle(error))
    return metres, degrees


def _inside(T_map_cam: np.ndarray, T_map_truth: np.ndarray, covariance: np.ndarray) -> list[bool]:
    """Whether the true position, and the true pose, lie within the 95 % ellipsoids of an estimate
    with covariance (6, 6) in map axes.
    """
    off = np.concatenate(
        [
            T_map_cam[:3, 3] - T_map_truth[:3, 3],
            se3.log(
                se3.from_rotation_translation(
                    T_map_cam[:3, :3] @ T_map_truth[:3, :3].T, np.zeros(3)
                )
            )[3:],
        ]
    )
    return [
        bool(off[:n] @ np.linalg.solve(covariance[:n, :n], off[:n]) < chdtri(n, 0.05))
        for n in (3, 6)
    ]
