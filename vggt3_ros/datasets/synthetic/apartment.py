"""A rendered apartment whose truth is exact: RGB-D keyframes of a walk through four rooms and
back, with drifting odometry.

    sequence = apartment.sequence()               # rendered frame by frame, when asked for folder
    = apartment.write("demo/apartment")    # rendered once, in the TUM layout; a second call finds
    it there
"""

import json
import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vggt3_ros.datasets.drift import drifting_odometry
from vggt3_ros.datasets.sequence import KeyframeList, Query, Sequence
from vggt3_ros.datasets.synthetic import sensor, twins
from vggt3_ros.datasets.synthetic.flat import flat
from vggt3_ros.datasets.synthetic.render import Renderer
from vggt3_ros.datasets.synthetic.scene import Scene
from vggt3_ros.datasets.synthetic.walk import off_the_path, pick_keyframes, walk
from vggt3_ros.datasets.tum import load_tum, write_tum
from vggt3_ros.geometry.camera import Camera

VERSION = 2  # of what is rendered: written folders of another version are made anew
QUERIES, ATE = 50, 0.35
CAMERA = Camera(640, 480, 525.0, 525.0, 319.5, 239.5)
_STAMP = "apartment.json"

# x, y, yaw in degrees: round the four rooms, then back through two of them. The end joins the
# start.
TOUR = (
    (2.75, 2.45, 180),
    (2.5, 2.65, 125),
    (2.6, 2.5, 60),
    (2.9, 2.3, 0),
    (2.95, 1.8, -60),
    (3.1, 1.6, -25),
    (3.9, 1.5, 0),
    (5.0, 1.5, -25),
    (5.6, 1.45, -55),
    (5.9, 1.6, 10),
    (6.2, 1.9, 60),
    (6.3, 2.0, 130),
    (6.55, 2.3, 90),
    (6.6, 3.2, 85),
    (6.58, 4.1, 60),
    (6.3, 4.55, 30),
    (5.95, 4.75, 65),
    (5.7, 5.0, 110),
    (5.6, 5.3, 165),
    (5.4, 5.6, 200),
    (4.6, 5.7, 180),
    (3.5, 5.6, 175),
    (2.9, 5.4, 135),
    (2.6, 5.2, 75),
    (2.5, 5.1, 20),
    (2.3, 5.0, -40),
    (1.9, 4.8, -105),
    (1.8, 3.9, -90),
    (1.9, 3.0, -85),
    (2.3, 2.6, -60),
    (2.9, 2.0, -20),
    (3.6, 1.5, 0),
    (4.6, 1.5, 10),
    (5.4, 1.65, 45),
    (5.5, 1.75, 115),
    (5.3, 1.6, 175),
    (4.4, 1.5, 180),
    (3.5, 1.75, 165),
    (2.75, 2.45, 180),
)


def sequence(
    keyframes=None,
    queries=QUERIES,
    seed=0,
    camera=CAMERA,
    ate=ATE,
    depth_noise=1.0,
    covariances=False,
    threads=0,
):
    """A Sequence rendered frame by frame when a frame is asked for (0.2 s each; the first call
    prepares the flat, seconds).

    keyframes: about 0.3 m or 13.5 degrees apart. By default one round, about 123, which closes the
    loop through the rooms, goes into the second room again and comes back; fewer end the walk
    early, more walk another round. queries: images off the path, 0.1-0.4 m and 5-20 degrees from
    the nearest keyframe, their truth exact too. camera: undistorted. seed: of the flat, the walk,
    the noise and the drift. ate: error of the odometry after alignment, metres. depth_noise: see
    sensor.measure_depth, 0 = exact. covariances: attach those of the odometry to the keyframes.
    threads: CPU threads, 0 for all.
    """
    renderer = _renderer(flat, seed, threads)
    return record(
        "apartment",
        renderer,
        TOUR,
        keyframes,
        queries,
        seed,
        camera,
        ate,
        depth_noise,
        covariances,
    )


def surfaces(seed=0, threads=0):
    """The Scene of the flat's true surfaces: its `distance(points)` judges a map. Points are in
    the frame of the ground truth.
    """
    return _scene(seed, threads)


def surfaces_of(folder):
    """:func:`surfaces` for a folder that :func:`write` made; None for any other folder, or one of
    another version.
    """
    path = Path(folder) / _STAMP
    stamp = json.loads(path.read_text()) if path.exists() else {}
    return surfaces(stamp["seed"]) if stamp.get("version") == VERSION else None


