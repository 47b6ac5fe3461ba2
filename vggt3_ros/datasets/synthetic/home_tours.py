"""Rendered homes with any number of rooms, for tests of growing maps.

sequence = home_tours.load("homes/16", rooms=16)    # rendered once, in the TUM layout
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.datasets.synthetic import home
from vggt3_ros.datasets.synthetic.apartment import record, write_once
from vggt3_ros.datasets.synthetic.render import Renderer
from vggt3_ros.datasets.synthetic.rooms import WALL
from vggt3_ros.datasets.tum import Progress, load_tum

VERSION = 1  # of the rendered data
STAMP = "home.json"


def sequence(
    rooms: int,
    rounds: int = 1,
    queries_per_room: int = 4,
    seed: int = 0,
    threads: int = 0,
    keyframes: int | None = None,
) -> Sequence:
    """Return a Sequence through `rooms` rooms, about 35 keyframes per round in each, rendered on
    demand, with drifting odometry.

    keyframes: end the tour after this many. Raise ValueError for more than 64 rooms or 20 rounds.
    """
    if not 1 <= rooms <= 64 or not 1 <= rounds <= 20:
        raise ValueError(
            f"a home must have 1 to 64 rooms and 1 to 20 rounds in each, got {rooms} and {rounds}"
        )
    return record(
        f"home of {rooms}",
        _renderer(rooms, seed, threads),
        home.tour(rooms, rounds),
        keyframes,
        queries_per_room * rooms,
        seed,
    )


def load(folder: str | Path, progress: Progress = tqdm, **options: object) -> Sequence:
    """Return :func:`sequence`, rendered into `folder` unless it already contains it, and read from
    its files.
    """
    return load_tum(write_once(Path(folder), STAMP, VERSION, sequence, progress, options))


def room_of(T_world_cam: np.ndarray) -> np.ndarray:
    """Return the number (N,) of the room that contains each camera, for poses (N, 4, 4)."""
    columns, rows = (
        np.floor_divide(T_world_cam[:, axis, 3] + WALL / 2, size + WALL).astype(int)
        for axis, size in ((0, home.WIDTH), (1, home.DEPTH))
    )
    return np.asarray(rows * home.COLUMNS) + np.where(
        rows % 2 == 0, columns, home.COLUMNS - 1 - columns
    )


@lru_cache(maxsize=1)
def _renderer(rooms: int, seed: int, threads: int) -> Renderer:
    return Renderer(*home.home(rooms, seed), seed=seed, threads=threads)
