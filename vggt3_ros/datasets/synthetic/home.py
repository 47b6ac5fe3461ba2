"""Homes with any number of rooms, each furnished differently: the plan of home_tours, for maps
that grow.

Rooms of equal size lie in a grid and are connected by doors in boustrophedon order.
"""

import math
from collections.abc import Sequence

import numpy as np

from vggt3_ros.datasets.synthetic import furniture as f
from vggt3_ros.datasets.synthetic import household as h
from vggt3_ros.datasets.synthetic import textures
from vggt3_ros.datasets.synthetic.carpentry import OAK, PINE, WALNUT, WHITE
from vggt3_ros.datasets.synthetic.flat import (
    EAST,
    NORTH,
    SOUTH,
    WEST,
    bricks,
    floor_tiles,
    planks,
    wallpaper,
)
from vggt3_ros.datasets.synthetic.lighting import Lamp
from vggt3_ros.datasets.synthetic.patches import Patch, arrange
from vggt3_ros.datasets.synthetic.rooms import WALL, Door, Room, Window, build
from vggt3_ros.datasets.synthetic.textures import Color, Painter

Piece = tuple[Sequence[Patch], *tuple[float, ...]]  # see patches.arrange
COLUMNS = 4
WIDTH, DEPTH = 4.4, 3.8  # of a room's floor, metres
REACH = 7.0  # range of the lamps in metres; little light passes through the doors
# metres kept free at the ends of walls, and on either side of the centre of a door
_CORNER, _DOORWAY = 0.75, 0.8


def cell(room: int) -> tuple[int, int]:
    """Return the (column, row) of a room number."""
    row, column = divmod(room, COLUMNS)
    return (column if row % 2 == 0 else COLUMNS - 1 - column), row


def corner(room: int) -> tuple[float, float]:
    """Return x, y of the south-west corner of a room's floor."""
    column, row = cell(room)
    return column * (WIDTH + WALL), row * (DEPTH + WALL)


def doorway(room: int) -> tuple[float, float]:
    """Return x, y of the centre of the door between `room` and the next."""
    (x, y), (column, row), (after, above) = corner(room), cell(room), cell(room + 1)
    if above > row:
        return x + WIDTH / 2, y + DEPTH + WALL / 2
    return (x + WIDTH + WALL / 2 if after > column else x - WALL / 2), y + DEPTH / 2


def home(rooms: int, seed: int = 0) -> tuple[list[Patch], list[Lamp]]:
    """Return the patches and lamps of a furnished home."""
    patches: list[Patch] = []
    lamps: list[Lamp] = []
    for room in range(rooms):
        rng = np.random.default_rng([seed, 9, room])
        doors = [
            Door(*doorway(k), None, frame=k == room)
            for k in (room - 1, room)
            if 0 <= k < rooms - 1
        ]
        shell, light = build(rng, (_shell(rng, room),), doors, _windows(rng, room, rooms), REACH)
        patches += shell + _furniture(rng, room, doors)
        lamps += light
    return patches, lamps


def tour(rooms: int, rounds: int = 1) -> tuple[tuple[float, float, float], ...]:
    """Return way points (x, y, yaw in degrees) through all rooms, with `rounds` circles of
    different radius in each.
    """
    points: list[tuple[float, float, float]] = []
    for room in range(rooms):
        x, y = corner(room)
        middle = np.array([x + WIDTH / 2, y + DEPTH / 2])
        inward = middle - doorway(room - 1) if room else np.array([1.0, 0.0])
        begin = math.degrees(math.atan2(inward[1], inward[0]))
        if room:
            points.append((*doorway(room - 1), begin))
        for turn in range(rounds):
            radius = 0.35 + 0.45 * (turn + 1) / (rounds + 1)
            for k in range(9):
                yaw = begin + 40 * k + 8 * turn
                # The camera looks alternately across the circle and out of it, so that walls
                # are seen from near and far.
                away = math.radians(yaw + (180 if (k + turn) % 2 else 35))
                points.append(
                    (middle[0] + radius * math.cos(away), middle[1] + radius * math.sin(away), yaw)
                )
        if room + 1 < rooms:
            outward = np.array(doorway(room)) - middle
            x, y = middle + 0.55 * outward
            points.append((x, y, math.degrees(math.atan2(outward[1], outward[0]))))
    return tuple(points)


def _shell(rng: np.random.Generator, room: int) -> Room:
    x, y = corner(room)
    corners = ((x, y), (x, y + DEPTH), (x + WIDTH, y + DEPTH), (x + WIDTH, y))
    floors: tuple[Painter, ...] = (
        lambda r, s: planks(r, s, (172, 124, 80)),
        floor_tiles,
        lambda r, s: planks(r, s, (120, 84, 56), along=0),
        lambda r, s: textures.fabric(r, s, (138, 128, 116), 0.1),
    )
    tint = tuple(int(v) for v in textures.muted(rng, (0.5, 0.8), (0.1, 0.4)))
    accents: tuple[Painter | Color, ...] = (bricks, wallpaper, tint)
    accent = accents[rng.integers(3)]
    wall = tuple(int(v) for v in 200 + rng.integers(0, 24, 3))
    middle = ((x + WIDTH / 2, y + DEPTH / 2),)
    floor = floors[rng.integers(len(floors))]
    red, green, blue = rng.uniform(0.8, 1.05, 3)
    return Room(
        corners,
        wall,
        floor,
        middle,
        (red, green, blue),
        accents=((int(rng.integers(4)), accent),),
    )


