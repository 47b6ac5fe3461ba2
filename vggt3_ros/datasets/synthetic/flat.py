"""The plan and the furniture of the rendered flat: four rooms in a ring around a core, each joined to the next by a door."""

import numpy as np

from vggt3_ros.datasets import furniture as f
from vggt3_ros.datasets import textures
from vggt3_ros.datasets.patches import place, quad
from vggt3_ros.datasets.rooms import Door, Room, Window, build

NORTH, EAST, SOUTH, WEST = 0, -90, 180, 90  # yaw of a piece whose back is to that wall

LIVING = ((0, 0), (0, 3.74), (3.7, 3.74), (3.7, 3.0), (4.44, 3.0), (4.44, 0))
KITCHEN = ((4.56, 0), (4.56, 3.0), (4.9, 3.0), (4.9, 3.34), (8.4, 3.34), (8.4, 0))
BEDROOM = ((4.9, 3.46), (4.9, 4.2), (4.16, 4.2), (4.16, 7.2), (8.4, 7.2), (8.4, 3.46))
STUDY = ((0, 3.86), (0, 7.2), (4.04, 7.2), (4.04, 4.2), (3.7, 4.2), (3.7, 3.86))
DOORS = (Door(4.5, 1.5, None), Door(6.6, 3.4, 95.0), Door(4.1, 5.7, None), Door(1.8, 3.8, 100.0))
WINDOWS = (Window(2.0, 0, 1.7, curtain=(150, 120, 96)), Window(6.7, 0, 1.2, 1.15, 2.1), Window(5.9, 7.2, 1.4, curtain=(96, 116, 140)),
           Window(2.9, 7.2, 1.2, curtain=None))


def flat(seed=0):
    """Patches and Lamps of the furnished flat, 8.4 x 7.2 x 2.5 m with its south-west corner at the origin, z up."""
    rng = np.random.default_rng([seed, 1])
    rooms = (
        Room(LIVING, (214, 204, 184), lambda r, s: planks(r, s, (172, 124, 80)), ((2.2, 1.9),),
             accents=((0, (150, 162, 156)), (2, lambda r, s: bricks(r, s)))),
        Room(KITCHEN, (222, 216, 204), lambda r, s: floor_tiles(r, s), ((6.4, 1.8),), (0.95, 0.98, 1.0), accents=((4, (206, 178, 120)),)),
        Room(BEDROOM, (206, 210, 214), lambda r, s: textures.fabric(r, s, (138, 128, 116), 0.1), ((6.3, 5.4),), (1.0, 0.88, 0.72),
             accents=((4, lambda r, s: wallpaper(r, s)),)),
        Room(STUDY, (212, 208, 190), lambda r, s: planks(r, s, (120, 84, 56), along=0), ((2.0, 5.5),), (1.0, 0.95, 0.88),
             accents=((5, (124, 136, 116)),)),
    )
    patches, lamps = build(rng, rooms, DOORS, WINDOWS)
    for furnish in (living, kitchen, bedroom, study):
        patches += furnish(rng)
    return patches, lamps


def living(rng):
    rug = textures.rug(rng, f.pixels(2.1, 1.7), "ihc.png")
    parts = [quad((0.75, 2.75, 0.012), (2.1, 0, 0), (0, -1.7, 0), rug)]
    parts += place(f.sofa(rng, 2.1), 0.02, 1.9, 0, WEST)
    parts += place(f.picture(rng, 0.95, 0.65, "motorcycle_left.png") , 0, 1.5, 1.55, WEST)
    parts += place(f.picture(rng, 0.5, 0.62, "astronaut.png"), 0, 2.5, 1.52, WEST)
    parts += place(f.picture(rng, 0.36, 0.28), 0, 3.1, 1.6, WEST)
    top = place(f.table(rng, 1.0, 0.6, 0.42, f.WALNUT) + place(f.magazines(rng, 1.0, 0.6, 4), 0, -0.3, 0.42)
                + place(f.things_on(rng, 0.9, 0.5, 3), 0, -0.3, 0.43), 1.75, 1.9, 0, EAST)
    parts += top
    parts += place(f.shelf(rng, 1.0, 1.95, rows=5, color=f.WALNUT), 0.62, 3.74, 0, NORTH)
    parts += place(f.cabinet(rng, 1.3, 0.8, 0.38, (1, 3), f.PINE) + place(f.things_on(rng, 1.2, 0.34, 5), 0, -0.19, 0.8), 3.0, 3.74, 0, NORTH)
    parts += place(f.picture(rng, 0.5, 0.4, "coffee.png"), 2.75, 3.74, 1.6, NORTH) + place(f.picture(rng, 0.3, 0.4), 3.35, 3.74, 1.55, NORTH)
    parts += place(f.picture(rng, 0.42, 0.55, "chelsea.png"), 3.7, 3.37, 1.55, EAST)
    parts += place(f.picture(rng, 0.45, 0.6, "rocket.jpg"), 4.07, 3.0, 1.5, NORTH)
    parts += place(f.sofa(rng, 0.9), 3.15, 0.35, 0, SOUTH + 28)
    parts += place(f.cabinet(rng, 1.3, 0.5, 0.38, (1, 2), f.WHITE, paint=True) + place(f.things_on(rng, 1.2, 0.34, 5), 0, -0.19, 0.5), 1.75, 0.02, 0, SOUTH)
    parts += place(f.floor_lamp(rng), 0.35, 0.4) + place(f.plant(rng), 4.15, 0.3)
    parts += place(f.picture(rng, 0.4, 0.5, "moon.png"), 0.45, 0, 1.6, SOUTH) + place(f.picture(rng, 0.5, 0.4), 3.7, 0, 1.6, SOUTH)
    parts += place(f.picture(rng, 0.34, 0.44, "camera.png"), 4.44, 2.5, 1.55, EAST) + place(f.picture(rng, 0.4, 0.3), 4.44, 0.55, 1.5, EAST)
    return parts


