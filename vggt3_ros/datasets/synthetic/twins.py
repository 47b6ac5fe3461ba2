"""Two visually identical rooms and the corridor between them: the plan of apartment.twin_rooms."""

import numpy as np

from vggt3_ros.datasets.synthetic import furniture as f
from vggt3_ros.datasets.synthetic import household as h
from vggt3_ros.datasets.synthetic.carpentry import OAK, PINE, WALNUT
from vggt3_ros.datasets.synthetic.flat import EAST, SOUTH, WEST, bricks, floor_tiles, planks
from vggt3_ros.datasets.synthetic.lighting import Lamp
from vggt3_ros.datasets.synthetic.patches import Patch, arrange, place
from vggt3_ros.datasets.synthetic.rooms import Door, Room, Window, build
from vggt3_ros.datasets.synthetic.textures import Size

APART = 4.4  # metres along x from anything in the first room to its copy

_ROOM = ((0, 0), (0, 3.2), (3.6, 3.2), (3.6, 0))
_CORRIDOR = ((0, 3.32), (0, 4.7), (8.0, 4.7), (8.0, 3.32))

# x, y, yaw in degrees; in the first room, from its door and back
_INSIDE = (
    (1.8, 2.75, -90),
    (1.85, 2.1, -50),
    (1.85, 1.8, -5),
    (1.75, 1.6, -80),
    (1.65, 1.7, -150),
    (1.7, 1.9, -220),
    (1.8, 2.8, -270),
)
_THERE = (
    (1.8, 3.8, 80),
    (2.3, 4.0, 30),
    (3.4, 4.0, 0),
    (4.6, 4.0, -5),
    (5.7, 4.0, -20),
    (6.15, 3.75, -75),
)
_BACK = (
    (6.2, 3.8, 100),
    (5.7, 4.0, 150),
    (4.6, 4.0, 175),
    (3.4, 4.0, 180),
    (2.3, 4.0, 195),
    (1.85, 3.75, 255),
)


def tour(come_back: bool) -> tuple[tuple[float, float, float], ...]:
    """Return way points through the first room, the corridor and the second room; with come_back,
    then back to the first.
    """
    second = tuple((x + APART, y, yaw) for x, y, yaw in _INSIDE)
    return _INSIDE + _THERE + second + (_BACK + _INSIDE if come_back else ())


def twins(seed: int = 0) -> tuple[list[Patch], list[Lamp]]:
    """Return the patches and lamps: the first room at the origin, 3.6 x 3.2 m, its copy APART
    along x, and a corridor north of both.
    """
    rng = np.random.default_rng([seed, 8])

    def floor(rng: np.random.Generator, size: Size) -> np.ndarray:
        return planks(rng, size, (160, 116, 78))

    room = Room(_ROOM, (204, 208, 196), floor, ((1.8, 1.6),), accents=((2, (150, 116, 100)),))
    patches, lamps = build(
        rng, (room,), (Door(1.8, 3.26, None),), (Window(1.8, 0, 1.4, curtain=(96, 120, 112)),)
    )
    patches += _furniture(rng)
    shift = np.array([APART, 0, 0])
    patches += place(patches, APART)
    lamps += [
        Lamp(lamp.corner + shift, lamp.right, lamp.down, lamp.normal, lamp.color) for lamp in lamps
    ]

    corridor = Room(
        _CORRIDOR,
        (214, 206, 190),
        floor_tiles,
        ((2.2, 4.0), (5.8, 4.0)),
        (1.0, 0.96, 0.9),
        45.0,
        ((1, bricks),),
    )
    # the plans of the rooms include the frames
    openings = tuple(Door(1.8 + dx, 3.26, None, frame=False) for dx in (0, APART))
    more, lights = build(rng, (corridor,), openings)
    return patches + more + _corridor(rng), lamps + lights


def _furniture(rng: np.random.Generator) -> list[Patch]:
    return arrange(
        (h.carpet(rng, 1.9, 1.3, "retina.jpg"), 1.85, 1.65),
        (f.sofa(rng, 1.8), 0.02, 1.5, 0, WEST),
        (h.picture(rng, 0.9, 0.65, "coffee.png"), 0, 1.5, 1.55, WEST),
        (f.shelf(rng, 1.0, 1.9), 0.6, 3.2),
        (h.picture(rng, 0.45, 0.6, "astronaut.png"), 3.0, 3.2, 1.55),
        (f.cabinet(rng, 1.2, 0.85, 0.4, (2, 3), PINE), 3.6, 1.6, 0, EAST),
        (h.things_on(rng, 1.1, 0.36, 5), 3.4, 1.6, 0.85, EAST),
        (h.picture(rng, 0.7, 0.5, "motorcycle_left.png"), 3.6, 1.6, 1.6, EAST),
        (h.poster(rng, 0.4, 0.55), 3.6, 0.6, 1.6, EAST),
        (f.desk(rng, 1.3), 1.9, 0.02, 0, SOUTH),
        (h.plant(rng), 3.25, 0.35),
        (h.floor_lamp(rng), 0.35, 0.35),
    )


def _corridor(rng: np.random.Generator) -> list[Patch]:
    return arrange(
        *(
            (h.picture(rng, 0.6, 0.5, source), 0.9 + 1.55 * i, 4.7, 1.55)
            for i, source in enumerate(
                ("rocket.jpg", "hubble_deep_field.jpg", "chelsea.png", "coins.png", "ihc.png")
            )
        ),
        (h.coats(rng, 5), 3.35, 3.32, 1.8, SOUTH),
        (f.shelf(rng, 0.9, 1.1, 0.24, 3, WALNUT), 4.6, 3.32, 0, SOUTH),
        (h.picture(rng, 0.5, 0.6, "moon.png"), 0, 4.0, 1.5, WEST),
        (h.picture(rng, 0.5, 0.6, "logo.png"), 8.0, 4.0, 1.5, EAST),
        (f.cabinet(rng, 0.8, 0.8, 0.3, (2, 1), OAK), 8.0, 4.0, 0, EAST),
        (h.things_on(rng, 0.7, 0.3, 3), 7.85, 4.0, 0.8, EAST),
    )
