"""What furniture is made with: boxes clad in materials, and the density of their textures."""

import numpy as np

from vggt3_ros.datasets.synthetic import textures
from vggt3_ros.datasets.synthetic.patches import Patch, box

DENSITY = 280  # texels a metre: a camera of focal length 525 px resolves that at 1.9 m
OAK, WALNUT, PINE, WHITE = (168, 128, 84), (104, 70, 46), (206, 170, 122), (214, 211, 203)


def pixels(width, height, density=DENSITY):
    """(height, width) of a texture for a surface of this size in metres."""
    return max(int(height * density), 8), max(int(width * density), 8)


def clad(center, size, material, skip="b", density=DENSITY, **faces):
    """A box with material(size_px) on each face, or faces[name] where given."""
    shapes = {
        "n": (size[0], size[2]),
        "s": (size[0], size[2]),
        "e": (size[1], size[2]),
        "w": (size[1], size[2]),
        "t": (size[0], size[1]),
        "b": (size[0], size[1]),
    }
    images = {
        face: faces.get(face) if face in faces else material(pixels(*shape, density))
        for face, shape in shapes.items()
        if face not in skip
    }
    return box(center, size, images | {"side": None}, skip)


def wooden(rng, center, size, color, skip="b", density=DENSITY, **faces):
    """A wooden box, the grain along the longer side of each face; WHITE wood is painted."""
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


def tilted(patch, degrees):
    """Turn about the x axis so that what lay on z = 0 leans back (towards +y)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return [
        Patch(
            patch.points @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T,
            patch.texture,
            patch.emission,
        )
    ]
