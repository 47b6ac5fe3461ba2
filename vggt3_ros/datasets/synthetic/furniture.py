"""Furniture and small things as patches. Each piece stands on z = 0 with its back at y = 0 and faces -y; metres.

Every function takes a numpy Generator first: the same state gives the same piece, another state another one of its kind.
"""

import numpy as np

from vggt3_ros.datasets import textures
from vggt3_ros.datasets.patches import Patch, box, curtain, cushion, disc, place, quad, tube

DENSITY = 280  # texels a metre: a camera of focal length 525 px resolves that at 1.9 m
OAK, WALNUT, PINE, WHITE = (168, 128, 84), (104, 70, 46), (206, 170, 122), (214, 211, 203)


def pixels(width, height, density=DENSITY):
    """(height, width) of a texture for a surface of this size in metres."""
    return max(int(height * density), 8), max(int(width * density), 8)


def clad(center, size, material, skip="b", density=DENSITY, **faces):
    """A box with material(size_px) on each face, or faces[name] where given."""
    shapes = {"n": (size[0], size[2]), "s": (size[0], size[2]), "e": (size[1], size[2]), "w": (size[1], size[2]),
              "t": (size[0], size[1]), "b": (size[0], size[1])}
    images = {face: faces.get(face) if face in faces else material(pixels(*shape, density))
              for face, shape in shapes.items() if face not in skip}
    return box(center, size, images | {"side": None}, skip)


def wooden(rng, center, size, color, skip="b", density=DENSITY, **faces):
    """A wooden box, the grain along the longer side of each face; WHITE wood is painted."""
    if color is WHITE:
        return clad(center, size, lambda s: textures.plain(rng, s, WHITE, 0.012), skip, density, **faces)
    return clad(center, size, lambda s: textures.wood(rng, s, color, along=1 if s[1] >= s[0] else 0), skip, density, **faces)


def table(rng, width, depth, height, color=OAK, leg=0.06):
    parts = wooden(rng, (0, -depth / 2, height - 0.04), (width, depth, 0.04), color, skip="")
    parts += wooden(rng, (0, -depth / 2, height - 0.12), (width - 0.1, depth - 0.1, 0.08), color, skip="t")
    for x in (-1, 1):
        for y in (-1, 1):
            parts += wooden(rng, (x * (width / 2 - 0.06), -depth / 2 + y * (depth / 2 - 0.06), 0), (leg, leg, height - 0.04), color, "tb")
    return parts


def chair(rng, color=OAK, cloth=None):
    """Seat at 0.46 m; it faces -y, its back rest at y = 0."""
    cloth = textures.muted(rng) if cloth is None else cloth
    parts = [p for x in (-0.19, 0.19) for p in wooden(rng, (x, -0.02, 0), (0.04, 0.04, 0.92), color)]
    parts += [p for x in (-0.19, 0.19) for p in wooden(rng, (x, -0.42, 0), (0.04, 0.04, 0.44), color)]
    parts += wooden(rng, (0, -0.22, 0.42), (0.44, 0.44, 0.03), color, skip="")
    parts += place([cushion(0.42, 0.42, 0.05, textures.fabric(rng, pixels(0.42, 0.42), cloth))], 0, -0.22, 0.45)
    return parts + [p for z in (0.62, 0.8) for p in wooden(rng, (0, -0.02, z), (0.34, 0.025, 0.09), color, skip="")]


def sofa(rng, width=2.0, color=None):
    """With cushions; a width of 0.9 makes an armchair."""
    color = textures.muted(rng, (0.3, 0.65), (0.15, 0.5)) if color is None else color
    cloth = lambda size: textures.fabric(rng, size, color)
    parts = clad((0, -0.1, 0.05), (width, 0.2, 0.8), cloth)
    for x in (-1, 1):
        parts += clad((x * (width / 2 - 0.09), -0.5, 0.05), (0.18, 0.8, 0.55), cloth)
    parts += clad((0, -0.52, 0.05), (width - 0.36, 0.72, 0.25), cloth)
    seats = max(round((width - 0.36) / 0.65), 1)
    seat = (width - 0.36) / seats
    for i in range(seats):
        x = -width / 2 + 0.18 + (i + 0.5) * seat
        parts += place([cushion(seat - 0.01, 0.66, 0.14, cloth(pixels(seat, 0.66)))], x, -0.55, 0.29)
        if seats == 1 or rng.random() < 0.8:
            size = rng.uniform(0.34, 0.44)
            image = textures.rug(rng, pixels(size, size)) if rng.random() < 0.6 else textures.fabric(rng, pixels(size, size), textures.muted(rng))
            parts += place(_tilted(cushion(size, size, 0.13, image), 70), x + rng.uniform(-0.1, 0.1), -0.3, 0.58, rng.uniform(-12, 12))
    return parts


