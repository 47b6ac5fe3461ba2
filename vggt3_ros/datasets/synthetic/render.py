"""RGB-D images of a patch scene, ray traced on the CPU: exact depth, filtered textures, light
baked beforehand.
"""

from dataclasses import dataclass

import numpy as np

from vggt3_ros.datasets.synthetic import lighting
from vggt3_ros.datasets.synthetic.atlas import Atlas
from vggt3_ros.datasets.synthetic.scene import Scene
from vggt3_ros.geometry.camera import Camera

# a rotated grid
_SUBPIXELS = np.array(
    [[-0.375, -0.125], [0.125, -0.375], [0.375, 0.125], [-0.125, 0.375]], np.float32
)
_BATCH = 40_960


@dataclass(frozen=True, eq=False)
class Frame:
    """What `camera` sees. color: (height, width, 3) float32 in 0..255 (sRGB, before sensor
    effects, not rounded).

    depth: (height, width) float32 metres along z, exact, 0 where nothing is. incidence: (height,
    width) float32 cosine between the ray and the surface's normal.
    """

    camera: Camera
    color: np.ndarray
    depth: np.ndarray
    incidence: np.ndarray


class Renderer:
    """Everything about a scene that does not depend on the camera; building it bakes the light
    (seconds for an apartment).

    patches: list of Patch; lamps: list of lighting.Lamp; seed: of the light's sampling; threads:
    CPU threads, 0 for all.
    """

    def __init__(self, patches, lamps, seed=0, threads=0):
        self.scene = Scene(patches, threads)
        baked = lighting.bake(self.scene, patches, lamps, np.random.default_rng(seed))
        self._textures = Atlas([patch.texture for patch in patches])
        # stored as a factor on sRGB values, so that rendering needs no power function
        self._light = Atlas([np.maximum(grid, 1e-4) ** (1 / 2.2) for grid in baked], levels=1)
        self._light_steps = np.array([grid.shape[1::-1] for grid in baked], np.float32)
        areas = np.array([max(np.prod(patch.size), 1e-9) for patch in patches])
        self._texels_per_metre2 = (self._textures.sizes.prod(axis=1) / areas).astype(np.float32)

    def render(self, camera, T_world_cam):
        """What an undistorted `camera` (geometry.Camera) sees at T_world_cam (4, 4). Returns
        Frame.
        """
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

    def _shade(self, camera, T_world_cam, pixels):
        """Color, patch, depth and incidence at pixels (n, 2); in batches that stay in the
        processor's cache.
        """
        parts = [
            self._shade_batch(camera, T_world_cam, pixels[i : i + _BATCH])
            for i in range(0, len(pixels), _BATCH)
        ]
        return [np.concatenate(part) for part in zip(*parts)]

    def _shade_batch(self, camera, T_world_cam, pixels):
        rays = np.ones((len(pixels), 3), np.float32)  # z = 1: distances along the ray are depths
        rays[:, :2] = (pixels - np.float32([camera.cx, camera.cy])) / np.float32(
            [camera.fx, camera.fy]
        )
        directions = rays @ T_world_cam[:3, :3].T.astype(np.float32)
        hits = self.scene.cast(T_world_cam[:3, 3], directions)
        slope = np.abs(np.einsum("ij,ij->i", directions, hits.normal))
        depth = np.where(hits.patch >= 0, hits.distance, np.float32(1))
        # square metres a pixel covers
        surface = depth**2 / (camera.fx * camera.fy * np.maximum(slope, 0.05))
        level = 0.5 * np.log2(np.maximum(surface * self._texels_per_metre2[hits.patch], 1e-9))
        color = self._textures.sample(hits.patch, hits.uv, level)
        steps = self._light_steps[hits.patch]
        color *= self._light.sample(hits.patch, (0.5 + hits.uv * (steps - 1)) / steps)
        missed = hits.patch < 0
        color[missed], depth[missed] = 0, 0
        return color, hits.patch, depth, slope / np.linalg.norm(rays, axis=-1)


def _edges(patch, depth):
    """Pixels whose neighbour shows another surface, or the same one at another depth."""
    edges = np.zeros(patch.shape, bool)
    for a, b in (
        ((slice(1, None),), (slice(None, -1),)),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        differs = (patch[a] != patch[b]) | (np.abs(depth[a] - depth[b]) > 0.04 * depth[a])
        edges[a] |= differs
        edges[b] |= differs
    return edges
