"""Surfaces of a rendered scene: textured grids of points, and the shapes that furniture consists
of.

Lengths are metres; the world's z axis points up. A shape is a list of Patch in its own frame;
`place` moves it into a room.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

Vector = Sequence[float] | np.ndarray


@dataclass(frozen=True, eq=False)
class Patch:
    """points: (rows, columns, 3) grid; texture: (height, width, 3) uint8 sRGB stretched over it,
    with its top left corner at points[0, 0].

    The front is the side on which the texture is not mirrored. emission: brightness of luminous
    surfaces (0: lit by lamps).
    """

    points: np.ndarray
    texture: np.ndarray
    emission: float = 0.0

    @property
    def size(self) -> tuple[float, float]:
        """(width, height) in metres, measured along the middle of the grid."""
        rows, columns = self.points.shape[:2]
        across, down = self.points[rows // 2], self.points[:, columns // 2]
        width, height = (
            float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum()) for line in (across, down)
        )
        return width, height


def place(
    patches: Sequence[Patch], x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0
) -> list[Patch]:
    """Rotate by `yaw` degrees about z, then translate."""
    c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return [replace(patch, points=patch.points @ rotation.T + (x, y, z)) for patch in patches]


def arrange(*pieces: tuple[Sequence[Patch], *tuple[float, ...]]) -> list[Patch]:
    """Place pieces (patches, x, y[, z[, yaw]]) and return all patches in one list."""
    return [patch for patches, *where in pieces for patch in place(patches, *where)]


def quad(
    top_left: Vector, right: Vector, down: Vector, texture: np.ndarray, emission: float = 0.0
) -> Patch:
    """A parallelogram, by its top left corner and two edges."""
    top_left, right, down = (np.asarray(v, float) for v in (top_left, right, down))
    return Patch(
        np.array([[top_left, top_left + right], [top_left + down, top_left + right + down]]),
        texture,
        emission,
    )


def box(
    center: Vector, size: Vector, textures: np.ndarray | Mapping[str, np.ndarray], skip: str = ""
) -> list[Patch]:
    """An upright box; center: (x, y, z of the bottom), size: (x, y, z).

    textures: an image, or {face: image} with the faces n s e w (normals +y -y +x -x), t, b, and
    'side' for faces not named. skip: faces to omit because they are never visible.
    """
    (x, y, z), (sx, sy, sz) = center, size
    x0, x1, y0, y1, z1 = x - sx / 2, x + sx / 2, y - sy / 2, y + sy / 2, z + sz
    faces = {
        "s": ((x0, y0, z1), (sx, 0, 0), (0, 0, -sz)),
        "n": ((x1, y1, z1), (-sx, 0, 0), (0, 0, -sz)),
        "e": ((x1, y0, z1), (0, sy, 0), (0, 0, -sz)),
        "w": ((x0, y1, z1), (0, -sy, 0), (0, 0, -sz)),
        "t": ((x0, y1, z1), (sx, 0, 0), (0, -sy, 0)),
        "b": ((x0, y0, z), (sx, 0, 0), (0, sy, 0)),
    }
    images = textures if isinstance(textures, Mapping) else {"side": textures}
    return [
        quad(*edges, images[face] if face in images else images["side"])
        for face, edges in faces.items()
        if face not in skip
    ]


def tube(profile: Sequence[tuple[float, float]], texture: np.ndarray, segments: int = 12) -> Patch:
    """A solid of revolution around z; profile: (radius, z) from the top down. The texture wraps
    around once.
    """
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    outline = np.asarray(profile, float)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    points = np.empty((len(outline), segments + 1, 3))
    points[..., :2], points[..., 2] = outline[:, :1, None] * ring, outline[:, 1:]
    return Patch(points, texture)


def disc(
    z: float, radius: float, texture: np.ndarray, cells: int = 6, aspect: float = 1.0
) -> Patch:
    """A disc of `radius` at height z, facing up; `aspect` scales it along y."""
    a, b = np.meshgrid(np.linspace(-1, 1, cells + 1), np.linspace(1, -1, cells + 1))
    # map a square to the disc without a pole, to keep the texture uniform
    x, y = a * np.sqrt(1 - b**2 / 2), b * np.sqrt(1 - a**2 / 2)
    return Patch(np.stack([radius * x, radius * aspect * y, np.full_like(x, z)], axis=-1), texture)


def cushion(
    width: float, depth: float, height: float, texture: np.ndarray, cells: int = 8
) -> Patch:
    """The upper half of a pillow lying on z = 0, rounded towards the edges, `height` high in the
    middle.
    """
    a, b = np.meshgrid(np.linspace(-1, 1, cells + 1), np.linspace(1, -1, cells + 1))
    swell = ((1 - a**4) * (1 - b**4)) ** 0.5
    return Patch(np.stack([width / 2 * a, depth / 2 * b, height * swell], axis=-1), texture)


def curtain(width: float, height: float, folds: int, swing: float, texture: np.ndarray) -> Patch:
    """A hanging cloth in the xz plane, facing -y, its top left corner at the origin, with `folds`
    waves of amplitude `swing`.
    """
    t = np.linspace(0, 1, 6 * folds + 1)
    z = np.linspace(0, -height, 3)
    waves = swing * np.sin(2 * np.pi * folds * t)
    return Patch(np.stack(np.broadcast_arrays(t * width, waves, z[:, None]), axis=-1), texture)
