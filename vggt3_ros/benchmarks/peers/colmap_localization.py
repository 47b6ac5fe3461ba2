"""Queries localized in a COLMAP model, as hloc does it: similar keyframes, matches, their points,
PnP.
"""

import time

import numpy as np
import pycolmap

from vggt3_ros.benchmarks.peers.colmap_database import ColmapDatabase, colmap_camera
from vggt3_ros.benchmarks.peers.given import Array, Given, Shot
from vggt3_ros.benchmarks.peers.image_pairs import query_pairs
from vggt3_ros.geometry import se3

LEAST_POINTS = 4  # that PnP takes


def localized(
    given: Given, database: ColmapDatabase, model: pycolmap.Reconstruction
) -> tuple[Array, Array]:
    """(T_map_query (Q, 4, 4), NaN where not localized; seconds (Q,), matching included and spread
    evenly).
    """
    answers = np.full((len(given.queries), 4, 4), np.nan)
    if not len(answers):
        return answers, np.zeros(0)
    started = time.perf_counter()
    database.add(given.queries)
    pairs = query_pairs(given)
    database.match(pairs)
    for k, query in enumerate(given.queries):
        keyframes = [keyframe for asked, keyframe in pairs if asked is query]
        pose = _pose(given, database, model, query, keyframes)
        if pose is not None:
            answers[k] = pose
    spent = (time.perf_counter() - started) / len(answers)
    return answers, np.full(len(answers), spent)


def _pose(
    given: Given,
    database: ColmapDatabase,
    model: pycolmap.Reconstruction,
    query: Shot,
    keyframes: list[Shot],
) -> Array | None:
    query_id = database.id_of[query.image]
    seen: dict[tuple[int, int], None] = {}  # keypoint of the query, point of the model
    for keyframe in keyframes:
        image_id = database.id_of[keyframe.image]
        if not model.exists_image(image_id) or not model.image(image_id).has_pose:
            continue
        points = model.image(image_id).points2D
        for own, theirs in database.agreeing(query_id, image_id).tolist():
            if points[theirs].has_point3D():
                seen[own, points[theirs].point3D_id] = None
    if len(seen) < LEAST_POINTS:
        return None
    pixels = database.keypoints(query_id)[[own for own, _ in seen]]
    in_world = np.array([model.point3D(point).xyz for _, point in seen])
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.random_seed = 0
    found = pycolmap.estimate_and_refine_absolute_pose(
        pixels, in_world, colmap_camera(given.camera), options
    )
    return None if found is None else world_from(found["cam_from_world"])


def world_from(cam_from_world: pycolmap.Rigid3d) -> Array:
    """COLMAP's pose -> T_world_cam (4, 4)."""
    T_cam_world = np.eye(4)
    T_cam_world[:3] = cam_from_world.matrix()
    return np.asarray(se3.inverse(T_cam_world))
