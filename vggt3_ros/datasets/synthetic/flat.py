"""Plan and furniture of the rendered flat: four rooms in a ring around a core, each connected to
the next by a door.
"""

import numpy as np

from vggt3_ros.datasets.synthetic import furniture as f
from vggt3_ros.datasets.synthetic import household as h
from vggt3_ros.datasets.synthetic import textures
from vggt3_ros.datasets.synthetic.carpentry import OAK, PINE, WALNUT, WHITE, pixels
from vggt3_ros.datasets.synthetic.lighting import Lamp
from vggt3_ros.datasets.synthetic.patches import Patch, arrange, quad
from vggt3_ros.datasets.synthetic.rooms import Door, Room, Window, build
from vggt3_ros.datasets.synthetic.textures import Color, Size

NORTH, EAST, SOUTH, WEST = 0, -90, 180, 90  # yaw of a piece with its back to that wall

LIVING = ((0, 0), (0, 3.74), (3.7, 3.74), (3.7, 3.0), (4.44, 3.0), (4.44, 0))
KITCHEN = ((4.56, 0), (4.56, 3.0), (4.9, 3.0), (4.9, 3.34), (8.4, 3.34), (8.4, 0))
BEDROOM = ((4.9, 3.46), (4.9, 4.2), (4.16, 4.2), (4.16, 7.2), (8.4, 7.2), (8.4, 3.46))
STUDY = ((0, 3.86), (0, 7.2), (4.04, 7.2), (4.04, 4.2), (3.7, 4.2), (3.7, 3.86))
DOORS = (Door(4.5, 1.5, None), Door(6.6, 3.4, 95.0), Door(4.1, 5.7, None), Door(1.8, 3.8, 100.0))
WINDOWS = (
    Window(2.0, 0, 1.7, curtain=(150, 120, 96)),
    Window(6.7, 0, 1.2, 1.15, 2.1),
    Window(5.9, 7.2, 1.4, curtain=(96, 116, 140)),
    Window(2.9, 7.2, 1.2),
)


def flat(seed: int = 0) -> tuple[list[Patch], list[Lamp]]:
    """Return the patches and lamps of the furnished flat: 8.4 x 7.2 x 2.5 m with its south-west
    corner at the origin, z up.
    """
    rng = np.random.default_rng([seed, 1])
    rooms = (
        Room(
            LIVING,
            (214, 204, 184),
            lambda r, s: planks(r, s, (172, 124, 80)),
            ((2.2, 1.9),),
            accents=((0, (150, 162, 156)), (2, bricks)),
        ),
        Room(
            KITCHEN,
            (222, 216, 204),
            floor_tiles,
            ((6.4, 1.8),),
            (0.95, 0.98, 1.0),
            accents=((4, (206, 178, 120)),),
        ),
        Room(
            BEDROOM,
            (206, 210, 214),
            lambda r, s: textures.fabric(r, s, (138, 128, 116), 0.1),
            ((6.3, 5.4),),
            (1.0, 0.88, 0.72),
            accents=((4, wallpaper),),
        ),
        Room(
            STUDY,
            (212, 208, 190),
            lambda r, s: planks(r, s, (120, 84, 56), along=0),
            ((2.0, 5.5),),
            (1.0, 0.95, 0.88),
            accents=((5, (124, 136, 116)),),
        ),
    )
    patches, lamps = build(rng, rooms, DOORS, WINDOWS)
    for furnish in (living, kitchen, bedroom, study):
        patches += furnish(rng)
    return patches, lamps


def living(rng: np.random.Generator) -> list[Patch]:
    return arrange(
        (h.carpet(rng, 2.1, 1.7, "ihc.png"), 1.8, 1.9),
        (f.sofa(rng, 2.1), 0.02, 1.9, 0, WEST),
        (h.picture(rng, 0.95, 0.65, "motorcycle_left.png"), 0, 1.5, 1.55, WEST),
        (h.picture(rng, 0.5, 0.62, "astronaut.png"), 0, 2.5, 1.52, WEST),
        (h.picture(rng, 0.36, 0.28), 0, 3.1, 1.6, WEST),
        (f.table(rng, 1.0, 0.6, 0.42, WALNUT), 1.75, 1.9, 0, EAST),
        (h.magazines(rng, 1.0, 0.6, 4), 1.45, 1.9, 0.42, EAST),
        (h.things_on(rng, 0.9, 0.5, 3), 1.45, 1.9, 0.43, EAST),
        (f.shelf(rng, 1.0, 1.95, rows=5, color=WALNUT), 0.62, 3.74),
        (f.cabinet(rng, 1.3, 0.8, 0.38, (1, 3), PINE), 3.0, 3.74),
        (h.things_on(rng, 1.2, 0.34, 5), 3.0, 3.55, 0.8),
        (h.picture(rng, 0.5, 0.4, "coffee.png"), 2.75, 3.74, 1.6),
        (h.picture(rng, 0.3, 0.4), 3.35, 3.74, 1.55),
        (h.picture(rng, 0.42, 0.55, "chelsea.png"), 3.7, 3.37, 1.55, EAST),
        (h.picture(rng, 0.45, 0.6, "rocket.jpg"), 4.07, 3.0, 1.5),
        (f.sofa(rng, 0.9), 3.15, 0.35, 0, SOUTH + 28),
        (f.cabinet(rng, 1.3, 0.5, 0.38, (1, 2), WHITE, paint=True), 1.75, 0.02, 0, SOUTH),
        (h.things_on(rng, 1.2, 0.34, 5), 1.75, 0.21, 0.5, SOUTH),
        (h.floor_lamp(rng), 0.35, 0.4),
        (h.plant(rng), 4.13, 0.31),
        (h.picture(rng, 0.4, 0.5, "moon.png"), 0.45, 0, 1.6, SOUTH),
        (h.picture(rng, 0.5, 0.4), 3.7, 0, 1.6, SOUTH),
        (h.picture(rng, 0.34, 0.44, "camera.png"), 4.44, 2.5, 1.55, EAST),
        (h.picture(rng, 0.4, 0.3), 4.44, 0.55, 1.5, EAST),
    )