def kitchen(rng):
    color = (116, 138, 142)
    parts = place(f.counter(rng, 3.6, color, stove=-0.9), 6.5, 0.0, 0, SOUTH)
    parts += place(f.things_on(rng, 1.4, 0.3, 6), 7.6, 0.25, 0.9) + place(f.things_on(rng, 0.8, 0.3, 4), 5.3, 0.22, 0.9)
    backsplash = textures.tiling(rng, f.pixels(3.84, 0.25), (24, 48), lambda r, s: textures.stone(r, s, textures.muted(r, (0.6, 0.9), (0.05, 0.4)), 0.05), 2, shift=0.5)
    parts.append(quad((8.4, 0.004, 1.15), (-3.84, 0, 0), (0, 0, -0.25), backsplash))
    for x, width in ((5.3, 1.2), (7.85, 0.95)):
        parts += place(f.cabinet(rng, width, 0.7, 0.34, (1, 2), color, foot=0.0, paint=True), x, 0, 1.45, SOUTH)
    parts += place(f.fridge(rng), 8.4, 1.05, 0, EAST)
    set_ = f.table(rng, 1.15, 0.75, 0.75, f.PINE) + place(f.things_on(rng, 0.9, 0.6, 4) + f.magazines(rng, 1.0, 0.7, 3), 0, -0.375, 0.755)
    parts += place(set_, 8.36, 2.4, 0, EAST)
    for x, y, yaw in ((7.25, 2.35, WEST), (7.95, 3.2, NORTH), (7.9, 1.52, SOUTH)):
        parts += place(f.chair(rng), x, y, 0, yaw + rng.uniform(-12, 12))
    parts += place(f.picture(rng, 0.7, 0.5, "coffee.png"), 8.4, 2.4, 1.5, EAST) + place(f.poster(rng, 0.42, 0.6), 8.4, 1.75, 1.55, EAST)
    parts += place(f.shelf(rng, 0.9, 1.8, rows=5, color=f.OAK, fill=0.3), 5.45, 3.34, 0, NORTH)
    parts += place(f.picture(rng, 0.4, 0.4, "coins.png"), 7.45, 3.34, 1.6, NORTH) + place(f.poster(rng, 0.36, 0.5), 7.98, 3.34, 1.55, NORTH)
    parts += place(f.poster(rng, 0.4, 0.56), 4.56, 0.62, 1.7, WEST) + place(f.picture(rng, 0.32, 0.42), 4.56, 2.35, 1.6, WEST)
    parts += place(f.picture(rng, 0.22, 0.3), 4.56, 2.75, 1.55, WEST)
    parts += place(f.plant(rng, 0.9, 0.13), 4.85, 2.75)
    return parts


