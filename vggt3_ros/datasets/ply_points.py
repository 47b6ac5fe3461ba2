"""Points of a .ply file, read by Open3D."""

from pathlib import Path

import numpy as np

MAX_BYTES = 4 * 2**30


def read_points(path: str | Path) -> np.ndarray:
    """Return (N, 3) float64 points. Raise ValueError if there are none or the file is larger than
    MAX_BYTES.
    """
    import open3d

    path = Path(path)
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} is not a file of at most {MAX_BYTES} bytes")
    points = np.asarray(open3d.io.read_point_cloud(path, format="ply").points)
    known: np.ndarray = points[np.isfinite(points).all(axis=1)]
    if not len(known):
        raise ValueError(
            f"{path} has no points that Open3D can read: expected a PLY file with x, y, z"
        )
    return known
