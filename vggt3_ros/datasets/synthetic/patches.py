"""Surfaces of a rendered scene: textured grids of points, and the shapes furniture is built of.

Lengths are metres; the world's z axis points up. A shape is a list of Patch in its own frame;
`place` moves it into a room.
"""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Patch:
    """points: (rows, columns, 3) grid; texture: (height, width, 3) uint8 sRGB stretched over it,
    its top left at points[0, 0].

    The front is where the texture is not mirrored. emission: brightness of surfaces that shine by
    themselves (0: lit by lamps).
    """

    points: np.ndarray
    texture: np.ndarray
    emission: float = 0.0

    @property
    def size(self):
        """(width, height) in metres, measured along the middle of the grid."""
        rows, columns = self.points.shape[:2]
        across, down = self.points[rows // 2], self.points[:, columns // 2]
        return tuple(
            float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum()) for line in (across, down)
        )


def place(patches, x=0.0, y=0.0, z=0.0, yaw=0.0):
    """Turn by `yaw` degrees about z, then shift."""
    c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return [replace(patch, points=patch.points @ rotation.T + (x, y, z)) for patch in patches]


def arrange(*pieces):
    """Pieces (patches, x, y[, z[, yaw]]), each put in its place, as one list."""
    return [patch for patches, *where in pieces for patch in place(patches, *where)]


def quad(top_left, right, down, texture, emission=0.0):
    """A parallelogram from its top left corner and the two edges."""
    top_left, right, down = (np.asarray(v, float) for v in (top_left, right, down))
    return Patch(
        np.array([[top_left, top_left + right], [top_left + down, top_left + right + down]]),
        texture,
        emission,
    )


def box(center, size, textures, skip=""):
    """An upright box; center (x, y, z of the bottom), size (x, y, z).

    textures: image, or dict of face -> image with faces n s e w (normals +y -y +x -x), t, b, and
    'side' for those not named. skip: faces left out because nothing ever sees them.
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
    if not isinstance(textures, dict):
        textures = {"side": textures}
    return [
        quad(*faces[face], textures.get(face, textures["side"]))
        for face in faces
        if face not in skip
    ]


def tube(profile, texture, segments=12):
    """A turned shape around z: profile is a list of (radius, z) from the top down; the texture
    goes round once.
    """
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    profile = np.asarray(profile, float)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    points = np.empty((len(profile), segments + 1, 3))
    points[..., :2], points[..., 2] = profile[:, :1, None] * ring, profile[:, 1:]
    return Patch(points, texture)


def disc(z, radius, texture, cells=6, aspect=1.0):
    """A round top of `radius` at height z, facing up; `aspect` stretches it along y."""
    a, b = np.meshgrid(np.linspace(-1, 1, cells + 1), np.linspace(1, -1, cells + 1))
    # square to disc without a pole, so that textures stay even
    x, y = a * np.sqrt(1 - b**2 / 2), b * np.sqrt(1 - a**2 / 2)
    return Patch(np.stack([radius * x, radius * aspect * y, np.full_like(x, z)], axis=-1), texture)


def cushion(width, depth, height, texture, cells=8):
    """A pillow lying on z = 0: its upper half, rounded towards the edges, reaching `height` in the
    middle.
    """
    a, b = np.meshgrid(np.linspace(-1, 1, cells + 1), np.linspace(1, -1, cells + 1))
    swell = ((1 - a**4) * (1 - b**4)) ** 0.5
    return Patch(np.stack([width / 2 * a, depth / 2 * b, height * swell], axis=-1), texture)


def curtain(width, height, folds, swing, texture):
    """A hanging cloth in the xz plane, facing -y, its top left at the origin; `folds` waves of
    amplitude `swing`.
    """
    t = np.linspace(0, 1, 6 * folds + 1)
    z = np.linspace(0, -height, 3)
    waves = swing * np.sin(2 * np.pi * folds * t)
    return Patch(np.stack(np.broadcast_arrays(t * width, waves, z[:, None]), axis=-1), texture)
