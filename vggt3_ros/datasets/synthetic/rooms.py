"""The shell of a flat from a plan in metres: floors, ceilings, walls with openings, doors, windows
and lamps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vggt3_ros.datasets.synthetic import prints, textures
from vggt3_ros.datasets.synthetic.carpentry import OAK, WHITE, clad, pixels, wooden
from vggt3_ros.datasets.synthetic.household import drapes
from vggt3_ros.datasets.synthetic.lighting import Lamp
from vggt3_ros.datasets.synthetic.patches import Patch, disc, place, quad
from vggt3_ros.datasets.synthetic.textures import Color, Painter, Size

HEIGHT = 2.5  # of the rooms
WALL = 0.12  # thickness
Point = tuple[float, float]
DOOR_WIDTH, DOOR_HEIGHT = 0.9, 2.05


@dataclass(frozen=True)
class Door:
    """A doorway in an inner wall. x, y: its centre; leaf: opening angle of the door in degrees,
    None for no door.

    frame: False makes only the opening, if another plan adds the frame.
    """

    x: float
    y: float
    leaf: float | None = 100.0
    frame: bool = True


@dataclass(frozen=True)
class Window:
    """A window in an outer wall. x, y: its centre on the wall's inner face; curtain: sRGB colour,
    None for none.
    """

    x: float
    y: float
    width: float = 1.4
    bottom: float = 0.95
    top: float = 2.15
    curtain: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Room:
    """corners: (x, y) of the inner faces, clockwise seen from above. wall, floor: painter(rng,
    size_px) -> image, or a colour. lamps: places (x, y); lamp_color: linear RGB; accents: (wall
    number, painter or colour) of walls that differ.
    """

    corners: tuple[Point, ...]
    wall: Painter | Color
    floor: Painter | Color
    lamps: tuple[Point, ...]
    lamp_color: tuple[float, float, float] = (1.0, 0.93, 0.82)
    lamp_power: float = 60.0
    accents: tuple[tuple[int, Painter | Color], ...] = ()


def build(
    rng: np.random.Generator,
    rooms: Sequence[Room],
    doors: Sequence[Door] = (),
    windows: Sequence[Window] = (),
    reach: float = np.inf,
) -> tuple[list[Patch], list[Lamp]]:
    """Return the patches and lamps of the empty flat. reach: range of the lamps in metres."""
    patches: list[Patch] = []
    lamps: list[Lamp] = []
    for room in rooms:
        patches += _floor_and_ceiling(rng, room)
        accents = dict(room.accents)
        for number, (a, b) in enumerate(zip(room.corners, room.corners[1:] + room.corners[:1])):
            patches += _wall(
                rng, np.array(a), np.array(b), accents.get(number, room.wall), doors, windows
            )
        for x, y in room.lamps:
            glass = disc(HEIGHT - 0.06, 0.24, textures.plain(rng, (48, 48), (246, 240, 226)))
            # reversed rows make it face down
            patches += place([Patch(glass.points[::-1], glass.texture, 2.2)], x, y)
            color = np.array(room.lamp_color) * room.lamp_power
            lamps.append(
                Lamp(
                    np.array([x - 0.2, y - 0.2, HEIGHT - 0.08]),
                    np.array([0.4, 0, 0]),
                    np.array([0, 0.4, 0]),
                    np.array([0, 0, -1.0]),
                    color,
                    reach,
                )
            )
    for door in filter(lambda door: door.frame, doors):
        patches += _door(rng, door, rooms)
    for window in windows:
        more, light = _window(rng, window, rooms)
        patches += more
        lamps.append(replace(light, reach=reach))
    return patches, lamps


def _paint(
    rng: np.random.Generator,
    painter: Painter | Color,
    width: float,
    height: float,
    density: float = 260,
) -> np.ndarray:
    size = pixels(width, height, density)
    return painter(rng, size) if callable(painter) else textures.plain(rng, size, painter)


def _floor_and_ceiling(rng: np.random.Generator, room: Room) -> list[Patch]:
    corners = np.array(room.corners)
    low, high = corners.min(axis=0), corners.max(axis=0)
    (x0, y0), (width, depth) = low, high - low
    # the bounding rectangle of an L-shaped room extends under its walls, where it is invisible
    floor = quad(
        (x0, high[1], 0), (width, 0, 0), (0, -depth, 0), _paint(rng, room.floor, width, depth)
    )
    ceiling = quad(
        (x0, y0, HEIGHT),
        (width, 0, 0),
        (0, depth, 0),
        _paint(rng, (226, 224, 218), width, depth, 120),
    )
    return [floor, ceiling]


def _facing(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Describe the wall from a to b, seen from its room: unit vectors along it (to the right) and
    into the room, and its length.
    """
    length = float(np.linalg.norm(b - a))
    along = (b - a) / length
    return along, np.array([along[1], -along[0]]), length


