"""Two rooms that cannot be told apart by looking at them, and the corridor between: the plan of apartment.twin_rooms."""

import numpy as np

from vggt3_ros.datasets import furniture as f
from vggt3_ros.datasets import textures
from vggt3_ros.datasets.flat import EAST, NORTH, SOUTH, WEST, bricks, floor_tiles, planks
from vggt3_ros.datasets.lighting import Lamp
from vggt3_ros.datasets.patches import place, quad
from vggt3_ros.datasets.rooms import Door, Room, Window, build

APART = 4.4  # metres from each thing in the first room to its twin, along x

_ROOM = ((0, 0), (0, 3.2), (3.6, 3.2), (3.6, 0))
_CORRIDOR = ((0, 3.32), (0, 4.7), (8.0, 4.7), (8.0, 3.32))

# in the first room, from its door and back to it
_INSIDE = ((1.8, 2.75, -90), (1.85, 2.1, -50), (1.85, 1.8, -5), (1.75, 1.6, -80), (1.65, 1.7, -150), (1.7, 1.9, -220), (1.8, 2.8, -270))
_THERE = ((1.8, 3.8, 80), (2.3, 4.0, 30), (3.4, 4.0, 0), (4.6, 4.0, -5), (5.7, 4.0, -20), (6.15, 3.75, -75))
_BACK = ((6.2, 3.8, 100), (5.7, 4.0, 150), (4.6, 4.0, 175), (3.4, 4.0, 180), (2.3, 4.0, 195), (1.85, 3.75, 255))


def tour(come_back):
    """Way points through the first room, the corridor and the second room; with come_back, through the corridor to the first."""
    second = tuple((x + APART, y, yaw) for x, y, yaw in _INSIDE)
    return _INSIDE + _THERE + second + (_BACK + _INSIDE if come_back else ())


def twins(seed=0):
    """Patches and Lamps: the first room at the origin, 3.6 x 3.2 m, its copy APART along x, a corridor north of both."""
    rng = np.random.default_rng([seed, 8])
    room = Room(_ROOM, (204, 208, 196), lambda r, s: planks(r, s, (160, 116, 78)), ((1.8, 1.6),), accents=((2, (150, 116, 100)),))
    patches, lamps = build(rng, (room,), (Door(1.8, 3.26, None),), (Window(1.8, 0, 1.4, curtain=(96, 120, 112)),))
    patches += _furniture(rng)
    shift = np.array([APART, 0, 0])
    patches += place(patches, APART)
    lamps += [Lamp(lamp.corner + shift, lamp.right, lamp.down, lamp.normal, lamp.color) for lamp in lamps]

    corridor = Room(_CORRIDOR, (214, 206, 190), floor_tiles, ((2.2, 4.0), (5.8, 4.0)), (1.0, 0.96, 0.9), 45.0, ((1, bricks),))
    openings = tuple(Door(1.8 + dx, 3.26, None, frame=False) for dx in (0, APART))  # the rooms brought the frames
    more, lights = build(rng, (corridor,), openings)
    return patches + more + _corridor(rng), lamps + lights


def _furniture(rng):
    parts = place(f.sofa(rng, 1.8), 0.02, 1.5, 0, WEST) + place(f.picture(rng, 0.9, 0.65, "coffee.png"), 0, 1.5, 1.55, WEST)
    parts += place(f.shelf(rng, 1.0, 1.9), 0.6, 3.2, 0, NORTH) + place(f.picture(rng, 0.45, 0.6, "astronaut.png"), 3.0, 3.2, 1.55, NORTH)
    parts += place(f.cabinet(rng, 1.2, 0.85, 0.4, (2, 3), f.PINE) + place(f.things_on(rng, 1.1, 0.36, 5), 0, -0.2, 0.85), 3.6, 1.6, 0, EAST)
    parts += place(f.picture(rng, 0.7, 0.5, "motorcycle_left.png"), 3.6, 1.6, 1.6, EAST) + place(f.poster(rng, 0.4, 0.55), 3.6, 0.6, 1.6, EAST)
    parts += place(f.desk(rng, 1.3), 1.9, 0.02, 0, SOUTH) + place(f.plant(rng), 3.25, 0.35) + place(f.floor_lamp(rng), 0.35, 0.35)
    return parts + [quad((0.9, 2.3, 0.012), (1.9, 0, 0), (0, -1.3, 0), textures.rug(rng, f.pixels(1.9, 1.3), "retina.jpg"))]


def _corridor(rng):
    parts = []
    for x, source in ((0.9, "rocket.jpg"), (2.6, "hubble_deep_field.jpg"), (4.1, "chelsea.png"), (5.6, "coins.png"), (7.1, "ihc.png")):
        parts += place(f.picture(rng, 0.6, 0.5, source), x, 4.7, 1.55, NORTH)
    parts += place(f.coats(rng, 5), 3.35, 3.32, 1.8, SOUTH) + place(f.shelf(rng, 0.9, 1.1, 0.24, 3, f.WALNUT), 4.6, 3.32, 0, SOUTH)
    parts += place(f.picture(rng, 0.5, 0.6, "moon.png"), 0, 4.0, 1.5, WEST) + place(f.picture(rng, 0.5, 0.6, "logo.png"), 8.0, 4.0, 1.5, EAST)
    return parts + place(f.cabinet(rng, 0.8, 0.8, 0.3, (2, 1), f.OAK) + place(f.things_on(rng, 0.7, 0.3, 3), 0, -0.15, 0.8), 8.0, 4.0, 0, EAST)
