"""A COLMAP database of the given images: SIFT by pycolmap, or XFeat by this package's encoder and
matcher.

The camera is the given pinhole and stays fixed. COLMAP's pixel centres lie at halves, ours at
integers.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pycolmap

from vggt3_ros.benchmarks.peers.given import Array, Given, Shot
from vggt3_ros.geometry.camera import Camera

if TYPE_CHECKING:
    from vggt3_ros.features.xfeat import Features

SIFT, XFEAT, LIGHTERGLUE = "sift", "xfeat", "xfeat+lighterglue"
KINDS = SIFT, XFEAT, LIGHTERGLUE
CAMERA_ID = 1
SEED = 0
PIXEL_CENTRE = 0.5

Pair = tuple[int, int]  # image ids


def colmap_camera(camera: Camera) -> pycolmap.Camera:
    return pycolmap.Camera(
        model="PINHOLE",
        width=camera.width,
        height=camera.height,
        params=[camera.fx, camera.fy, camera.cx + PIXEL_CENTRE, camera.cy + PIXEL_CENTRE],
        camera_id=CAMERA_ID,
        has_prior_focal_length=True,
    )


class ColmapDatabase:
    """Features, matches and two-view geometries of a Given. kind: one of KINDS; "xfeat" matches
    mutual nearest neighbours.
    """

    def __init__(self, given: Given, folder: Path, kind: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"features must be one of {', '.join(KINDS)}, got '{kind}'")
        pycolmap.set_random_seed(SEED)
        self.given, self.folder, self.path = given, folder, folder / "database.db"
        self._xfeat = None if kind == SIFT else _XFeat(given, kind == LIGHTERGLUE)
        self.id_of: dict[str, int] = {}

    def add(self, shots: Sequence[Shot]) -> None:
        """Images with their features."""
        names = [shot.image for shot in shots]
        reader = pycolmap.ImageReaderOptions()
        if self.id_of:
            reader.existing_camera_id = CAMERA_ID
        else:
            reader.camera_model = "PINHOLE"
            params = colmap_camera(self.given.camera).params
            reader.camera_params = ",".join(f"{value:.12g}" for value in params)
        images, one = self.given.folder, pycolmap.CameraMode.SINGLE
        if self._xfeat is None:
            pycolmap.extract_features(self.path, images, names, one, reader)
        else:
            pycolmap.Database.open(self.path).close()  # made where there is none
            pycolmap.import_images(self.path, images, one, names, reader)
        with pycolmap.Database.open(self.path) as database:
            self.id_of = {image.name: image.image_id for image in database.read_all_images()}
            if self._xfeat is not None:
                for shot in shots:
                    keypoints = self._xfeat.encode(self.id_of[shot.image], shot)
                    database.write_keypoints(self.id_of[shot.image], keypoints + PIXEL_CENTRE)

    def match(self, pairs: Iterable[tuple[Shot, Shot]]) -> list[Pair]:
        """Match and verify pairs of images that were added; their ids."""
        named = list(dict.fromkeys(tuple(sorted((a.image, b.image))) for a, b in pairs))
        ids = [(self.id_of[a], self.id_of[b]) for a, b in named]
        if not named:
            return ids
        listed = self.folder / "pairs.txt"
        listed.write_text("".join(f"{a} {b}\n" for a, b in named))
        if self._xfeat is None:
            pairing = pycolmap.ImportedPairingOptions(match_list_path=listed)
            pycolmap.match_image_pairs(self.path, pairing_options=pairing)
            return ids
        with pycolmap.Database.open(self.path) as database:
            for a, b in ids:
                database.write_matches(a, b, self._xfeat.match(a, b))
        pycolmap.verify_matches(self.path, listed)
        return ids

    def agreeing(self, a: int, b: int) -> Array:
        """(M, 2) indices of keypoints of images a and b that agree on their two-view geometry."""
        with pycolmap.Database.open(self.path) as database:
            if not database.exists_two_view_geometry(a, b):
                return np.zeros((0, 2), np.int64)
            return np.asarray(database.read_two_view_geometry(a, b).inlier_matches, np.int64)

    def keypoints(self, image_id: int) -> Array:
        """(N, 2) pixels, COLMAP's."""
        with pycolmap.Database.open(self.path) as database:
            return np.asarray(database.read_keypoints(image_id)[:, :2], float)


class _XFeat:
    """This package's features, for whoever takes keypoints and matches."""

    def __init__(self, given: Given, lighterglue: bool) -> None:
        # torch takes half a gigabyte, which the SIFT contenders shall not be charged for
        from vggt3_ros.config import BackendConfig
        from vggt3_ros.features.matching import Matcher, mutual_nearest
        from vggt3_ros.features.xfeat import XFeatEncoder
        from vggt3_ros.system.device import device_named

        device = device_named("auto")
        self._given, self._encoder = given, XFeatEncoder(BackendConfig().features, device)
        self._match = Matcher(device).lighterglue if lighterglue else mutual_nearest
        self._features: dict[int, Features] = {}

    def encode(self, image_id: int, shot: Shot) -> Array:
        """(N, 2) float32 pixels, ours."""
        features = self._encoder.encode(self._given.image(shot))
        self._features[image_id] = features
        return np.asarray(features.keypoints, np.float32)

    def match(self, a: int, b: int) -> Array:
        matches, _ = self._match(self._features[a], self._features[b])
        return np.asarray(matches, np.uint32)
