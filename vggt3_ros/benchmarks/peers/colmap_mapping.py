"""pycolmap as a contender: structure from motion over the keyframes, incremental (COLMAP) or
global (GLOMAP), and localization of the queries in its own model. Odometry and depth are not used;
scale is free.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from vggt3_ros.benchmarks.peers.colmap_database import SEED, ColmapDatabase, colmap_camera
from vggt3_ros.benchmarks.peers.colmap_localization import localized, world_from
from vggt3_ros.benchmarks.peers.given import Given
from vggt3_ros.benchmarks.peers.image_pairs import mapping_pairs
from vggt3_ros.benchmarks.peers.outcome import Clock, Outcome

INCREMENTAL, GLOBAL = "incremental", "global"


def contend(
    given: Given, folder: Path, features: str = "sift", mapper: str = INCREMENTAL
) -> Outcome:
    """Map with one of colmap_database.KINDS and one of INCREMENTAL, GLOBAL."""
    if mapper not in (INCREMENTAL, GLOBAL):
        raise ValueError(f"mapper must be {INCREMENTAL} or {GLOBAL}, got '{mapper}'")
    if mapper == GLOBAL and not hasattr(pycolmap, "global_mapping"):
        raise ValueError(
            f"pycolmap {pycolmap.__version__} has no global mapping: install pycolmap 4 or later"
        )
    clock = Clock()
    database = ColmapDatabase(given, folder, features)
    database.add(given.shots)
    database.match(mapping_pairs(given))
    map_with = incremental if mapper == INCREMENTAL else global_
    found = map_with(database.path, given.folder, folder)
    spent = clock.read()
    models = sorted(found.values(), key=lambda model: -model.num_reg_images())
    T_map_cam, model_of = np.full((len(given), 4, 4), np.nan), np.full(len(given), -1)
    keyframe_of = {database.id_of[shot.image]: k for k, shot in enumerate(given.shots)}
    for number, model in reversed(list(enumerate(models))):
        _check_camera(model, given)
        for image_id in model.reg_image_ids():
            k = keyframe_of[image_id]
            T_map_cam[k] = world_from(model.image(image_id).cam_from_world())
            model_of[k] = number
    if not models:
        raise ValueError("no model: too few images match")
    answers, seconds = localized(given, database, models[0])
    return Outcome(T_map_cam, model_of, False, *spent, answers, seconds)


def incremental(database: Path, images: Path, folder: Path) -> Any:
    """{number: Reconstruction} by COLMAP's defaults, the camera fixed."""
    options = pycolmap.IncrementalPipelineOptions()
    options.ba_refine_focal_length = options.ba_refine_extra_params = False
    options.random_seed, options.extract_colors = SEED, False
    return pycolmap.incremental_mapping(database, images, _made(folder / "models"), options)


def global_(database: Path, images: Path, folder: Path) -> Any:
    """{number: Reconstruction} by GLOMAP's defaults, the camera fixed."""
    options = pycolmap.GlobalPipelineOptions()
    adjustment = options.mapper.bundle_adjustment
    adjustment.refine_focal_length = adjustment.refine_extra_params = False
    options.mapper.bundle_adjustment = adjustment
    options.mapper.random_seed = SEED
    return pycolmap.global_mapping(database, images, _made(folder / "models"), options)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _check_camera(model: pycolmap.Reconstruction, given: Given) -> None:
    wanted = colmap_camera(given.camera).params
    for camera in model.cameras.values():
        if not np.allclose(camera.params, wanted, atol=1e-6):
            raise ValueError(f"pycolmap changed the camera that is given: {camera.params}")