def kitchen(rng: np.random.Generator) -> list[Patch]:
    color = (116, 138, 142)

    def glazed(rng: np.random.Generator, size: Size) -> np.ndarray:
        return textures.stone(rng, size, textures.muted(rng, (0.6, 0.9), (0.05, 0.4)), 0.05)

    backsplash = textures.tiling(rng, pixels(3.84, 0.25), (24, 48), glazed, 2, shift=0.5)
    return arrange(
        (f.counter(rng, 3.6, color, stove=-0.9), 6.5, 0, 0, SOUTH),
        (h.things_on(rng, 1.4, 0.3, 6), 7.6, 0.25, 0.9),
        (h.things_on(rng, 0.8, 0.3, 4), 5.3, 0.22, 0.9),
        (
            [quad((-1.92, -0.004, 0.25), (3.84, 0, 0), (0, 0, -0.25), backsplash)],
            6.48,
            0,
            0.9,
            SOUTH,
        ),
        (f.cabinet(rng, 1.2, 0.7, 0.34, (1, 2), color, foot=0.0, paint=True), 5.3, 0, 1.45, SOUTH),
        (
            f.cabinet(rng, 0.95, 0.7, 0.34, (1, 2), color, foot=0.0, paint=True),
            7.85,
            0,
            1.45,
            SOUTH,
        ),
        (f.fridge(rng), 8.4, 1.05, 0, EAST),
        (f.table(rng, 1.15, 0.75, 0.75, PINE), 8.36, 2.4, 0, EAST),
        (h.things_on(rng, 0.9, 0.6, 4), 7.985, 2.4, 0.755, EAST),
        (h.magazines(rng, 1.0, 0.7, 3), 7.985, 2.4, 0.755, EAST),
        (f.chair(rng), 7.25, 2.35, 0, WEST + 8),
        (f.chair(rng), 7.95, 3.2, 0, NORTH - 6),
        (f.chair(rng), 7.9, 1.52, 0, SOUTH + 11),
        (h.picture(rng, 0.7, 0.5, "coffee.png"), 8.4, 2.4, 1.5, EAST),
        (h.poster(rng, 0.42, 0.6), 8.4, 1.75, 1.55, EAST),
        (f.shelf(rng, 0.9, 1.8, rows=5, color=OAK, fill=0.3), 5.45, 3.34),
        (h.picture(rng, 0.4, 0.4, "coins.png"), 7.45, 3.34, 1.6),
        (h.poster(rng, 0.36, 0.5), 7.98, 3.34, 1.55),
        (h.poster(rng, 0.4, 0.56), 4.56, 0.62, 1.7, WEST),
        (h.picture(rng, 0.32, 0.42), 4.56, 2.35, 1.6, WEST),
        (h.picture(rng, 0.22, 0.3), 4.56, 2.75, 1.55, WEST),
        (h.plant(rng, 0.9, 0.13), 4.9, 2.65),
    )


