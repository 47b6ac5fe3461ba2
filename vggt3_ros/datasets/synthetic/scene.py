"""Patches as one ray-traced mesh: which patch a ray hits, and where."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import open3d as o3d

from vggt3_ros.datasets.synthetic.patches import Patch


@dataclass(frozen=True, eq=False)
class Hits:
    """First hits of n rays. distance: (n,) float32 in units of the ray's direction, inf without a
    hit. patch: (n,) int64, -1 without a hit. uv: (n, 2) float32 in [0, 1], right and down on the
    patch. normal: (n, 3) float32 of unit length, on either side.
    """

    distance: np.ndarray
    patch: np.ndarray
    uv: np.ndarray
    normal: np.ndarray


class Scene:
    """A ray-tracing structure over the triangles of all patches. threads: number of CPU threads, 0
    for all.
    """

    def __init__(self, patches: Sequence[Patch], threads: int = 0) -> None:
        if not patches:
            raise ValueError("a scene needs at least one patch")
        vertices: list[np.ndarray] = []
        triangles: list[np.ndarray] = []
        uvs: list[np.ndarray] = []
        owner: list[np.ndarray] = []
        count = 0
        for index, patch in enumerate(patches):
            rows, columns = patch.points.shape[:2]
            corner = count + (
                np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)
            ).reshape(-1)
            vertices.append(patch.points.reshape(-1, 3))
            uvs.append(
                np.stack(
                    np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows)), axis=-1
                ).reshape(-1, 2)
            )
            right, down, across = corner + 1, corner + columns, corner + columns + 1
            triangles += [
                np.stack([corner, down, across], -1),
                np.stack([corner, across, right], -1),
            ]
            owner.append(np.full(2 * len(corner), index))
            count += rows * columns
        self.vertices = np.concatenate(vertices).astype(np.float32)
        self.triangles = np.concatenate(triangles).astype(np.uint32)
        self._uv = np.concatenate(uvs).astype(np.float32)[self.triangles]
        self._owner = np.concatenate(owner)
        self.threads = threads
        self._scene = o3d.t.geometry.RaycastingScene(nthreads=threads)
        self._scene.add_triangles(
            o3d.core.Tensor.from_numpy(self.vertices), o3d.core.Tensor.from_numpy(self.triangles)
        )

    def cast(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        """Return the first hit of each ray. origins: (n, 3) or (3,); directions: (n, 3) of any
        length.
        """
        answer = self._scene.cast_rays(_rays(origins, directions), nthreads=self.threads)
        distance, primitive = (
            answer["t_hit"].numpy(),
            answer["primitive_ids"].numpy().astype(np.int64),
        )
        missed = ~np.isfinite(distance)
        primitive[missed] = 0
        second, third = np.moveaxis(answer["primitive_uvs"].numpy(), -1, 0)[..., None]
        corners = self._uv[primitive]
        uv = corners[:, 0] * (1 - second - third) + corners[:, 1] * second + corners[:, 2] * third
        patch = self._owner[primitive]
        patch[missed] = -1
        return Hits(distance, patch, np.clip(uv, 0, 1), answer["primitive_normals"].numpy())

    def blocked(self, origins: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return a mask (n,): whether a surface lies between each pair of points (n, 3)."""
        rays = _rays(origins, np.asarray(targets) - origins)
        found = self._scene.test_occlusions(rays, tnear=0.0, tfar=0.999, nthreads=self.threads)
        return np.asarray(found.numpy())

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Return the distances (n,) float32 in metres from points (n, 3) to the nearest surface."""
        queries = o3d.core.Tensor.from_numpy(np.ascontiguousarray(points, np.float32))
        found = self._scene.compute_distance(queries, nthreads=self.threads)
        return np.asarray(found.numpy())


def _rays(origins: np.ndarray, directions: np.ndarray) -> o3d.core.Tensor:
    rays = np.empty((len(directions), 6), np.float32)
    rays[:, :3], rays[:, 3:] = origins, directions
    return o3d.core.Tensor.from_numpy(rays)
