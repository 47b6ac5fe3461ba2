"""Rendered homes of any number of rooms, for what has to hold when maps grow.

sequence = home.load("homes/16", rooms=16)    # rendered once, in the TUM layout
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vggt3_ros.datasets.synthetic import home
from vggt3_ros.datasets.synthetic.apartment import record, write_once
from vggt3_ros.datasets.synthetic.render import Renderer
from vggt3_ros.datasets.tum import load_tum

VERSION = 1  # of what is rendered
STAMP = "home.json"


def sequence(rooms, rounds=1, queries_per_room=4, seed=0, threads=0, keyframes=None):
    """A Sequence through `rooms` rooms, about 35 keyframes a round in each, rendered when asked
    for; its odometry drifts.

    keyframes: end the tour after so many.
    """
    if not 1 <= rooms <= 64 or not 1 <= rounds <= 20:
        raise ValueError(
            f"a home has 1 to 64 rooms and 1 to 20 rounds in each, got {rooms} and {rounds}"
        )
    return record(
        f"home of {rooms}",
        _renderer(rooms, seed, threads),
        home.tour(rooms, rounds),
        keyframes,
        queries_per_room * rooms,
        seed,
    )


def load(folder, progress=tqdm, **options):
    """:func:`sequence`, rendered into `folder` unless it holds just that already, read from its
    files.
    """
    return load_tum(write_once(Path(folder), STAMP, VERSION, sequence, progress, options))


def room_of(T_world_cam):
    """(N, 4, 4) -> (N,) number of the room that each camera is in."""
    columns, rows = (
        np.floor_divide(T_world_cam[:, axis, 3] + home.WALL / 2, size + home.WALL).astype(int)
        for axis, size in ((0, home.WIDTH), (1, home.DEPTH))
    )
    return rows * home.COLUMNS + np.where(rows % 2 == 0, columns, home.COLUMNS - 1 - columns)


@lru_cache(maxsize=1)
def _renderer(rooms, seed, threads):
    return Renderer(*home.home(rooms, seed), seed=seed, threads=threads)