def cabinet(rng, width, height, depth, panels, color=OAK, foot=0.06, paint=False):
    """A cupboard or chest with panels = (rows, columns) of doors or drawers."""
    make = (lambda s: textures.plain(rng, s, color)) if paint else (lambda s: textures.wood(rng, s, color, 1 if s[1] > s[0] else 0))
    front = textures.panelled(rng, make(pixels(width, height - foot)), panels)
    return clad((0, -depth / 2, foot), (width, depth, height - foot), make, s=front)


def shelf(rng, width, height, depth=0.28, rows=5, color=OAK, fill=0.85):
    """An open shelf with a back, its boards filled with books and things."""
    board = 0.025
    parts = [p for x in (-1, 1) for p in wooden(rng, (x * (width - board) / 2, -depth / 2, 0), (board, depth, height), color)]
    parts.append(quad((-width / 2, -0.01, height), (width, 0, 0), (0, 0, -height), textures.wood(rng, pixels(width, height, 200), color)))
    levels = np.linspace(0.04, height - board, rows + 1)
    for z in levels:
        parts += wooden(rng, (0, -depth / 2, z), (width - 2 * board, depth, board), color, skip="new")
    for z, top in zip(levels[:-1] + board, levels[1:]):
        parts += place(row(rng, width - 2 * board - 0.02, min(depth, 0.24), top - z - 0.02, fill), 0, -0.02, z)
    return parts


def row(rng, width, depth, height, fill=0.85):
    """Books and things side by side along x, from y = 0 to -depth."""
    parts, x = [], -width / 2
    while x < width / 2 - 0.08:
        room = width / 2 - x
        if rng.random() < fill:
            run = min(rng.uniform(0.15, 0.5), room)
            parts += place(books(rng, run, depth, height), x)
            x += run
        else:
            size = min(rng.uniform(0.12, 0.22), room)
            parts += place(thing(rng, size, depth, height), x + size / 2, -depth / 2)
            x += size + 0.02
    return parts