def _windows(rng: np.random.Generator, room: int, rooms: int) -> tuple[Window, ...]:
    """A window on the south side of the lowest row, which is free of neighbours; other rooms have
    only lamps.
    """
    (x, y), (_, row) = corner(room), cell(room)
    red, green, blue = (int(v) for v in textures.muted(rng, (0.35, 0.6), (0.1, 0.4)))
    window = Window(x + WIDTH / 2, y, 1.4, curtain=(red, green, blue))
    return (window,) if row == 0 else ()


def _furniture(rng: np.random.Generator, room: int, doors: Sequence[Door]) -> list[Patch]:
    x, y = corner(room)
    pieces: list[Piece] = [
        (
            h.carpet(rng, rng.uniform(1.6, 2.3), rng.uniform(1.2, 1.7)),
            x + WIDTH / 2,
            y + DEPTH / 2,
            0,
            rng.uniform(-15, 15),
        )
    ]
    walls = (
        (NORTH, (x, y + DEPTH), (1, 0), WIDTH),
        (SOUTH, (x, y), (1, 0), WIDTH),
        (EAST, (x + WIDTH, y), (0, 1), DEPTH),
        (WEST, (x, y), (0, 1), DEPTH),
    )
    for yaw, start, direction, length in walls:
        origin, along = np.array(start), np.array(direction)
        taken = [
            float((np.array((door.x, door.y)) - origin) @ along)
            for door in doors
            if abs(
                np.cross(np.append(along, 0), np.append(np.array((door.x, door.y)) - origin, 0))[2]
            )
            < 2 * WALL
        ]
        window = _CORNER * (yaw == SOUTH and cell(room)[1] == 0)
        for left, right in _free(length, taken):
            pieces += _along(rng, origin, along, yaw, left, right, bool(window))
    return arrange(*pieces)


def _free(length: float, doorways: Sequence[float]) -> list[tuple[float, float]]:
    """Return the stretches (from, to) of a wall that are free for furniture."""
    stops = [
        _CORNER,
        *(v for at in sorted(doorways) for v in (at - _DOORWAY, at + _DOORWAY)),
        length - _CORNER,
    ]
    return [(a, b) for a, b in zip(stops[::2], stops[1::2]) if b - a > 0.45]


def _along(
    rng: np.random.Generator,
    origin: np.ndarray,
    along: np.ndarray,
    yaw: int,
    left: float,
    right: float,
    low: bool,
) -> list[Piece]:
    """Place pieces side by side from `left` to `right` along a wall. low: none may reach up to a
    window.
    """
    pieces: list[Piece] = []
    while right - left > 0.45:
        width, depth, top, make = _piece(rng, right - left, low)
        at = origin + along * (left + width / 2)
        pieces.append((make, *at, 0, yaw))
        front = {NORTH: (0, -1), SOUTH: (0, 1), EAST: (-1, 0), WEST: (1, 0)}[yaw]
        if top and top < 1.3:
            pieces.append(
                (
                    h.things_on(rng, 0.9 * width, 0.8 * depth, int(rng.integers(2, 5))),
                    *(at + np.array(front) * depth / 2),
                    top,
                    yaw,
                )
            )
        if not low and (not top or top < 1.2):
            size = rng.uniform(0.35, min(0.95, width)), rng.uniform(0.3, 0.65)
            hung = (
                h.picture(rng, *size)
                if rng.random() < 0.65
                else h.poster(rng, size[0] * 0.7, size[1] * 1.1)
            )
            pieces.append((hung, *at, rng.uniform(1.5, 1.7), yaw))
        left += width + rng.uniform(0.05, 0.35)
    return pieces


def _piece(
    rng: np.random.Generator, room: float, low: bool
) -> tuple[float, float, float, list[Patch]]:
    """Return (width, depth, height of its top or 0, patches) of a piece at most `room` metres
    wide.
    """
    wood = (OAK, WALNUT, PINE, WHITE)[rng.integers(4)]
    if room < 0.75:
        return (
            (0.5, 0.4, 0, h.plant(rng, rng.uniform(0.8, 1.2)))
            if rng.random() < 0.4
            else (0.55, 0.4, 0.8, f.cabinet(rng, 0.5, 0.8, 0.38, (1, 2), wood))
        )
    width = min(room, rng.uniform(0.9, 1.5))
    kind = rng.integers(2, 5) if low else rng.integers(5)
    if kind == 0:
        return (
            width,
            0.3,
            1.95,
            f.shelf(rng, width, rng.uniform(1.6, 2.0), rows=int(rng.integers(4, 7)), color=wood),
        )
    if kind == 1:
        height = rng.uniform(1.0, 1.25)
        return width, 0.3, height, f.shelf(rng, width, height, rows=3, color=wood)
    if kind == 2:
        return (
            width,
            0.42,
            0.82,
            f.cabinet(
                rng, width, 0.82, 0.42, (int(rng.integers(1, 4)), int(rng.integers(1, 4))), wood
            ),
        )
    if kind == 3 and room >= 1.3:
        return 1.3, 0.7, 0, f.desk(rng, 1.3)
    if room >= 1.3:
        width = min(room, rng.uniform(1.3, 1.9))
        return width, 0.95, 0, f.sofa(rng, width)
    return width, 0.4, 0.5, f.cabinet(rng, width, 0.5, 0.4, (2, 1), wood)