def _openings(
    a: np.ndarray, b: np.ndarray, doors: Sequence[Door], windows: Sequence[Window]
) -> Iterator[tuple[float, float, float, float]]:
    """Yield (left, right, bottom, top) of the openings in the wall from a to b."""
    along, inward, length = _facing(a, b)
    things: list[Door | Window] = [*doors, *windows]
    for thing in things:
        offset = np.array([thing.x, thing.y]) - a
        s, away = offset @ along, abs(offset @ inward)
        width = thing.width if isinstance(thing, Window) else DOOR_WIDTH
        if away < WALL and width / 2 <= s <= length - width / 2:
            low, high = (
                (thing.bottom, thing.top) if isinstance(thing, Window) else (0.0, DOOR_HEIGHT)
            )
            yield s - width / 2, s + width / 2, low, high


def _wall(
    rng: np.random.Generator,
    a: np.ndarray,
    b: np.ndarray,
    painter: Painter | Color,
    doors: Sequence[Door],
    windows: Sequence[Window],
) -> list[Patch]:
    along, _, length = _facing(a, b)
    image = _paint(rng, painter, length, HEIGHT)
    openings = sorted(_openings(a, b, doors, windows))
    stops = [0.0, *(x for o in openings for x in o[:2]), length]
    pieces = [(stops[i], stops[i + 1], 0.0, HEIGHT) for i in range(0, len(stops), 2)]
    for left, right, low, high in openings:
        pieces += [(left, right, high, HEIGHT)] + ([(left, right, 0.0, low)] if low > 0 else [])
    patches: list[Patch] = []
    for left, right, low, high in pieces:
        if right - left < 1e-6:
            continue
        x0, x1 = (round(v / length * image.shape[1]) for v in (left, right))
        y0, y1 = (round((HEIGHT - v) / HEIGHT * image.shape[0]) for v in (high, low))
        corner = np.append(a + left * along, high)
        piece = image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
        patches.append(
            quad(corner, np.append((right - left) * along, 0), (0, 0, low - high), piece)
        )
        if low == 0:  # a skirting board
            yaw = np.degrees(np.arctan2(along[1], along[0]))
            board = wooden(
                rng, ((right - left) / 2, -0.008, 0), (right - left, 0.016, 0.08), WHITE, skip="bn"
            )
            x, y = a + left * along
            patches += place(board, x, y, 0, yaw)
    return patches


def _nearest_wall(thing: Door | Window, rooms: Sequence[Room]) -> tuple[np.ndarray, np.ndarray]:
    """Return (along, inward) of the wall face that contains `thing`. Raise ValueError if there is
    none.
    """
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for room in rooms:
        for a, b in zip(room.corners, room.corners[1:] + room.corners[:1]):
            along, inward, length = _facing(np.array(a), np.array(b))
            offset = np.array([thing.x, thing.y]) - a
            if 0 < offset @ along < length and (
                best is None or abs(offset @ inward) < best[0] - 1e-9
            ):
                best = abs(offset @ inward), along, inward
    if best is None:
        raise ValueError(f"no wall at {thing}")
    return best[1:]


