"""Error of a map against ground truth: another cloud, or the exact surfaces of a rendered scene."""

from dataclasses import dataclass

import numpy as np
import open3d as o3d

from vggt3_ros.datasets.synthetic.scene import Scene
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.local_frame import origin_near


@dataclass(frozen=True)
class CloudError:
    """Distances in metres from the points of a map to the nearest point of the reference. points:
    number of points in the map.
    """

    points: int
    median_m: float
    p90_m: float


def cloud_error(
    points: np.ndarray, reference: np.ndarray, T_reference_points: np.ndarray | None = None
) -> CloudError:
    """Compare points (M, 3) with the cloud `reference` (R, 3), both in metres. T_reference_points:
    (4, 4), identity by default.

    A reference sampled every d metres cannot resolve errors much smaller than d / 2. Raise
    ValueError if a cloud is empty or contains NaN or infinity.
    """
    points, reference = (
        _checked(points, "map", T_reference_points),
        _checked(reference, "reference"),
    )
    origin = origin_near(reference[0])
    points, reference = (
        np.ascontiguousarray(cloud - origin, np.float32) for cloud in (points, reference)
    )
    search = o3d.core.nns.NearestNeighborSearch(o3d.core.Tensor.from_numpy(reference))
    search.knn_index()
    squared = search.knn_search(o3d.core.Tensor.from_numpy(points), 1)[1].numpy()
    return _summary(np.sqrt(squared.reshape(-1)))


def surface_error(
    points: np.ndarray, scene: Scene, T_world_points: np.ndarray | None = None
) -> CloudError:
    """Compare points (M, 3) with the surfaces of `scene`, such as apartment.surfaces().

    T_world_points: (4, 4) from the map to the scene, identity by default. Raise ValueError as
    :func:`cloud_error`.
    """
    return _summary(
        scene.distance(np.ascontiguousarray(_checked(points, "map", T_world_points), np.float32))
    )


def _checked(points: np.ndarray, name: str, T: np.ndarray | None = None) -> np.ndarray:
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise ValueError(f"the {name} must be points of shape (M, 3), M > 0, got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError(f"the {name} contains NaN or infinity")
    if T is not None:
        points = se3.transform_points(se3.check(T, "the map's alignment"), points)
    return points


def _summary(distances: np.ndarray) -> CloudError:
    median, p90 = np.percentile(distances, (50, 90))
    return CloudError(len(distances), float(median), float(p90))
