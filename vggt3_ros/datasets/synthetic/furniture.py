"""Furniture as patches. Each piece stands on z = 0 with its back at y = 0 and faces -y; metres.

Functions take a numpy Generator first: the same state gives the same piece, another state another
variant.
"""

import cv2
import numpy as np

from vggt3_ros.datasets.synthetic import prints, textures
from vggt3_ros.datasets.synthetic.carpentry import OAK, PINE, WHITE, clad, pixels, tilted, wooden
from vggt3_ros.datasets.synthetic.household import books, row, vase
from vggt3_ros.datasets.synthetic.patches import Patch, box, cushion, place, quad
from vggt3_ros.datasets.synthetic.textures import Color, Size


def table(
    rng: np.random.Generator,
    width: float,
    depth: float,
    height: float,
    color: Color = OAK,
    leg: float = 0.06,
) -> list[Patch]:
    parts = wooden(rng, (0, -depth / 2, height - 0.04), (width, depth, 0.04), color, skip="")
    parts += wooden(
        rng, (0, -depth / 2, height - 0.12), (width - 0.1, depth - 0.1, 0.08), color, skip="t"
    )
    for x in (-1, 1):
        for y in (-1, 1):
            corner = (x * (width / 2 - 0.06), -depth / 2 + y * (depth / 2 - 0.06), 0)
            parts += wooden(rng, corner, (leg, leg, height - 0.04), color, "tb")
    return parts


def chair(rng: np.random.Generator, color: Color = OAK, cloth: Color | None = None) -> list[Patch]:
    """A chair with its seat at 0.46 m and its back rest at y = 0."""
    cloth = textures.muted(rng) if cloth is None else cloth
    parts = [
        p for x in (-0.19, 0.19) for p in wooden(rng, (x, -0.02, 0), (0.04, 0.04, 0.92), color)
    ]
    parts += [
        p for x in (-0.19, 0.19) for p in wooden(rng, (x, -0.42, 0), (0.04, 0.04, 0.44), color)
    ]
    parts += wooden(rng, (0, -0.22, 0.42), (0.44, 0.44, 0.03), color, skip="")
    parts += place(
        [cushion(0.42, 0.42, 0.05, textures.fabric(rng, pixels(0.42, 0.42), cloth))],
        0,
        -0.22,
        0.45,
    )
    return parts + [
        p
        for z in (0.62, 0.8)
        for p in wooden(rng, (0, -0.02, z), (0.34, 0.025, 0.09), color, skip="")
    ]


def sofa(rng: np.random.Generator, width: float = 2.0, color: Color | None = None) -> list[Patch]:
    """A sofa with cushions; a width of 0.9 gives an armchair."""
    tint = textures.muted(rng, (0.3, 0.65), (0.15, 0.5)) if color is None else color

    def cloth(size: Size) -> np.ndarray:
        return textures.fabric(rng, size, tint)

    parts = clad((0, -0.1, 0.05), (width, 0.2, 0.8), cloth)
    for side in (-1, 1):
        parts += clad((side * (width / 2 - 0.09), -0.5, 0.05), (0.18, 0.8, 0.55), cloth)
    parts += clad((0, -0.52, 0.05), (width - 0.36, 0.72, 0.25), cloth)
    seats = max(round((width - 0.36) / 0.65), 1)
    seat = (width - 0.36) / seats
    for i in range(seats):
        x = -width / 2 + 0.18 + (i + 0.5) * seat
        parts += place(
            [cushion(seat - 0.01, 0.66, 0.14, cloth(pixels(seat, 0.66)))], x, -0.55, 0.29
        )
        if seats == 1 or rng.random() < 0.8:
            size = rng.uniform(0.34, 0.44)
            image = prints.rug(rng, pixels(size, size))
            if rng.random() < 0.4:
                image = textures.fabric(rng, pixels(size, size), textures.muted(rng))
            pillow = tilted(cushion(size, size, 0.13, image), 70)
            parts += place(pillow, x + rng.uniform(-0.1, 0.1), -0.3, 0.58, rng.uniform(-12, 12))
    return parts