def _door(rng: np.random.Generator, door: Door, rooms: Sequence[Room]) -> list[Patch]:
    along, _ = _nearest_wall(door, rooms)
    half, thick = DOOR_WIDTH / 2, WALL + 0.03
    yaw = np.degrees(np.arctan2(along[1], along[0]))
    parts: list[Patch] = []
    for side in (-1, 1):
        parts += wooden(rng, (side * (half - 0.02), 0, 0), (0.04, thick, DOOR_HEIGHT), WHITE, "bt")
        for face in (-1, 1):
            trim = (side * (half + 0.03), face * (WALL / 2 + 0.008), 0)
            parts += wooden(rng, trim, (0.07, 0.016, DOOR_HEIGHT + 0.07), WHITE, "b")
    parts += wooden(rng, (0, 0, DOOR_HEIGHT - 0.04), (DOOR_WIDTH, thick, 0.04), WHITE, "tew")
    for face in (-1, 1):
        parts += wooden(
            rng, (0, face * (WALL / 2 + 0.008), DOOR_HEIGHT), (DOOR_WIDTH, 0.016, 0.07), WHITE, ""
        )
    sill = textures.wood(rng, pixels(DOOR_WIDTH, thick), OAK)
    parts += [quad((-half, thick / 2, 0.004), (DOOR_WIDTH, 0, 0), (0, -thick, 0), sill)]
    if door.leaf is not None:
        width, height = DOOR_WIDTH - 0.08, DOOR_HEIGHT - 0.06

        def paint(size: Size) -> np.ndarray:
            return textures.plain(rng, size, WHITE)

        front = prints.panelled(rng, paint(pixels(width, height)), (2, 1), handle=False)
        leaf = clad((width / 2, 0.02, 0.01), (width, 0.04, height), paint, s=front, n=front)
        knob = wooden(rng, (width - 0.08, 0.02, 1.0), (0.1, 0.13, 0.02), (150, 146, 138), "")
        parts += place(leaf + knob, -half + 0.04, thick / 2 - 0.02, 0, door.leaf)
    return place(parts, door.x, door.y, 0, yaw)


def _window(
    rng: np.random.Generator, window: Window, rooms: Sequence[Room]
) -> tuple[list[Patch], Lamp]:
    along, inward = _nearest_wall(window, rooms)
    yaw = np.degrees(np.arctan2(along[1], along[0]))
    w, h = window.width, window.top - window.bottom
    outside = _outside(rng, pixels(w, h, 200))
    parts = [quad((-w / 2, 0.1, window.top), (w, 0, 0), (0, 0, -h), outside, 1.35)]
    bars = [(0, 0, w, 0.05), (0, h - 0.05, w, 0.05)] + [
        (x, 0, 0.05, h) for x in (0.025 - w / 2, 0, w / 2 - 0.025)
    ]
    for x, z, sx, sz in bars:
        parts += wooden(rng, (x, 0.075, window.bottom + z), (sx, 0.05, sz), WHITE, skip="n")
    for x in (-1, 1):
        parts += wooden(rng, (x * w / 2, 0.06, window.bottom), (0.01, 0.12, h), WHITE, skip="n")
    parts += wooden(rng, (0, 0.06, window.top - 0.005), (w, 0.12, 0.01), WHITE, skip="n")
    parts += wooden(rng, (0, 0.02, window.bottom - 0.04), (w + 0.1, 0.2, 0.04), WHITE, skip="n")
    if window.curtain is not None:
        parts += place(drapes(rng, w, 2.25, window.curtain), 0, 0, 2.32)
    patches = place(parts, window.x, window.y, 0, yaw)
    corner = np.append(np.array([window.x, window.y]) - along * w / 2 - inward * 0.03, window.top)
    light = Lamp(
        corner,
        np.append(along * w, 0),
        np.array([0, 0, -h]),
        np.append(inward, 0),
        np.array([0.86, 0.95, 1.05]) * 4.0,
    )
    return patches, light


def _outside(rng: np.random.Generator, size: Size) -> np.ndarray:
    """A bright garden under the sky."""
    y = np.linspace(0, 1, size[0], dtype=np.float32)[:, None]
    clouds = textures.noise(rng, size, (size[0] / 4, size[1] / 3)) + 0.5 * textures.noise(
        rng, size, (size[0] / 10, size[1] / 6)
    )
    sky = np.stack(
        [178 + 40 * y + 22 * clouds, 204 + 24 * y + 14 * clouds, 232 + 8 * y + 6 * clouds], axis=-1
    )
    skyline = size[0] * (0.62 + 0.06 * np.cumsum(rng.standard_normal(24)) / 4)
    ground = np.arange(size[0])[:, None] > np.interp(
        np.arange(size[1]), np.linspace(0, size[1], 24), skyline
    )
    trees = textures.fabric(rng, size, (118, 138, 104), 0.2)
    image = np.clip(np.where(ground[..., None], trees, sky), 0, 255).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 2.0))
