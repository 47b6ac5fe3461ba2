"""hloc's way of localization (Sarlin et al., CVPR 2019) as a baseline: keyframes at known poses,
points triangulated from matches among them, queries matched with similar keyframes, PnP.

hloc's own retrieval (NetVLAD) and features (SuperPoint, LightGlue) are replaced by this package's
VLAD and XFeat with LighterGlue, which run on a CPU and whose weights come with pip.
"""

from pathlib import Path

import numpy as np
import pycolmap

from vggt3_ros.benchmarks.peers.colmap_database import (
    LIGHTERGLUE,
    ColmapDatabase,
    colmap_camera,
)
from vggt3_ros.benchmarks.peers.colmap_localization import localized
from vggt3_ros.benchmarks.peers.given import Given
from vggt3_ros.benchmarks.peers.image_pairs import mapping_pairs
from vggt3_ros.benchmarks.peers.outcome import Clock, Outcome
from vggt3_ros.geometry import se3


def contend(given: Given, folder: Path, features: str = LIGHTERGLUE) -> Outcome:
    """Localize the queries against the keyframes whose pose is given. Metric, as the poses are."""
    if given.poses is None:
        raise ValueError("this localization needs keyframes with poses")
    clock = Clock()
    database = ColmapDatabase(given, folder, features)
    database.add(given.shots)
    database.match(mapping_pairs(given))
    posed = pycolmap.Reconstruction()
    posed.add_camera_with_trivial_rig(colmap_camera(given.camera))
    known = np.asarray(np.isfinite(given.poses).all(axis=(1, 2)))
    for shot, pose, has in zip(given.shots, given.poses, known):
        if has:
            image_id = database.id_of[shot.image]
            posed.add_image_with_trivial_frame(
                pycolmap.Image(
                    name=shot.image,
                    keypoints=database.keypoints(image_id),
                    camera_id=colmap_camera(given.camera).camera_id,
                    image_id=image_id,
                ),
                pycolmap.Rigid3d(se3.inverse(pose)[:3]),
            )
    out = folder / "triangulated"
    out.mkdir()
    model = pycolmap.triangulate_points(posed, database.path, given.folder, out)
    spent = clock.read()
    answers, seconds = localized(given, database, model)
    T_map_cam = np.where(known[:, None, None], given.poses, np.nan)
    return Outcome(T_map_cam, np.where(known, 0, -1), True, *spent, answers, seconds)