def cabinet(
    rng: np.random.Generator,
    width: float,
    height: float,
    depth: float,
    panels: tuple[int, int],
    color: Color = OAK,
    foot: float = 0.06,
    paint: bool = False,
) -> list[Patch]:
    """A cupboard or chest with panels = (rows, columns) of doors or drawers."""

    def make(size: Size) -> np.ndarray:
        if paint:
            return textures.plain(rng, size, color)
        return textures.wood(rng, size, color, along=1 if size[1] > size[0] else 0)

    front = prints.panelled(rng, make(pixels(width, height - foot)), panels)
    return clad((0, -depth / 2, foot), (width, depth, height - foot), make, s=front)


def shelf(
    rng: np.random.Generator,
    width: float,
    height: float,
    depth: float = 0.28,
    rows: int = 5,
    color: Color = OAK,
    fill: float = 0.85,
) -> list[Patch]:
    """An open shelf with a back, its boards filled with books and other objects."""
    board = 0.025
    parts = [
        p
        for x in (-1, 1)
        for p in wooden(
            rng, (x * (width - board) / 2, -depth / 2, 0), (board, depth, height), color
        )
    ]
    back = textures.wood(rng, pixels(width, height, 200), color)
    parts.append(quad((-width / 2, -0.01, height), (width, 0, 0), (0, 0, -height), back))
    levels = np.linspace(0.04, height - board, rows + 1)
    for z in levels:
        parts += wooden(
            rng, (0, -depth / 2, z), (width - 2 * board, depth, board), color, skip="new"
        )
    for z, top in zip(levels[:-1] + board, levels[1:]):
        parts += place(
            row(rng, width - 2 * board - 0.02, min(depth, 0.24), top - z - 0.02, fill), 0, -0.02, z
        )
    return parts


def bed(rng: np.random.Generator, width: float = 1.6, length: float = 2.0) -> list[Patch]:
    """A bed with its head at y = 0."""
    sheet = textures.fabric(rng, pixels(width, 0.25), (214, 210, 202))
    parts = wooden(rng, (0, -0.03, 0), (width + 0.06, 0.06, 1.0), OAK)
    parts += wooden(rng, (0, -length / 2, 0.12), (width + 0.02, length, 0.2), OAK, skip="nb")
    parts += clad((0, -length / 2, 0.32), (width - 0.04, length - 0.06, 0.2), lambda s: sheet)
    parts += clad(
        (0, -length / 2 - 0.3, 0.3),
        (width + 0.06, length - 0.62, 0.26),
        lambda size: prints.rug(rng, size, "ihc.png"),
    )
    for x in (-0.25, 0.25):
        image = textures.fabric(
            rng, pixels(0.65, 0.42), textures.muted(rng, (0.7, 0.9), (0.05, 0.4)), 0.08
        )
        parts += place(
            tilted(cushion(0.66, 0.42, 0.16, image), 22),
            x * width,
            -0.32,
            0.55,
            rng.uniform(-6, 6),
        )
    cat = cushion(0.42, 0.42, 0.14, prints.rug(rng, pixels(0.42, 0.42), "chelsea.png"))
    return parts + place([cat], rng.uniform(-0.3, 0.3), -0.75, 0.56, 20)


def desk(rng: np.random.Generator, width: float = 1.5, depth: float = 0.7) -> list[Patch]:
    """A desk with a screen, a keyboard, papers, books and a mug."""
    parts = table(rng, width, depth, 0.74, PINE)
    black = textures.plain(rng, (32, 32), (38, 38, 40))
    shown = textures.photo(("rocket.jpg", "motorcycle_left.png")[rng.integers(2)])
    screen = prints.toned(rng, textures.crop(rng, shown, pixels(0.62, 0.36, 500)))
    screen[-24:] = (52, 56, 64)
    prints.text(rng, screen, (12, 40), 26, (236, 236, 230))
    top = box((0, 0, 0.12), (0.66, 0.03, 0.4), black, "")
    top.append(quad((-0.31, -0.0155, 0.5), (0.62, 0, 0), (0, 0, -0.36), screen, 0.75))
    top += box((0, 0.02, 0), (0.06, 0.03, 0.2), black, "b") + box(
        (0, 0, 0), (0.26, 0.18, 0.012), black, "b"
    )

    def key(rng: np.random.Generator, size: Size) -> np.ndarray:
        return textures.plain(rng, size, (58, 58, 62))

    keys = textures.tiling(rng, pixels(0.44, 0.14, 400), (12, 12), key, 3, (26, 26, 28))
    top += place(box((0, 0, 0), (0.44, 0.14, 0.02), {"t": keys, "side": black}, "b"), 0, -0.3)
    for i, (x, y) in enumerate(((-0.5, -0.25), (0.48, -0.3), (0.36, -0.12))):
        page = prints.paper(rng, pixels(0.21, 0.297, 500))
        sheet = quad((-0.105, 0.148, 0.002 + 0.001 * i), (0.21, 0, 0), (0, -0.297, 0), page)
        top += place([sheet], x, y, 0, rng.uniform(-30, 30))
    top += place(vase(rng, 0.045, 0.1), 0.3, -0.36) + place(
        books(rng, 0.22, 0.2, 0.3), -width / 2 + 0.05, 0.14
    )
    return parts + place(top, 0, -0.22, 0.74)


