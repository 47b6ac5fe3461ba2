"""What every contender is given: a folder of images that a lens no longer distorts, their camera,
and poses where the data set has odometry. The truth is not in it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vggt3_ros.geometry.camera import Camera

SCENE_FILE, ODOMETRY_FILE, COVARIANCES_FILE = "scene.json", "odometry.npy", "covariances.npy"
PINHOLE = "width", "height", "fx", "fy", "cx", "cy"
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Shot:
    """One image on disk: its name inside the folder, the name of its depth or "" without, its
    stamp.
    """

    stamp_ns: int
    image: str
    depth: str = ""


@dataclass(frozen=True, eq=False)
class Given:
    """frames: every image in order, for what tracks; keyframes: indices of the K among them that
    are mapped and scored; queries: Q images to localize. camera: a pinhole. poses: (K, 4, 4)
    T_world_cam of the keyframes, NaN where unknown, or None; covariances (K, 6, 6) as in
    KeyframeList, or None. similar (K, S), similar_to_query (Q, S): indices into the keyframes that
    look most alike, best first, by place recognition.
    """

    folder: Path
    name: str
    camera: Camera
    frames: Sequence[Shot]
    keyframes: Sequence[int]
    queries: Sequence[Shot]
    similar: Sequence[Sequence[int]]
    similar_to_query: Sequence[Sequence[int]]
    poses: Array | None = None
    covariances: Array | None = None

    def __len__(self) -> int:
        return len(self.keyframes)

    @property
    def shots(self) -> list[Shot]:
        """Of the keyframes."""
        return [self.frames[index] for index in self.keyframes]

    @property
    def has_depth(self) -> bool:
        return any(shot.depth for shot in self.frames)

    def image(self, shot: Shot) -> Array:
        """(height, width, 3) uint8 RGB."""
        image = cv2.imread(str(self.folder / shot.image), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"{self.folder / shot.image} cannot be read")
        return np.ascontiguousarray(image[..., ::-1])

    def depth(self, shot: Shot) -> Array | None:
        """(height, width) float32 metres, 0 unknown; None where the frame has none."""
        if not shot.depth:
            return None
        depth = cv2.imread(str(self.folder / shot.depth), cv2.IMREAD_UNCHANGED)
        if depth is None:
            raise ValueError(f"{self.folder / shot.depth} cannot be read")
        return np.asarray(depth, np.float32)

    def save(self) -> None:
        """Write what :meth:`load` reads, but for the images, which lie there already."""
        text = {
            "name": self.name,
            "camera": {name: getattr(self.camera, name) for name in PINHOLE},
            "frames": [asdict(shot) for shot in self.frames],
            "keyframes": list(map(int, self.keyframes)),
            "queries": [asdict(shot) for shot in self.queries],
            "similar": [list(map(int, row)) for row in self.similar],
            "similar_to_query": [list(map(int, row)) for row in self.similar_to_query],
        }
        (self.folder / SCENE_FILE).write_text(json.dumps(text))
        for file, array in ((ODOMETRY_FILE, self.poses), (COVARIANCES_FILE, self.covariances)):
            if array is not None:
                np.save(self.folder / file, array, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, poses_file: Path | None = None) -> "Given":
        """Read a folder. poses_file: poses (K, 4, 4) instead of the odometry; the covariances are
        the odometry's and are left out then. ValueError names what does not fit.
        """
        text = json.loads((folder / SCENE_FILE).read_text())
        odometry, covariances = folder / ODOMETRY_FILE, folder / COVARIANCES_FILE
        file = poses_file or (odometry if odometry.exists() else None)
        poses = None if file is None else np.load(file, allow_pickle=False)
        if poses is not None and poses.shape != (len(text["keyframes"]), 4, 4):
            raise ValueError(
                f"{file} holds {poses.shape}, not ({len(text['keyframes'])}, 4, 4) poses"
            )
        return cls(
            folder,
            text["name"],
            Camera(**text["camera"]),
            [Shot(**shot) for shot in text["frames"]],
            text["keyframes"],
            [Shot(**shot) for shot in text["queries"]],
            text["similar"],
            text["similar_to_query"],
            poses,
            np.load(covariances, allow_pickle=False)
            if poses_file is None and covariances.exists()
            else None,
        )


def write_shot(
    folder: Path, stem: str, stamp_ns: int, image: Array, depth: Array | None = None
) -> Shot:
    """Write an undistorted RGB image and its depth in metres, both without loss -> Shot."""
    name = f"{stem}.png"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    _write(folder / name, image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if depth is None:
        return Shot(int(stamp_ns), name)
    depth_name = f"depth/{stem}.tiff"
    (folder / depth_name).parent.mkdir(parents=True, exist_ok=True)
    _write(folder / depth_name, np.asarray(depth, np.float32), [])
    return Shot(int(stamp_ns), name, depth_name)


def _write(path: Path, image: Array, options: list[int]) -> None:
    if not cv2.imwrite(str(path), np.ascontiguousarray(image), options):
        raise OSError(f"{path} cannot be written")


Progress = Callable[[str, float], None]
