"""How far a map lies from the truth: another cloud, or the exact surfaces of a rendered scene."""

from dataclasses import dataclass

import numpy as np
import open3d as o3d

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.local_frame import origin_near


@dataclass(frozen=True)
class CloudError:
    """Distances from the points of a map to what is nearest in the reference, metres. points: how
    many the map holds.
    """

    points: int
    median_m: float
    p90_m: float


def cloud_error(points, reference, T_reference_points=None):
    """points (M, 3) against the cloud `reference` (R, 3), metres. T_reference_points: (4, 4),
    identity by default.

    A reference sampled every d metres cannot show errors much below d / 2. Raises ValueError when
    a cloud is empty or holds NaN.
    """
    points, reference = (
        _checked(points, "map", T_reference_points),
        _checked(reference, "reference"),
    )
    origin = origin_near(reference[0])
    points, reference = (
        np.ascontiguousarray(cloud - origin, np.float32) for cloud in (points, reference)
    )
    search = o3d.core.nns.NearestNeighborSearch(o3d.core.Tensor(reference))
    search.knn_index()
    squared = search.knn_search(o3d.core.Tensor(points), 1)[1].numpy()
    return _summary(np.sqrt(squared.reshape(-1)))


def surface_error(points, scene, T_world_points=None):
    """points (M, 3) against the surfaces of `scene` (datasets.scene.Scene, such as
    datasets.apartment.surfaces()).

    T_world_points: (4, 4) from the map to the scene, identity by default. Raises ValueError as
    :func:`cloud_error`.
    """
    return _summary(
        scene.distance(np.ascontiguousarray(_checked(points, "map", T_world_points), np.float32))
    )


def _checked(points, name, T=None):
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise ValueError(f"the {name} must be points of shape (M, 3), M > 0, got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError(f"the {name} holds NaN or infinity")
    if T is not None:
        points = se3.transform_points(se3.check(T, "the map's alignment"), points)
    return points


def _summary(distances):
    median, p90 = np.percentile(distances, (50, 90))
    return CloudError(len(distances), float(median), float(p90))