def counter(
    rng: np.random.Generator,
    width: float,
    color: Color,
    depth: float = 0.6,
    stove: float | None = None,
) -> list[Patch]:
    """A kitchen counter with doors, drawers and a stone top, and a stove at x = `stove` if given."""
    columns = max(round(width / 0.6), 1)

    def paint(size: Size) -> np.ndarray:
        return textures.plain(rng, size, color)

    doors = [
        prints.panelled(rng, paint(pixels(width / columns, 0.78)), ((1, 1), (3, 1), (2, 1))[i % 3])
        for i in range(columns)
    ]
    parts = clad(
        (0, -depth / 2 + 0.01, 0.08),
        (width, depth - 0.02, 0.78),
        paint,
        skip="bt",
        s=np.concatenate(doors, axis=1),
    )
    parts += clad(
        (0, -depth / 2, 0.86),
        (width, depth, 0.04),
        lambda s: textures.stone(rng, s, (120, 116, 112)),
        skip="",
    )
    if stove is not None:
        top = textures.plain(rng, pixels(0.58, 0.5), (36, 36, 38))
        for i, j in ((0.28, 0.3), (0.28, 0.7), (0.72, 0.3), (0.72, 0.7)):
            for r in (0.085, 0.06, 0.02):
                _ring(top, (j, i), r)
        parts += box((stove, -0.3, 0.9), (0.58, 0.5, 0.008), {"side": top}, "b")
        parts += place(vase(rng, 0.1, 0.14), stove + 0.13, -0.2, 0.91)
    return parts


def fridge(rng: np.random.Generator, height: float = 1.75) -> list[Patch]:
    """A white fridge with notes and photographs on its door."""

    def paint(size: Size) -> np.ndarray:
        return textures.plain(rng, size, WHITE)

    door = prints.panelled(rng, paint(pixels(0.62, height)), (2, 1), inset=0.0)
    for _ in range(9):
        w, h = rng.integers(28, 60), rng.integers(30, 66)
        y, x = (
            rng.integers(0.08 * door.shape[0], 0.62 * door.shape[0]),
            rng.integers(8, door.shape[1] - w - 8),
        )
        note = (
            prints.paper(rng, (int(h), int(w)))
            if rng.random() < 0.5
            else prints.toned(
                rng,
                textures.crop(
                    rng,
                    textures.photo(prints.PICTURES[rng.integers(len(prints.PICTURES))]),
                    (int(h), int(w)),
                    1.3,
                ),
            )
        )
        door[y : y + h, x : x + w] = note
        door[y : y + 5, x + w // 2 - 3 : x + w // 2 + 3] = textures.muted(rng)
    return clad((0, -0.31, 0), (0.62, 0.62, height), paint, s=door)


def _ring(image: np.ndarray, at: tuple[float, float], radius: float) -> None:
    """Draw a ring of a stove at relative position (x, y); radius in metres."""
    center = (int(at[0] * image.shape[1]), int(at[1] * image.shape[0]))
    cv2.circle(
        image,
        center,
        int(radius * 330),
        (120, 40, 34) if radius < 0.05 else (96, 96, 98),
        2,
        cv2.LINE_AA,
    )
