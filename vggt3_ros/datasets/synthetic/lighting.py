"""Static light: lamps, windows and the light reflected by walls, computed once for every surface."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vggt3_ros.datasets.synthetic.patches import Patch
from vggt3_ros.datasets.synthetic.scene import Scene

SPACING = 0.1  # metres between the points at which light is computed
_LAMP_POINTS = 3  # along each side of a lamp: 9 shadow rays per lamp and point
_RAYS = (24, 48)  # rays into the half space, for each bounce; the last one is visible
# metres; points whose rays are this short on average lie inside or behind something
_HIDDEN = 0.045
_LIFT = 0.004  # metres above the surface, to avoid self-shadowing


@dataclass(frozen=True, eq=False)
class Lamp:
    """A luminous rectangle: corner and edges right, down (3,) in metres; it shines along `normal`.

    color: radiance (3,). reach: range in metres. It limits the lamps that are considered for each
    point in a house of many rooms.
    """

    corner: np.ndarray
    right: np.ndarray
    down: np.ndarray
    normal: np.ndarray
    color: np.ndarray
    reach: float = np.inf


def bake(
    scene: Scene, patches: Sequence[Patch], lamps: Sequence[Lamp], rng: np.random.Generator
) -> list[np.ndarray]:
    """Compute the light on every patch, as (rows, columns, 3) float32 grids whose outer texels lie
    on the patch's edges.

    Direct light with soft shadows, then two bounces of indirect light. Points inside or behind
    furniture are never visible and take the light of their neighbours; otherwise dark spots would
    show at the edges of the furniture.
    """
    shapes = [(_samples(patch.size[1]), _samples(patch.size[0])) for patch in patches]
    points, normals = (
        np.concatenate(parts)
        for parts in zip(*(_grid(p.points, s) for p, s in zip(patches, shapes)))
    )
    owner = np.repeat(np.arange(len(patches)), [a * b for a, b in shapes])
    starts = np.cumsum([0] + [a * b for a, b in shapes])
    albedo = np.stack(
        [(p.texture.reshape(-1, 3)[::37].mean(axis=0) / 255) ** 2.2 for p in patches]
    ).astype(np.float32)
    glow = np.array([p.emission for p in patches], np.float32)
    facing = points + _LIFT * normals

    direct = np.zeros((len(points), 3), np.float32)
    for lamp in lamps:
        direct += _from_lamp(scene, facing, normals, lamp, rng)

    light: np.ndarray = direct
    rotation = rng.random(len(points)).astype(np.float32)
    rows, columns = np.array(shapes).T
    for rays in _RAYS:
        gathered, room = np.zeros_like(direct), np.zeros(len(points), np.float32)
        for k in range(rays):
            hits = scene.cast(facing, _cosine_direction(normals, k, rays, rotation))
            column = np.round(hits.uv[:, 0] * (columns[hits.patch] - 1)).astype(np.int64)
            row = np.round(hits.uv[:, 1] * (rows[hits.patch] - 1)).astype(np.int64)
            seen = (
                light[starts[:-1][hits.patch] + row * columns[hits.patch] + column]
                * albedo[hits.patch]
            )
            gathered += np.where(hits.patch[:, None] >= 0, seen, 0)
            room += np.minimum(hits.distance, 1.0)
        light = direct + gathered / rays
    hidden = room / rays < _HIDDEN
    light = np.where(glow[owner, None] > 0, glow[owner, None], light).astype(np.float32)
    return [
        _fill(light[a:b].reshape(shape + (3,)), hidden[a:b].reshape(shape))
        for a, b, shape in zip(starts[:-1], starts[1:], shapes)
    ]


def _samples(side: float) -> int:
    return int(np.clip(round(side / SPACING) + 1, 2, 64))


def _fill(light: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Replace hidden points by the mean of visible neighbours, ring by ring."""
    if hidden.all() or not hidden.any():
        return light
    light, known = light.copy(), ~hidden
    while not known.all():
        weight = cv2.boxFilter(
            known.astype(np.float32), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT
        )
        total = cv2.boxFilter(
            light * known[..., None], -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT
        )
        ring = ~known & (weight > 0.5)
        light[ring] = total[ring] / weight[ring][:, None]
        known |= ring
    return light


def _grid(points: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return points and normals (n, 3) at a grid of (rows, columns) places on a patch, slightly
    inside its edges.
    """
    rows, columns = points.shape[:2]
    v, u = (
        np.clip(np.linspace(0, 1, n), 0.04, 0.96) * (size - 1)
        for n, size in zip(shape, (rows, columns))
    )
    v0, u0 = (np.minimum(x.astype(int), size - 2) for x, size in ((v, rows), (u, columns)))
    dv, du = (v - v0)[:, None, None], (u - u0)[None, :, None]
    a, b, c, d = (points[np.ix_(v0 + i, u0 + j)] for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
    places = (a * (1 - du) + b * du) * (1 - dv) + (c * (1 - du) + d * du) * dv
    normal = np.cross((c - a) * (1 - du) + (d - b) * du, (b - a) * (1 - dv) + (d - c) * dv)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    return places.reshape(-1, 3).astype(np.float32), normal.reshape(-1, 3).astype(np.float32)


def _from_lamp(
    scene: Scene, points: np.ndarray, normals: np.ndarray, lamp: Lamp, rng: np.random.Generator
) -> np.ndarray:
    """Return the direct light (n, 3) of a lamp at points (n, 3)."""
    light = np.zeros((len(points), 3), np.float32)
    corner, right, down, facing = (
        v.astype(np.float32) for v in (lamp.corner, lamp.right, lamp.down, lamp.normal)
    )
    area = np.linalg.norm(np.cross(lamp.right, lamp.down)) / _LAMP_POINTS**2
    for i in range(_LAMP_POINTS):
        for j in range(_LAMP_POINTS):
            jitter = rng.random((2, len(points), 1), np.float32)
            target = (
                corner
                + (i + jitter[0]) / _LAMP_POINTS * right
                + (j + jitter[1]) / _LAMP_POINTS * down
            )
            way = target - points
            square = (way**2).sum(axis=-1)
            cosines = (
                np.maximum((way * normals).sum(-1), 0)
                * np.maximum(-(way * facing).sum(-1), 0)
                / square
            )
            reached = np.flatnonzero((cosines > 0) & (square < lamp.reach**2))
            reached = reached[~scene.blocked(points[reached], target[reached])]
            light[reached] += (
                area * cosines[reached] / np.maximum(square[reached], 0.02) / np.pi
            )[:, None] * lamp.color
    return light


def _cosine_direction(normals: np.ndarray, k: int, rays: int, rotation: np.ndarray) -> np.ndarray:
    """Return the k-th of `rays` cosine-weighted directions of the half spaces, rotated by
    `rotation` (n,) turns.
    """
    radius = np.sqrt((k + 0.5) / rays)
    angle = 2 * np.pi * (k * 0.618034 + rotation)
    side = np.where(
        np.abs(normals[:, 2:]) < 0.9,
        np.array([[0, 0, 1]], np.float32),
        np.array([[1, 0, 0]], np.float32),
    )
    tangent = np.cross(side, normals)
    tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True)
    other = np.cross(normals, tangent)
    across = np.cos(angle)[:, None] * tangent + np.sin(angle)[:, None] * other
    return np.asarray(radius * across + np.sqrt(1 - radius**2) * normals)
