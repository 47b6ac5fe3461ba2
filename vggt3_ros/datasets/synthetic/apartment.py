"""A rendered apartment with exact ground truth: RGB-D keyframes of a walk through four rooms and
back, with drifting odometry.

    sequence = apartment.sequence()                # rendered frame by frame on demand
    folder = apartment.write("demo/apartment")     # rendered once, in the TUM layout, then reused
"""

import json
import shutil
from collections.abc import Callable, Mapping
from collections.abc import Sequence as AnySequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vggt3_ros.datasets.drift import drifting_odometry
from vggt3_ros.datasets.sequence import KeyframeList, Query, Sequence
from vggt3_ros.datasets.synthetic import sensor, twins
from vggt3_ros.datasets.synthetic.flat import flat
from vggt3_ros.datasets.synthetic.lighting import Lamp
from vggt3_ros.datasets.synthetic.patches import Patch
from vggt3_ros.datasets.synthetic.render import Frame, Renderer
from vggt3_ros.datasets.synthetic.scene import Scene
from vggt3_ros.datasets.synthetic.walk import off_the_path, pick_keyframes, walk
from vggt3_ros.datasets.tum import Progress, load_tum, write_tum
from vggt3_ros.geometry.camera import Camera

Plan = Callable[[int], tuple[list[Patch], list[Lamp]]]  # seed -> scene
VERSION = 2  # of the rendered data: folders of other versions are rendered again
QUERIES, ATE = 50, 0.35
CAMERA = Camera(640, 480, 525.0, 525.0, 319.5, 239.5)
_STAMP = "apartment.json"

# x, y, yaw in degrees: around the four rooms, then back through two of them. The end coincides with
# the start.
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
    keyframes: int | None = None,
    queries: int = QUERIES,
    seed: int = 0,
    camera: Camera = CAMERA,
    ate: float = ATE,
    depth_noise: float = 1.0,
    covariances: bool = False,
    threads: int = 0,
) -> Sequence:
    """Return a Sequence whose frames are rendered on demand (0.2 s each; the first call prepares
    the flat, which takes seconds).

    keyframes: about 0.3 m or 13.5 degrees apart. The default is one round, about 123, which closes
    the loop through the rooms, revisits the second room and returns; fewer end the walk early,
    more add rounds. queries: images off the path, 0.1-0.4 m and 5-20 degrees from the nearest
    keyframe, with exact truth. camera: undistorted. seed: of the flat, the walk, the noise and the
    drift. ate: error of the odometry after alignment, metres. depth_noise: see
    sensor.measure_depth; 0 = exact. covariances: attach those of the odometry to the keyframes.
    threads: number of CPU threads, 0 for all.
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


def surfaces(seed: int = 0, threads: int = 0) -> Scene:
    """Return the Scene of the flat's true surfaces, in the frame of the ground truth; its
    `distance(points)` measures the error of a map.
    """
    return _scene(seed, threads)


def surfaces_of(folder: str | Path) -> Scene | None:
    """Return :func:`surfaces` for a folder written by :func:`write`; None for other folders or
    other versions.
    """
    path = Path(folder) / _STAMP
    stamp = json.loads(path.read_text()) if path.exists() else {}
    return surfaces(stamp["seed"]) if stamp.get("version") == VERSION else None


def twin_rooms(
    come_back: bool = False,
    keyframes: int | None = None,
    queries: int = 0,
    seed: int = 0,
    camera: Camera = CAMERA,
    ate: float = ATE,
    depth_noise: float = 1.0,
    covariances: bool = False,
    threads: int = 0,
) -> Sequence:
    """Return a Sequence through a room, a corridor and a second room that is an exact copy of the
    first, `twins.APART` metres along x.

    come_back: then return through the corridor to the first room, which adds true loops to the
    false ones that the copy suggests. Other arguments are those of :func:`sequence`; by default
    all keyframes of the walk are used.
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


def write(folder: str | Path, progress: Progress = tqdm, **options: object) -> Path:
    """Render `sequence(**options)` into `folder` in the TUM layout, unless it already contains it.
    Return the folder.

    An apartment written with other options or by another version is replaced. Raise ValueError if
    the folder contains anything else.
    """
    return write_once(Path(folder), _STAMP, VERSION, sequence, progress, options)


def write_once(
    folder: Path,
    stamp_file: str,
    version: int,
    make: Callable[..., Sequence],
    progress: Progress,
    options: Mapping[str, object],
) -> Path:
    """Render `make(**options)` into `folder` unless folder/stamp_file records the same options and
    version. Return the folder. Raise ValueError if it contains other files.
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
            f"{folder} contains other files: name an empty folder for the {stamp_file.removesuffix('.json')}"
        )
    partial = folder.with_name(folder.name + ".partial")
    for old in (partial, folder):
        shutil.rmtree(old, ignore_errors=True)
    write_tum(partial, make(**options), progress)
    (partial / stamp_file).write_text(stamp)
    partial.rename(folder)
    return folder


def load(folder: str | Path, progress: Progress = tqdm, **options: object) -> Sequence:
    """Return the sequence of :func:`write`, read from its files."""
    return load_tum(write(folder, progress, **options))


@lru_cache(maxsize=1)
def _scene(seed: int, threads: int) -> Scene:
    return Scene(flat(seed)[0], threads)


@lru_cache(maxsize=1)
def _renderer(plan: Plan, seed: int, threads: int) -> Renderer:
    return Renderer(*plan(seed), seed=seed, threads=threads)


def record(
    name: str,
    renderer: Renderer,
    tour: AnySequence[tuple[float, float, float]],
    keyframes: int | None = None,
    queries: int = 0,
    seed: int = 0,
    camera: Camera = CAMERA,
    ate: float = ATE,
    depth_noise: float = 1.0,
    covariances: bool = False,
) -> Sequence:
    """Return a Sequence of a walk along `tour` (way points x, y, yaw) through the scene of
    `renderer`.

    Other arguments are those of :func:`sequence`. Raise ValueError if a tour that is not closed
    has fewer than `keyframes` keyframes.
    """
    stamps, path = walk(tour, seed)
    picked = pick_keyframes(path)
    while len(picked) < (keyframes or 0):
        if tour[0][:2] != tour[-1][:2]:
            raise ValueError(f"{name} has {len(picked)} keyframes, {keyframes} were requested")
        tour = [*tour, *tour[1:]]
        stamps, path = walk(tour, seed)
        picked = pick_keyframes(path)
    picked = picked[:keyframes]
    stamps, truth = stamps[picked], path[picked]
    odometry, covariance = drifting_odometry(truth, seed, ate)

    @lru_cache(maxsize=4)  # the image and the depth of a keyframe share one rendering
    def rendered(index: int) -> Frame:
        return renderer.render(camera, truth[index])

    def image(i: int) -> np.ndarray:
        return sensor.photograph(rendered(i).color, np.random.default_rng([seed, 5, i]))

    def depth(i: int) -> np.ndarray:
        return sensor.measure_depth(rendered(i), np.random.default_rng([seed, 6, i]), depth_noise)

    asked = off_the_path(truth, queries, renderer.scene, seed) if queries else np.zeros((0, 4, 4))

    def query_image(i: int) -> np.ndarray:
        color = renderer.render(camera, asked[i]).color
        return sensor.photograph(color, np.random.default_rng([seed, 7, i]))

    return Sequence(
        name,
        camera,
        stamps,
        KeyframeList(camera, stamps, odometry, image, depth, covariance if covariances else None),
        truth,
        [
            Query(int(stamps[-1] + (i + 1) * 10**9), partial(query_image, i), asked[i])
            for i in range(len(asked))
        ],
    )