def books(rng, width, depth, height):
    """Upright books from x = 0 to `width`."""
    parts, x = [], 0.0
    while True:
        thick, tall = rng.uniform(0.018, 0.048), min(rng.uniform(0.17, 0.29), height)
        if x + thick > width:
            return parts
        deep = min(rng.uniform(0.13, 0.2), depth)
        back = textures.spine(rng, pixels(thick, tall, 400))
        cover = np.full((8, 8, 3), back[len(back) // 2].mean(axis=0), np.uint8)
        pages = np.full((8, 8, 3), rng.uniform(180, 225), np.uint8)
        parts += box((x + thick / 2, -depth + deep / 2 + rng.uniform(0, 0.03), 0), (thick - 0.001, deep, tall),
                     {"s": back, "side": cover, "t": pages}, "nb")
        x += thick


def thing(rng, width, depth, height, kind=None):
    """Something that stands around, centred on x = y = 0, at most this large: 0 a carton, 1 a bowl, 2 a vase, 3 a picture, 4 books."""
    kind = rng.integers(5) if kind is None else kind
    width = min(width, depth)
    if kind == 0:
        tall = min(rng.uniform(0.14, 0.28), height)
        front = textures.label(rng, pixels(width, tall, 400))
        side = textures.label(rng, pixels(width * 0.5, tall, 400))
        parts = box((0, 0, 0), (width, width * 0.5, tall), {"n": front, "s": front, "side": side, "t": side[:16]}, "b")
        return place(parts, yaw=rng.uniform(-25, 25))
    if kind == 1:
        return bowl(rng, width / 2, min(0.5 * width, height))
    if kind == 2:
        return vase(rng, min(0.32 * width, 0.07), min(rng.uniform(0.16, 0.28), height))
    if kind == 3:
        tall = min(width * 1.25, height)
        image = textures.picture(rng, pixels(width, tall, 400))
        return place(_tilted_box(image, width, tall), yaw=rng.uniform(-15, 15))
    parts, z = [], 0.0
    while z < min(rng.uniform(0.08, 0.2), height - 0.05):
        thick = rng.uniform(0.02, 0.045)
        parts += place(lying_book(rng, min(width, 0.17), thick), 0, 0, z, rng.uniform(-20, 20))
        z += thick
    return parts


def lying_book(rng, width, thick):
    cover = textures.label(rng, pixels(width, width * 1.3, 400))
    edge = np.ascontiguousarray(np.rot90(textures.spine(rng, pixels(thick, width, 400))))
    return box((0, 0, 0), (width, width * 1.3, thick - 0.001), {"t": cover, "side": edge}, "b")


def bowl(rng, radius, height):
    """A bowl with fruit."""
    glaze = textures.stone(rng, pixels(6 * radius, height, 400), textures.muted(rng, (0.5, 0.9)), 0.1)
    parts = [tube([(radius, height), (0.75 * radius, 0.35 * height), (0.4 * radius, 0)], glaze), disc(0.5 * height, 0.85 * radius, glaze)]
    for _ in range(rng.integers(3, 6)):
        size = rng.uniform(0.25, 0.36) * radius
        x, y = rng.uniform(-0.5, 0.5, 2) * radius
        color = ((196, 60, 40), (226, 178, 54), (120, 160, 60), (224, 130, 40))[rng.integers(4)]
        parts += place([ball(size, textures.fabric(rng, pixels(6 * size, 3 * size, 400), color, 0.04))], x, y, 0.5 * height + 0.8 * size)
    return parts


def vase(rng, radius, height):
    """A vase, bottle or mug with a pattern round it."""
    shape = ((0.6, 1.0), (0.4, 0.45), (1.0, 1.0))[rng.integers(3)]
    image = textures.label(rng, pixels(6 * radius, height, 400))
    return [tube([(shape[0] * radius, height), (shape[1] * radius, 0.7 * height), (radius, 0.45 * height), (0.8 * radius, 0)], image),
            disc(height - 0.005, shape[0] * radius, np.full((8, 8, 3), 40, np.uint8), cells=2)]


def ball(radius, image, bands=6):
    angle = np.linspace(0, np.pi, bands + 1)
    return tube([(radius * np.sin(a) + 1e-4, radius * np.cos(a)) for a in angle], image, segments=10)


def plant(rng, height=1.1, radius=0.16):
    """A pot with leaves; centred on x = y = 0."""
    clay = textures.stone(rng, pixels(6 * radius, 0.3), textures.muted(rng, (0.5, 0.8)))
    parts = [tube([(radius, 0.3), (0.75 * radius, 0)], clay), disc(0.27, 0.95 * radius, textures.stone(rng, pixels(0.3, 0.3), (70, 52, 40)))]
    for _ in range(26):
        turn, rise, length = rng.uniform(0, 360), rng.uniform(0.35, 1.0), rng.uniform(0.22, 0.42)
        t = np.linspace(0, 1, 5)
        width = 0.075 * np.sin(np.pi * np.clip(t, 0.04, 0.96)) * rng.uniform(0.7, 1.3)
        out, up = 0.05 + length * t, 0.3 + (height - 0.45) * rise + length * (0.7 * t - 0.8 * t**2)
        points = np.stack([np.stack([out, s * width, up + 0.15 * np.abs(s) * width], -1) for s in (-1, 0, 1)])
        green = textures.fabric(rng, (36, 120), np.array([70, 112, 52]) * rng.uniform(0.7, 1.3), 0.14)
        parts += place([Patch(points, green)], yaw=turn)
    return parts


def floor_lamp(rng, height=1.6):
    """Centred on x = y = 0; its shade glows a little."""
    metal = textures.plain(rng, (16, 16), (90, 88, 84))
    shade = tube([(0.16, height), (0.22, height - 0.3)], textures.fabric(rng, pixels(1.3, 0.3), (232, 214, 178)))
    return [tube([(0.012, height - 0.1), (0.012, 0.03)], metal, 6), disc(0.03, 0.15, metal), tube([(0.15, 0.03), (0.15, 0)], metal),
            Patch(shade.points, shade.texture, 1.1)]


def bed(rng, width=1.6, length=2.0):
    """Head at y = 0."""
    sheet = textures.fabric(rng, pixels(width, 0.25), (214, 210, 202))
    parts = wooden(rng, (0, -0.03, 0), (width + 0.06, 0.06, 1.0), OAK)
    parts += wooden(rng, (0, -length / 2, 0.12), (width + 0.02, length, 0.2), OAK, skip="nb")
    parts += clad((0, -length / 2, 0.32), (width - 0.04, length - 0.06, 0.2), lambda s: sheet)
    cover = textures.rug(rng, pixels(width + 0.06, length - 0.65), "ihc.png")
    parts += clad((0, -length / 2 - 0.3, 0.3), (width + 0.06, length - 0.62, 0.26), lambda s: textures.rug(rng, s, "ihc.png"), t=cover)
    for x in (-0.25, 0.25):
        image = textures.fabric(rng, pixels(0.65, 0.42), textures.muted(rng, (0.7, 0.9), (0.05, 0.4)), 0.08)
        parts += place(_tilted(cushion(0.66, 0.42, 0.16, image), 22), x * width, -0.32, 0.55, rng.uniform(-6, 6))
    parts += place([cushion(0.42, 0.42, 0.14, textures.rug(rng, pixels(0.42, 0.42), "chelsea.png"))], rng.uniform(-0.3, 0.3), -0.75, 0.56, 20)
    return parts


def desk(rng, width=1.5, depth=0.7):
    """With a screen, a keyboard, papers, books and a mug."""
    parts = table(rng, width, depth, 0.74, PINE)
    black = textures.plain(rng, (32, 32), (38, 38, 40))
    screen = textures.toned(rng, textures.crop(rng, textures.photo(("rocket.jpg", "motorcycle_left.png")[rng.integers(2)]), pixels(0.62, 0.36, 500)))
    screen[-24:] = (52, 56, 64)
    textures.text(rng, screen, (12, 40), 26, (236, 236, 230))
    top = box((0, 0, 0.12), (0.66, 0.03, 0.4), black, "")
    top.append(quad((-0.31, -0.0155, 0.5), (0.62, 0, 0), (0, 0, -0.36), screen, 0.75))
    top += box((0, 0.02, 0), (0.06, 0.03, 0.2), black, "b") + box((0, 0, 0), (0.26, 0.18, 0.012), black, "b")
    keys = textures.tiling(rng, pixels(0.44, 0.14, 400), (12, 12), lambda r, s: textures.plain(r, s, (58, 58, 62)), 3, (26, 26, 28))
    top += place(box((0, 0, 0), (0.44, 0.14, 0.02), {"t": keys, "side": black}, "b"), 0, -0.3)
    for x, y in ((-0.5, -0.25), (0.48, -0.3), (0.36, -0.12)):
        sheet = textures.paper(rng, pixels(0.21, 0.297, 500))
        top += place([quad((-0.105, 0.148, 0.002 + 0.001 * rng.random()), (0.21, 0, 0), (0, -0.297, 0), sheet)], x, y, 0, rng.uniform(-30, 30))
    top += place(vase(rng, 0.045, 0.1), 0.3, -0.36) + place(books(rng, 0.22, 0.2, 0.3), -width / 2 + 0.05, 0.14)
    return parts + place(top, 0, -0.22, 0.74)


def things_on(rng, width, depth, count):
    """`count` things spread over a table top of this size centred on x = y = 0."""
    xs = (np.arange(count) + 0.5) / count * width - width / 2
    kinds = np.concatenate([rng.permutation(5) for _ in range(-(-count // 5))])  # no two alike before all have been
    return [p for x, kind in zip(xs, kinds) for p in place(thing(rng, min(0.9 * width / count, 0.22), 0.24, 0.3, kind), x + rng.uniform(-0.02, 0.02),
                                         rng.uniform(-0.5, 0.5) * max(depth - 0.25, 0))]


def magazines(rng, width, depth, count):
    """Papers lying on a table top of this size centred on x = y = 0."""
    parts = []
    for i in range(count):
        sheet = quad((-0.105, 0.145, 0.003 + 0.002 * i), (0.21, 0, 0), (0, -0.29, 0), textures.paper(rng, pixels(0.21, 0.29, 500), 0.8))
        parts += place([sheet], rng.uniform(-0.4, 0.4) * (width - 0.2), rng.uniform(-0.4, 0.4) * (depth - 0.25), 0, rng.uniform(-60, 60))
    return parts


def counter(rng, width, color, depth=0.6, stove=None):
    """A kitchen counter with doors and drawers, a stone top, and a stove at x = `stove` where given."""
    columns = max(round(width / 0.6), 1)
    front = np.concatenate([textures.panelled(rng, textures.plain(rng, pixels(width / columns, 0.78), color), ((1, 1), (3, 1), (2, 1))[i % 3])
                            for i in range(columns)], axis=1)
    parts = clad((0, -depth / 2 + 0.01, 0.08), (width, depth - 0.02, 0.78), lambda s: textures.plain(rng, s, color), skip="bt", s=front)
    parts += clad((0, -depth / 2, 0.86), (width, depth, 0.04), lambda s: textures.stone(rng, s, (120, 116, 112)), skip="")
    if stove is not None:
        top = textures.plain(rng, pixels(0.58, 0.5), (36, 36, 38))
        for i, j in ((0.28, 0.3), (0.28, 0.7), (0.72, 0.3), (0.72, 0.7)):
            for r in (0.085, 0.06, 0.02):
                _ring(top, (j, i), r)
        parts += box((stove, -0.3, 0.9), (0.58, 0.5, 0.008), {"side": top}, "b")
        parts += place(vase(rng, 0.1, 0.14), stove + 0.13, -0.2, 0.91)
    return parts


def fridge(rng, height=1.75):
    """White, with notes and photographs on its door."""
    paint = lambda s: textures.plain(rng, s, WHITE)
    door = textures.panelled(rng, paint(pixels(0.62, height)), (2, 1), inset=0.0)
    for _ in range(9):
        w, h = rng.integers(28, 60), rng.integers(30, 66)
        y, x = rng.integers(0.08 * door.shape[0], 0.62 * door.shape[0]), rng.integers(8, door.shape[1] - w - 8)
        note = textures.paper(rng, (int(h), int(w))) if rng.random() < 0.5 else textures.toned(
            rng, textures.crop(rng, textures.photo(textures.PICTURES[rng.integers(len(textures.PICTURES))]), (int(h), int(w)), 1.3))
        door[y:y + h, x:x + w] = note
        door[y:y + 5, x + w // 2 - 3:x + w // 2 + 3] = textures.muted(rng)
    return clad((0, -0.31, 0), (0.62, 0.62, height), paint, s=door)


def picture(rng, width, height, source=None):
    """A framed picture whose back is the wall and whose centre is z = 0."""
    image = textures.picture(rng, pixels(width, height, 400), source)
    edge = np.full((8, 8, 3), image[2, 2], np.uint8)
    return box((0, -0.0125, -height / 2), (width, 0.025, height), {"s": image, "side": edge}, "n")


def poster(rng, width, height):
    """A printed sheet on the wall, centre z = 0."""
    return [quad((-width / 2, -0.004, height / 2), (width, 0, 0), (0, 0, -height), textures.paper(rng, pixels(width, height, 400), 1.0))]


def coats(rng, count=4):
    """A board with hooks and clothes; top at z = 0."""
    parts = wooden(rng, (0, -0.015, -0.1), (0.2 * count + 0.1, 0.03, 0.1), WALNUT, skip="n")
    for i in range(count):
        width, length = rng.uniform(0.16, 0.26), rng.uniform(0.5, 1.0)
        cloth = curtain(width, length, 2, 0.03, textures.fabric(rng, pixels(width, length), textures.muted(rng, (0.2, 0.6))))
        parts += place([cloth], (i - (count - 1) / 2) * 0.2 - width / 2, -0.08, -0.05)
    return parts


def drapes(rng, width, height, color):
    """Two curtains beside an opening of this width, hanging from z = 0, centred on x = 0, and their rod."""
    parts = wooden(rng, (0, -0.1, 0.0), (width + 0.7, 0.03, 0.03), WALNUT, skip="")
    for side in (-1, 1):
        cloth = textures.fabric(rng, pixels(0.4, height), color)
        for x in np.arange(20, cloth.shape[1], 44):
            cloth[:, x:x + 9] = cloth[:, x:x + 9] // 2 + np.uint8(30)
        parts += place([curtain(0.42, height, 4, 0.035, cloth)], side * (width / 2 + 0.12) - 0.21, -0.1, 0)
    return parts


def _tilted(patch, degrees):
    """Turn about the x axis so that what lay on z = 0 leans back (towards +y)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return [Patch(patch.points @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T, patch.texture, patch.emission)]


def _tilted_box(image, width, height):
    edge = np.full((8, 8, 3), image[2, 2], np.uint8)
    lean = 0.25 * height
    return [quad((-width / 2, lean / 2, height), (width, 0, 0), (0, -lean, -height), image),
            quad((width / 2, lean / 2 + 0.01, height), (-width, 0, 0), (0, -lean, -height), edge)]


def _ring(image, at, radius):
    import cv2

    center = (int(at[0] * image.shape[1]), int(at[1] * image.shape[0]))
    cv2.circle(image, center, int(radius * 330), (120, 40, 34) if radius < 0.05 else (96, 96, 98), 2, cv2.LINE_AA)