def twin_rooms(
    come_back=False,
    keyframes=None,
    queries=0,
    seed=0,
    camera=CAMERA,
    ate=ATE,
    depth_noise=1.0,
    covariances=False,
    threads=0,
):
    """A Sequence through a room, a corridor and a second room that is an exact copy of the first,
    `twins.APART` metres along x.

    come_back: then through the corridor into the first room again, which makes true loops beside
    the false ones the copy invites. Other arguments as for :func:`sequence`; by default all
    keyframes of the walk.
    """
    renderer, tour = _renderer(twins.twins, seed, threads), twins.tour(come_back)
    return record(
        "twin_rooms",
        renderer,
        tour,
        keyframes,
        queries,
        seed,
        camera,
        ate,
        depth_noise,
        covariances,
    )


def write(folder, progress=tqdm, **options):
    """Render `sequence(**options)` into `folder` in the TUM layout, unless it holds just that
    already. Returns the folder.

    An apartment written with other options or by another version is replaced; ValueError when the
    folder holds anything else.
    """
    return write_once(Path(folder), _STAMP, VERSION, sequence, progress, options)


def write_once(folder, stamp_file, version, make, progress, options):
    """The same for `make(**options)` of any kind: what folder/stamp_file says was made of which
    options, by which version.
    """
    chosen = {
        name: repr(value)
        for name, value in sorted(options.items())
        if name not in ("seed", "threads")
    }
    stamp = json.dumps({"version": version, "seed": options.get("seed", 0), **chosen})
    if (folder / stamp_file).exists() and (folder / stamp_file).read_text() == stamp:
        return folder
    if folder.exists() and any(folder.iterdir()) and not (folder / stamp_file).exists():
        raise ValueError(
            f"{folder} holds other files: name an empty folder for the {stamp_file.removesuffix('.json')}"
        )
    partial = folder.with_name(folder.name + ".partial")
    for old in (partial, folder):
        shutil.rmtree(old, ignore_errors=True)
    write_tum(partial, make(**options), progress)
    (partial / stamp_file).write_text(stamp)
    partial.rename(folder)
    return folder


def load(folder, progress=tqdm, **options):
    """The sequence of :func:`write`, read from its files."""
    return load_tum(write(folder, progress, **options))


@lru_cache(maxsize=1)
def _scene(seed, threads):
    return Scene(flat(seed)[0], threads)


@lru_cache(maxsize=1)
def _renderer(plan, seed, threads):
    return Renderer(*plan(seed), seed=seed, threads=threads)


def record(
    name,
    renderer,
    tour,
    keyframes=None,
    queries=0,
    seed=0,
    camera=CAMERA,
    ate=ATE,
    depth_noise=1.0,
    covariances=False,
):
    """A Sequence of a walk along `tour` (way points x, y, yaw) through what `renderer` shows;
    other arguments as for :func:`sequence`.
    """
    stamps, path = walk(tour, seed)
    picked = pick_keyframes(path)
    while len(picked) < (keyframes or 0):
        if tour[0][:2] != tour[-1][:2]:
            raise ValueError(f"{name} has {len(picked)} keyframes, {keyframes} were asked for")
        tour = tour + tour[1:]
        stamps, path = walk(tour, seed)
        picked = pick_keyframes(path)
    picked = picked[:keyframes]
    stamps, truth = stamps[picked], path[picked]
    odometry, covariance = drifting_odometry(truth, seed, ate)

    @lru_cache(maxsize=4)  # image and depth of a keyframe come from one rendering
    def rendered(index):
        return renderer.render(camera, truth[index])

    image = lambda i: sensor.photograph(rendered(i).color, np.random.default_rng([seed, 5, i]))
    depth = lambda i: sensor.measure_depth(
        rendered(i), np.random.default_rng([seed, 6, i]), depth_noise
    )
    asked = off_the_path(truth, queries, renderer.scene, seed) if queries else []
    query_image = lambda i: sensor.photograph(
        renderer.render(camera, asked[i]).color, np.random.default_rng([seed, 7, i])
    )
    return Sequence(
        name,
        camera,
        stamps,
        KeyframeList(camera, stamps, odometry, image, depth, covariance if covariances else None),
        truth,
        [
            Query(int(stamps[-1] + (i + 1) * 10**9), lambda i=i: query_image(i), asked[i])
            for i in range(len(asked))
        ],
    )
