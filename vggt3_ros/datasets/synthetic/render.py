"""RGB-D images of a scene of patches, ray traced on the CPU: exact depth, filtered textures,
prebaked light.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vggt3_ros.datasets.synthetic import lighting
from vggt3_ros.datasets.synthetic.atlas import Atlas
from vggt3_ros.datasets.synthetic.patches import Patch
from vggt3_ros.datasets.synthetic.scene import Scene
from vggt3_ros.geometry.camera import Camera

# rotated-grid supersampling
_SUBPIXELS = np.array(
    [[-0.375, -0.125], [0.125, -0.375], [0.375, 0.125], [-0.125, 0.375]], np.float32
)
_BATCH = 40_960


@dataclass(frozen=True, eq=False)
class Frame:
    """A rendered view of `camera`.

    color: (height, width, 3) float32 sRGB in 0..255, before sensor effects and rounding. depth:
    (height, width) float32 metres along z, exact, 0 without a surface. incidence: (height, width)
    float32 cosine of the angle between the ray and the surface normal.
    """

    camera: Camera
    color: np.ndarray
    depth: np.ndarray
    incidence: np.ndarray


class Renderer:
    """The camera-independent part of a scene. Building it bakes the light (seconds for an
    apartment).

    seed: of the sampling of light. threads: number of CPU threads, 0 for all.
    """

    def __init__(
        self,
        patches: Sequence[Patch],
        lamps: Sequence[lighting.Lamp],
        seed: int = 0,
        threads: int = 0,
    ) -> None:
        self.scene = Scene(patches, threads)
        baked = lighting.bake(self.scene, patches, lamps, np.random.default_rng(seed))
        self._textures = Atlas([patch.texture for patch in patches])
        # stored as a factor on sRGB values, so that rendering needs no power function
        self._light = Atlas([np.maximum(grid, 1e-4) ** (1 / 2.2) for grid in baked], levels=1)
        self._light_steps = np.array([grid.shape[1::-1] for grid in baked], np.float32)
        areas = np.array([max(np.prod(patch.size), 1e-9) for patch in patches])
        self._texels_per_metre2 = (self._textures.sizes.prod(axis=1) / areas).astype(np.float32)

    def render(self, camera: Camera, T_world_cam: np.ndarray) -> Frame:
        """Render the view of an undistorted `camera` at T_world_cam (4, 4)."""
        rows, columns = np.mgrid[: camera.height, : camera.width].astype(np.float32)
        pixels = np.stack([columns, rows], axis=-1).reshape(-1, 2)
        color, patch, depth, incidence = self._shade(camera, T_world_cam, pixels)
        shape = (camera.height, camera.width)
        edges = np.flatnonzero(_edges(patch.reshape(shape), depth.reshape(shape)))
        if len(edges):
            corners = (pixels[edges, None] + _SUBPIXELS).reshape(-1, 2)
            color[edges] = (
                self._shade(camera, T_world_cam, corners)[0]
                .reshape(len(edges), len(_SUBPIXELS), 3)
                .mean(axis=1)
            )
        return Frame(
            camera, color.reshape(shape + (3,)), depth.reshape(shape), incidence.reshape(shape)
        )

    def _shade(
        self, camera: Camera, T_world_cam: np.ndarray, pixels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return colour, patch, depth and incidence at pixels (n, 2), computed in batches that fit
        the CPU's cache.
        """
        parts = [
            self._shade_batch(camera, T_world_cam, pixels[i : i + _BATCH])
            for i in range(0, len(pixels), _BATCH)
        ]
        color, patch, depth, incidence = (np.concatenate(part) for part in zip(*parts))
        return color, patch, depth, incidence

    def _shade_batch(
        self, camera: Camera, T_world_cam: np.ndarray, pixels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        rays = np.ones(
            (len(pixels), 3), np.float32
        )  # with z = 1, distances along the ray are depths
        center = np.array([camera.cx, camera.cy], np.float32)
        rays[:, :2] = (pixels - center) / np.array([camera.fx, camera.fy], np.float32)
        directions = rays @ T_world_cam[:3, :3].T.astype(np.float32)
        hits = self.scene.cast(T_world_cam[:3, 3], directions)
        slope = np.abs(np.einsum("ij,ij->i", directions, hits.normal))
        depth = np.where(hits.patch >= 0, hits.distance, np.float32(1))
        # square metres covered by a pixel
        surface = depth**2 / (camera.fx * camera.fy * np.maximum(slope, 0.05))
        level = 0.5 * np.log2(np.maximum(surface * self._texels_per_metre2[hits.patch], 1e-9))
        color = self._textures.sample(hits.patch, hits.uv, level)
        steps = self._light_steps[hits.patch]
        color *= self._light.sample(hits.patch, (0.5 + hits.uv * (steps - 1)) / steps)
        missed = hits.patch < 0
        color[missed], depth[missed] = 0, 0
        return color, hits.patch, depth, slope / np.linalg.norm(rays, axis=-1)


def _edges(patch: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return the mask of pixels with a neighbour on another surface, or at a clearly different
    depth.
    """
    edges = np.zeros(patch.shape, bool)
    for a, b in (
        ((slice(1, None),), (slice(None, -1),)),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        differs = (patch[a] != patch[b]) | (np.abs(depth[a] - depth[b]) > 0.04 * depth[a])
        edges[a] |= differs
        edges[b] |= differs
    return edges
