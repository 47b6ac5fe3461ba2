"""Building blocks of furniture: boxes covered with materials, and the resolution of their
textures.
"""

from collections.abc import Callable

import numpy as np

from vggt3_ros.datasets.synthetic import textures
from vggt3_ros.datasets.synthetic.patches import Patch, Vector, box
from vggt3_ros.datasets.synthetic.textures import Color, Size

Material = Callable[[Size], np.ndarray]
DENSITY = 280  # texels per metre; a camera of focal length 525 px resolves them at 1.9 m
OAK, WALNUT, PINE, WHITE = (168, 128, 84), (104, 70, 46), (206, 170, 122), (214, 211, 203)


def pixels(width: float, height: float, density: float = DENSITY) -> Size:
    """Return the (height, width) of the texture of a surface of this size in metres."""
    return max(int(height * density), 8), max(int(width * density), 8)


def clad(
    center: Vector,
    size: Vector,
    material: Material,
    skip: str = "b",
    density: float = DENSITY,
    **faces: np.ndarray,
) -> list[Patch]:
    """A box with material(size_px) on each face, or faces[name] if given."""
    shapes = {
        "n": (size[0], size[2]),
        "s": (size[0], size[2]),
        "e": (size[1], size[2]),
        "w": (size[1], size[2]),
        "t": (size[0], size[1]),
        "b": (size[0], size[1]),
    }
    images = {
        face: faces[face] if face in faces else material(pixels(*shape, density))
        for face, shape in shapes.items()
        if face not in skip
    }
    return box(center, size, images, skip)


def wooden(
    rng: np.random.Generator,
    center: Vector,
    size: Vector,
    color: Color,
    skip: str = "b",
    density: float = DENSITY,
    **faces: np.ndarray,
) -> list[Patch]:
    """A wooden box with the grain along the longer side of each face; WHITE is painted."""
    if color is WHITE:
        return clad(
            center, size, lambda s: textures.plain(rng, s, WHITE, 0.012), skip, density, **faces
        )
    return clad(
        center,
        size,
        lambda s: textures.wood(rng, s, color, along=1 if s[1] >= s[0] else 0),
        skip,
        density,
        **faces,
    )


def tilted(patch: Patch, degrees: float) -> list[Patch]:
    """Rotate about the x axis, so that what lies on z = 0 leans back (towards +y)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return [
        Patch(
            patch.points @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T,
            patch.texture,
            patch.emission,
        )
    ]