def bedroom(rng):
    parts = place(f.bed(rng), 8.38, 5.6, 0, EAST)
    for y in (4.5, 6.72):
        parts += place(f.cabinet(rng, 0.45, 0.48, 0.38, (2, 1), f.OAK) + place(f.things_on(rng, 0.36, 0.3, 2), 0, -0.19, 0.48), 8.4, y, 0, EAST)
    parts += place(f.picture(rng, 1.1, 0.7, "hubble_deep_field.jpg"), 8.4, 5.6, 1.6, EAST)
    parts += place(f.cabinet(rng, 1.1, 2.05, 0.58, (1, 2), f.PINE), 7.82, 3.46, 0, SOUTH)
    parts += place(f.cabinet(rng, 1.05, 0.85, 0.44, (3, 2), f.WALNUT) + place(f.things_on(rng, 1.0, 0.4, 4), 0, -0.22, 0.85), 4.75, 7.2, 0, NORTH)
    parts += place(f.picture(rng, 0.6, 0.45, "retina.jpg"), 4.72, 7.2, 1.55, NORTH) + place(f.picture(rng, 0.45, 0.55, "chelsea.png"), 7.5, 7.2, 1.55, NORTH)
    parts += place(f.shelf(rng, 0.9, 1.2, rows=3, color=f.WHITE), 5.5, 3.46, 0, SOUTH) + place(f.things_on(rng, 0.8, 0.24, 3), 5.5, 3.6, 1.2)
    parts += place(f.picture(rng, 0.6, 0.45, "rocket.jpg"), 5.5, 3.46, 1.75, SOUTH)
    parts += place(f.picture(rng, 0.3, 0.4), 4.9, 3.83, 1.55, WEST) + place(f.picture(rng, 0.4, 0.5, "astronaut.png"), 4.52, 4.2, 1.5, SOUTH)
    parts += place(f.coats(rng), 4.16, 4.75, 1.75, WEST) + place(f.picture(rng, 0.36, 0.48), 4.16, 6.7, 1.6, WEST)
    parts += place(f.chair(rng, f.WALNUT), 6.95, 6.95, 0, NORTH - 20)
    rug = textures.rug(rng, f.pixels(1.2, 1.7), "coffee.png")
    parts += place([quad((-0.6, 0.85, 0.012), (1.2, 0, 0), (0, -1.7, 0), rug)], 5.6, 5.5)
    parts += place(f.plant(rng, 1.3), 7.25, 4.35)
    return parts


def study(rng):
    parts = place(f.desk(rng, 1.5), 1.35, 7.2, 0, NORTH) + place(f.chair(rng, f.WALNUT), 1.3, 5.95, 0, SOUTH + 25)
    parts += place(f.poster(rng, 0.5, 0.7), 0.75, 7.2, 1.65, NORTH) + place(f.picture(rng, 0.6, 0.45, "moon.png"), 1.5, 7.2, 1.65, NORTH)
    for y in (4.5, 5.55):
        parts += place(f.shelf(rng, 1.0, 2.0, rows=6, color=f.PINE), 0, y, 0, WEST)
    parts += place(f.cabinet(rng, 1.2, 0.8, 0.4, (2, 2), f.OAK) + place(f.things_on(rng, 1.1, 0.36, 5), 0, -0.2, 0.8), 2.95, 7.2, 0, NORTH)
    parts += place(f.cabinet(rng, 1.0, 1.1, 0.4, (2, 2), (164, 92, 70), paint=True) + place(f.things_on(rng, 0.9, 0.36, 4), 0, -0.2, 1.1), 3.05, 3.86, 0, SOUTH)
    parts += place(f.picture(rng, 0.6, 0.45, "logo.png"), 3.05, 3.86, 1.75, SOUTH) + place(f.poster(rng, 0.45, 0.65), 0.85, 3.86, 1.6, SOUTH)
    parts += place(f.picture(rng, 0.4, 0.3, "retina.jpg"), 0, 6.4, 1.6, WEST) + place(f.poster(rng, 0.5, 0.7), 4.04, 4.75, 1.55, EAST)
    parts += place(f.picture(rng, 0.5, 0.66, "ihc.png"), 4.04, 6.65, 1.55, EAST)
    rug = textures.rug(rng, f.pixels(1.6, 1.3), "retina.jpg")
    parts += place([quad((-0.8, 0.65, 0.012), (1.6, 0, 0), (0, -1.3, 0), rug)], 2.35, 5.35, 0, 8)
    for x, y, size in ((3.75, 4.45, 0.38), (0.3, 6.7, 0.4), (3.8, 6.95, 0.34)):
        parts += place(f.clad((0, 0, 0), (size, size, 0.8 * size), lambda s: textures.label(rng, s)), x, y, 0, rng.uniform(-15, 15))
    parts += place(f.plant(rng, 1.0), 3.75, 6.55)
    return parts


def planks(rng, size, color, along=1):
    image = textures.tiling(rng, size if along else size[::-1], (40, 300), lambda r, s: textures.wood(r, s, color), 1, (58, 40, 28), None, 0.09)
    return image if along else np.ascontiguousarray(image.transpose(1, 0, 2))


def floor_tiles(rng, size):
    return textures.tiling(rng, size, (100, 100), lambda r, s: textures.stone(r, s, (176, 166, 150)), 2, (120, 112, 104), 0.0, 0.06)


def bricks(rng, size):
    return textures.tiling(rng, size, (22, 68), lambda r, s: textures.fabric(r, s, (160, 96, 74), 0.1), 3, (186, 178, 166), 0.5, 0.13)


def wallpaper(rng, size):
    """Stripes of two tints."""
    image = textures.plain(rng, size, (186, 176, 168))
    for x in range(0, size[1], 60):
        image[:, x:x + 30] = textures.fabric(rng, image[:, x:x + 30].shape[:2], (158, 148, 150), 0.05)
    return image