def bedroom(rng: np.random.Generator) -> list[Patch]:
    return arrange(
        (f.bed(rng), 8.38, 5.6, 0, EAST),
        (f.cabinet(rng, 0.45, 0.48, 0.38, (2, 1), OAK), 8.4, 4.5, 0, EAST),
        (h.things_on(rng, 0.36, 0.3, 2), 8.21, 4.5, 0.48, EAST),
        (f.cabinet(rng, 0.45, 0.48, 0.38, (2, 1), OAK), 8.4, 6.72, 0, EAST),
        (h.things_on(rng, 0.36, 0.3, 2), 8.21, 6.72, 0.48, EAST),
        (h.picture(rng, 1.1, 0.7, "hubble_deep_field.jpg"), 8.4, 5.6, 1.6, EAST),
        (f.cabinet(rng, 1.1, 2.05, 0.58, (1, 2), PINE), 7.82, 3.46, 0, SOUTH),
        (f.cabinet(rng, 1.05, 0.85, 0.44, (3, 2), WALNUT), 4.75, 7.2),
        (h.things_on(rng, 1.0, 0.4, 4), 4.75, 6.98, 0.85),
        (h.picture(rng, 0.6, 0.45, "retina.jpg"), 4.72, 7.2, 1.55),
        (h.picture(rng, 0.45, 0.55, "chelsea.png"), 7.5, 7.2, 1.55),
        (f.shelf(rng, 0.9, 1.2, rows=3, color=WHITE), 5.5, 3.46, 0, SOUTH),
        (h.things_on(rng, 0.8, 0.24, 3), 5.5, 3.6, 1.2),
        (h.picture(rng, 0.6, 0.45, "rocket.jpg"), 5.5, 3.46, 1.75, SOUTH),
        (h.picture(rng, 0.3, 0.4), 4.9, 3.83, 1.55, WEST),
        (h.picture(rng, 0.4, 0.5, "astronaut.png"), 4.52, 4.2, 1.5, SOUTH),
        (h.coats(rng), 4.16, 4.75, 1.75, WEST),
        (h.picture(rng, 0.36, 0.48), 4.16, 6.7, 1.6, WEST),
        (f.chair(rng, WALNUT), 6.95, 6.95, 0, NORTH - 20),
        (h.carpet(rng, 1.2, 1.7, "coffee.png"), 5.6, 5.5),
        (h.plant(rng, 1.3), 7.25, 4.36),
    )


def study(rng: np.random.Generator) -> list[Patch]:
    return arrange(
        (f.desk(rng, 1.5), 1.35, 7.2),
        (f.chair(rng, WALNUT), 1.3, 5.95, 0, SOUTH + 25),
        (h.poster(rng, 0.5, 0.7), 0.75, 7.2, 1.65),
        (h.picture(rng, 0.6, 0.45, "moon.png"), 1.5, 7.2, 1.65),
        (f.shelf(rng, 1.0, 2.0, rows=6, color=PINE), 0, 4.5, 0, WEST),
        (f.shelf(rng, 1.0, 2.0, rows=6, color=PINE), 0, 5.55, 0, WEST),
        (f.cabinet(rng, 1.2, 0.8, 0.4, (2, 2), OAK), 2.95, 7.2),
        (h.things_on(rng, 1.1, 0.36, 5), 2.95, 7.0, 0.8),
        (f.cabinet(rng, 1.0, 1.1, 0.4, (2, 2), (164, 92, 70), paint=True), 3.05, 3.86, 0, SOUTH),
        (h.things_on(rng, 0.9, 0.36, 4), 3.05, 4.06, 1.1, SOUTH),
        (h.picture(rng, 0.6, 0.45, "logo.png"), 3.05, 3.86, 1.75, SOUTH),
        (h.poster(rng, 0.45, 0.65), 0.85, 3.86, 1.6, SOUTH),
        (h.picture(rng, 0.4, 0.3, "retina.jpg"), 0, 6.4, 1.6, WEST),
        (h.poster(rng, 0.5, 0.7), 4.04, 4.75, 1.55, EAST),
        (h.picture(rng, 0.5, 0.66, "ihc.png"), 4.04, 6.65, 1.55, EAST),
        (h.carpet(rng, 1.6, 1.3, "retina.jpg"), 2.35, 5.35, 0, 8),
        (h.carton(rng, 0.38), 3.75, 4.45, 0, 7),
        (h.carton(rng, 0.4), 0.3, 6.7, 0, -12),
        (h.carton(rng, 0.34), 3.8, 6.95, 0, 4),
        (h.plant(rng, 1.0), 3.72, 6.5),
    )


def planks(rng: np.random.Generator, size: Size, color: Color, along: int = 1) -> np.ndarray:
    def plank(rng: np.random.Generator, size: Size) -> np.ndarray:
        return textures.wood(rng, size, color)

    image = textures.tiling(
        rng, size if along else size[::-1], (40, 300), plank, 1, (58, 40, 28), None, 0.09
    )
    return image if along else np.ascontiguousarray(image.transpose(1, 0, 2))


def floor_tiles(rng: np.random.Generator, size: Size) -> np.ndarray:
    def tile(rng: np.random.Generator, size: Size) -> np.ndarray:
        return textures.stone(rng, size, (176, 166, 150))

    return textures.tiling(rng, size, (100, 100), tile, 2, (120, 112, 104), 0.0, 0.06)


def bricks(rng: np.random.Generator, size: Size) -> np.ndarray:
    def brick(rng: np.random.Generator, size: Size) -> np.ndarray:
        return textures.fabric(rng, size, (160, 96, 74), 0.1)

    return textures.tiling(rng, size, (22, 68), brick, 3, (186, 178, 166), 0.5, 0.13)


def wallpaper(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Stripes of two tints, for the wall behind the bed."""
    image = textures.plain(rng, size, (186, 176, 168))
    for x in range(0, size[1], 60):
        image[:, x : x + 30] = textures.fabric(
            rng, image[:, x : x + 30].shape[:2], (158, 148, 150), 0.05
        )
    return image
