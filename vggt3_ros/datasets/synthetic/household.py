"""Small objects that stand, lie and hang in a home, as patches; metres.

Objects stand on z = 0, centred on x = y = 0. Objects that hang have their back at y = 0 and face
-y. Functions take a numpy Generator first: the same state gives the same object, another state
another variant.
"""

import numpy as np

from vggt3_ros.datasets.synthetic import prints, textures
from vggt3_ros.datasets.synthetic.carpentry import WALNUT, clad, pixels, wooden
from vggt3_ros.datasets.synthetic.patches import (
    Patch,
    arrange,
    box,
    curtain,
    disc,
    place,
    quad,
    tube,
)
from vggt3_ros.datasets.synthetic.textures import Color


def row(
    rng: np.random.Generator, width: float, depth: float, height: float, fill: float = 0.85
) -> list[Patch]:
    """Books and other objects side by side along x, from y = 0 to -depth. fill: probability of
    books.
    """
    parts: list[Patch] = []
    x = -width / 2
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


def books(rng: np.random.Generator, width: float, depth: float, height: float) -> list[Patch]:
    """Upright books from x = 0 to `width`."""
    parts: list[Patch] = []
    x = 0.0
    while True:
        thick, tall = rng.uniform(0.018, 0.048), min(rng.uniform(0.17, 0.29), height)
        if x + thick > width:
            return parts
        deep = min(rng.uniform(0.13, 0.2), depth)
        back = prints.spine(rng, pixels(thick, tall, 400))
        cover = np.full((8, 8, 3), back[len(back) // 2].mean(axis=0), np.uint8)
        pages = np.full((8, 8, 3), rng.uniform(180, 225), np.uint8)
        parts += box(
            (x + thick / 2, -depth + deep / 2 + rng.uniform(0, 0.03), 0),
            (thick - 0.001, deep, tall),
            {"s": back, "side": cover, "t": pages},
            "nb",
        )
        x += thick


def lying_book(rng: np.random.Generator, width: float, thick: float) -> list[Patch]:
    cover = prints.label(rng, pixels(width, width * 1.3, 400))
    edge = np.ascontiguousarray(np.rot90(prints.spine(rng, pixels(thick, width, 400))))
    return box((0, 0, 0), (width, width * 1.3, thick - 0.001), {"t": cover, "side": edge}, "b")


def things_on(rng: np.random.Generator, width: float, depth: float, count: int) -> list[Patch]:
    """`count` objects spread over a table top of this size, centred on x = y = 0."""
    xs = (np.arange(count) + 0.5) / count * width - width / 2
    # use every kind once before repeating one
    kinds = np.concatenate([rng.permutation(5) for _ in range(-(-count // 5))])
    size, free = min(0.9 * width / count, 0.22), max(depth - 0.25, 0)
    return arrange(
        *(
            (
                thing(rng, size, 0.24, 0.3, kind),
                x + rng.uniform(-0.02, 0.02),
                rng.uniform(-0.5, 0.5) * free,
            )
            for x, kind in zip(xs, kinds)
        )
    )


def thing(
    rng: np.random.Generator, width: float, depth: float, height: float, kind: int | None = None
) -> list[Patch]:
    """An object of at most this size. kind: 0 a carton, 1 a bowl, 2 a vase, 3 a picture, 4 books;
    None: random.
    """
    kind = int(rng.integers(5)) if kind is None else kind
    width = min(width, depth)
    if kind == 0:
        tall = min(rng.uniform(0.14, 0.28), height)
        front = prints.label(rng, pixels(width, tall, 400))
        side = prints.label(rng, pixels(width * 0.5, tall, 400))
        parts = box(
            (0, 0, 0),
            (width, width * 0.5, tall),
            {"n": front, "s": front, "side": side, "t": side[:16]},
            "b",
        )
        return place(parts, yaw=rng.uniform(-25, 25))
    if kind == 1:
        return bowl(rng, width / 2, min(0.5 * width, height))
    if kind == 2:
        return vase(rng, min(0.32 * width, 0.07), min(rng.uniform(0.16, 0.28), height))
    if kind == 3:
        tall = min(width * 1.25, height)
        image = prints.picture(rng, pixels(width, tall, 400))
        return place(_tilted_box(image, width, tall), yaw=rng.uniform(-15, 15))
    parts, z = [], 0.0
    while z < min(rng.uniform(0.08, 0.2), height - 0.05):
        thick = rng.uniform(0.02, 0.045)
        parts += place(lying_book(rng, min(width, 0.17), thick), 0, 0, z, rng.uniform(-20, 20))
        z += thick
    return parts


def bowl(rng: np.random.Generator, radius: float, height: float) -> list[Patch]:
    """A bowl with fruit."""
    glaze = textures.stone(
        rng, pixels(6 * radius, height, 400), textures.muted(rng, (0.5, 0.9)), 0.1
    )
    outside = tube([(radius, height), (0.75 * radius, 0.35 * height), (0.4 * radius, 0)], glaze)
    parts = [outside, disc(0.5 * height, 0.85 * radius, glaze)]
    for _ in range(rng.integers(3, 6)):
        size = rng.uniform(0.25, 0.36) * radius
        x, y = rng.uniform(-0.5, 0.5, 2) * radius
        color = ((196, 60, 40), (226, 178, 54), (120, 160, 60), (224, 130, 40))[rng.integers(4)]
        fruit = ball(size, textures.fabric(rng, pixels(6 * size, 3 * size, 400), color, 0.04))
        parts += place([fruit], x, y, 0.5 * height + 0.8 * size)
    return parts


def vase(rng: np.random.Generator, radius: float, height: float) -> list[Patch]:
    """A vase, bottle or mug with a pattern around it."""
    shape = ((0.6, 1.0), (0.4, 0.45), (1.0, 1.0))[rng.integers(3)]
    image = prints.label(rng, pixels(6 * radius, height, 400))
    profile = [
        (shape[0] * radius, height),
        (shape[1] * radius, 0.7 * height),
        (radius, 0.45 * height),
        (0.8 * radius, 0),
    ]
    return [
        tube(profile, image),
        disc(height - 0.005, shape[0] * radius, np.full((8, 8, 3), 40, np.uint8), cells=2),
    ]


def ball(radius: float, image: np.ndarray, bands: int = 6) -> Patch:
    angle = np.linspace(0, np.pi, bands + 1)
    return tube(
        [(radius * np.sin(a) + 1e-4, radius * np.cos(a)) for a in angle], image, segments=10
    )


def _tilted_box(image: np.ndarray, width: float, height: float) -> list[Patch]:
    edge = np.full((8, 8, 3), image[2, 2], np.uint8)
    lean = 0.25 * height
    return [
        quad((-width / 2, lean / 2, height), (width, 0, 0), (0, -lean, -height), image),
        quad((width / 2, lean / 2 + 0.01, height), (-width, 0, 0), (0, -lean, -height), edge),
    ]


def magazines(rng: np.random.Generator, width: float, depth: float, count: int) -> list[Patch]:
    """Papers lying on a table top of this size, centred on x = y = 0."""
    parts: list[Patch] = []
    for i in range(count):
        page = prints.paper(rng, pixels(0.21, 0.29, 500), 0.8)
        x, y = rng.uniform(-0.4, 0.4, 2) * (width - 0.2, depth - 0.25)
        sheet = quad((-0.105, 0.145, 0.003 + 0.002 * i), (0.21, 0, 0), (0, -0.29, 0), page)
        parts += place([sheet], x, y, 0, rng.uniform(-60, 60))
    return parts


def plant(rng: np.random.Generator, height: float = 1.1, radius: float = 0.16) -> list[Patch]:
    """A pot with leaves, which extend 0.3 m from its axis."""
    clay = textures.stone(rng, pixels(6 * radius, 0.3), textures.muted(rng, (0.5, 0.8)))
    soil = textures.stone(rng, pixels(0.3, 0.3), (70, 52, 40))
    parts = [tube([(radius, 0.3), (0.75 * radius, 0)], clay), disc(0.27, 0.95 * radius, soil)]
    for _ in range(36):
        turn, rise, length = rng.uniform(0, 360), rng.uniform(0.35, 1.0), rng.uniform(0.16, 0.24)
        t = np.linspace(0, 1, 5)
        width = 0.06 * np.sin(np.pi * np.clip(t, 0.04, 0.96)) * rng.uniform(0.7, 1.3)
        out, up = 0.05 + length * t, 0.3 + (height - 0.45) * rise + length * (0.7 * t - 0.8 * t**2)
        points = np.stack(
            [np.stack([out, s * width, up + 0.15 * np.abs(s) * width], -1) for s in (-1, 0, 1)]
        )
        green = textures.fabric(
            rng, (36, 120), np.array([70, 112, 52]) * rng.uniform(0.7, 1.3), 0.14
        )
        parts += place([Patch(points, green)], yaw=turn)
    return parts


def floor_lamp(rng: np.random.Generator, height: float = 1.6) -> list[Patch]:
    """A floor lamp centred on x = y = 0; its shade glows slightly."""
    metal = textures.plain(rng, (16, 16), (90, 88, 84))
    shade = tube(
        [(0.16, height), (0.22, height - 0.3)],
        textures.fabric(rng, pixels(1.3, 0.3), (232, 214, 178)),
    )
    pole, foot = (
        tube([(0.012, height - 0.1), (0.012, 0.03)], metal, 6),
        tube([(0.15, 0.03), (0.15, 0)], metal),
    )
    return [pole, foot, disc(0.03, 0.15, metal), Patch(shade.points, shade.texture, 1.1)]


def picture(
    rng: np.random.Generator, width: float, height: float, source: str | None = None
) -> list[Patch]:
    """A framed picture, its back on the wall and its centre at z = 0. source: of prints.PICTURES."""
    image = prints.picture(rng, pixels(width, height, 400), source)
    edge = np.full((8, 8, 3), image[2, 2], np.uint8)
    return box((0, -0.0125, -height / 2), (width, 0.025, height), {"s": image, "side": edge}, "n")


def poster(rng: np.random.Generator, width: float, height: float) -> list[Patch]:
    """A printed sheet on the wall, centre at z = 0."""
    sheet = prints.paper(rng, pixels(width, height, 400), 1.0)
    return [quad((-width / 2, -0.004, height / 2), (width, 0, 0), (0, 0, -height), sheet)]


def carpet(
    rng: np.random.Generator, width: float, depth: float, source: str | None = None
) -> list[Patch]:
    """A rug on the floor."""
    return [
        quad(
            (-width / 2, depth / 2, 0.012),
            (width, 0, 0),
            (0, -depth, 0),
            prints.rug(rng, pixels(width, depth), source),
        )
    ]


def carton(rng: np.random.Generator, size: float) -> list[Patch]:
    """A moving box."""
    return clad((0, 0, 0), (size, size, 0.8 * size), lambda s: prints.label(rng, s))


def coats(rng: np.random.Generator, count: int = 4) -> list[Patch]:
    """A coat rack with clothes, its top at z = 0."""
    parts = wooden(rng, (0, -0.015, -0.1), (0.2 * count + 0.1, 0.03, 0.1), WALNUT, skip="n")
    for i in range(count):
        width, length = rng.uniform(0.16, 0.26), rng.uniform(0.5, 1.0)
        cloth = curtain(
            width,
            length,
            2,
            0.03,
            textures.fabric(rng, pixels(width, length), textures.muted(rng, (0.2, 0.6))),
        )
        parts += place([cloth], (i - (count - 1) / 2) * 0.2 - width / 2, -0.08, -0.05)
    return parts


def drapes(rng: np.random.Generator, width: float, height: float, color: Color) -> list[Patch]:
    """A rod and two curtains on either side of an opening of this width, hanging from z = 0,
    centred on x = 0.
    """
    parts = wooden(rng, (0, -0.1, 0.0), (width + 0.7, 0.03, 0.03), WALNUT, skip="")
    for side in (-1, 1):
        cloth = textures.fabric(rng, pixels(0.4, height), color)
        for x in np.arange(20, cloth.shape[1], 44):
            cloth[:, x : x + 9] = cloth[:, x : x + 9] // 2 + np.uint8(30)
        parts += place(
            [curtain(0.42, height, 4, 0.035, cloth)], side * (width / 2 + 0.12) - 0.21, -0.1, 0
        )
    return parts
