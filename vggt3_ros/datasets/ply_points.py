"""Points of a .ply file, by Open3D."""

from pathlib import Path

import numpy as np

MAX_BYTES = 4 * 2**30


def read_points(path):
    """(N, 3) float64. ValueError where there are none, or the file is larger than it may be."""
    import open3d

    path = Path(path)
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} is no file of at most {MAX_BYTES} bytes")
    points = np.asarray(open3d.io.read_point_cloud(str(path), format="ply").points)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        raise ValueError(
            f"{path} holds no points that Open3D reads: a PLY file with x, y, z is expected"
        )
    return points
