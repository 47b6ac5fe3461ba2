"""Folders of the 7-Scenes layout: seq-XX/frame-NNNNNN.color.png, .depth.png (uint16 millimetres)
and .pose.txt (camera to world).

7-Scenes: Shotton et al., CVPR 2013. Its frames have no stamps (30 per second) and no calibration.
The colour camera is assumed to have f = 525, the depth camera f = 585, both with the principal
point at the image centre; depth is resampled onto the colour image. A camera.yaml in the folder of
the sequence or the scene overrides this; depth is then assumed to be registered to the image.
"""

import re
from pathlib import Path

import cv2
import numpy as np

from vggt3_ros.datasets.camera_file import read_camera
from vggt3_ros.datasets.image_files import levels_of, read_depth, read_image
from vggt3_ros.datasets.recording import Recording
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

COLOR_CAMERA = Camera(640, 480, 525.0, 525.0, 320.0, 240.0)
DEPTH_CAMERA = Camera(640, 480, 585.0, 585.0, 320.0, 240.0)
DEPTH_SCALE = 1000.0
NO_DEPTH = 65535  # stored value of unknown depth
RATE = 30  # frames per second
FRAME = re.compile(r"frame-(\d{1,9})\.color\.(png|jpg)")


def sequences_in(folder: str | Path) -> list[Path]:
    """Return the sequence folders below a scene's folder, [folder] if it contains frames itself,
    or [].
    """
    if any(FRAME.fullmatch(path.name) for path in Path(folder).glob("frame-*.color.*")):
        return [Path(folder)]
    return sorted(
        path
        for path in Path(folder).glob("seq-*")
        if path.is_dir() and any(path.glob("frame-*.color.*"))
    )


def read_seven_scenes(folder: str | Path) -> Recording:
    """Read one sequence (seq-XX, or a scene's folder with only one) as a Recording. Its truth are
    the pose files; frame N has the stamp N/30 s.

    Raise ValueError naming the file and the fault.
    """
    found = sequences_in(folder)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ValueError(
            f"{folder}: name one sequence of frame-NNNNNN.color.png files; found: {names}"
        )
    folder = found[0]
    files = sorted(
        (int(match[1]), path) for path in folder.iterdir() if (match := FRAME.fullmatch(path.name))
    )
    numbers = np.array([number for number, _ in files], np.int64)
    if np.any(np.diff(numbers) == 0):
        raise ValueError(f"{folder} has a frame number twice (as .png and .jpg): keep one of them")
    camera, depth_scale, registered = _calibration(folder)

    def beside(i: int, kind: str) -> Path:
        return files[i][1].with_name(f"{files[i][1].name.split('.')[0]}.{kind}")

    def load_depth(i: int) -> np.ndarray | None:
        if not beside(i, "depth.png").exists():
            return None
        depth = read_depth(
            beside(i, "depth.png"), camera if registered else DEPTH_CAMERA, depth_scale, NO_DEPTH
        )
        return depth if registered else onto_color(depth)

    truth = np.array([_read_pose(beside(i, "pose.txt")) for i in range(len(files))])
    name = (
        f"{folder.resolve().parent.name}_{folder.resolve().name}"
        if folder.name.startswith("seq-")
        else folder.resolve().name
    )
    levels = levels_of([path for _, path in files])
    return Recording(
        name,
        camera,
        numbers * 10**9 // RATE,
        lambda i: read_image(files[i][1], camera, levels),
        load_depth,
        T_world_cam=truth if np.isfinite(truth).any() else None,
    )


def onto_color(depth: np.ndarray) -> np.ndarray:
    """Resample a depth image of DEPTH_CAMERA to COLOR_CAMERA. The offset of a few centimetres
    between the cameras is unknown and ignored.
    """
    x, y = (
        np.arange(COLOR_CAMERA.width, dtype=np.float32),
        np.arange(COLOR_CAMERA.height, dtype=np.float32),
    )
    map_x = (x - COLOR_CAMERA.cx) * DEPTH_CAMERA.fx / COLOR_CAMERA.fx + DEPTH_CAMERA.cx
    map_y = (y - COLOR_CAMERA.cy) * DEPTH_CAMERA.fy / COLOR_CAMERA.fy + DEPTH_CAMERA.cy
    return cv2.remap(
        depth,
        *np.meshgrid(map_x.astype(np.float32), map_y.astype(np.float32)),
        cv2.INTER_NEAREST,
        borderValue=0,
    )


def _calibration(folder: Path) -> tuple[Camera, float, bool]:
    """Return the camera, the depth_scale, and whether depth is registered to the image."""
    for path in (folder / "camera.yaml", folder.parent / "camera.yaml"):
        if path.exists():
            return *read_camera(path, DEPTH_SCALE), True
    return COLOR_CAMERA, DEPTH_SCALE, False


def _read_pose(path: Path) -> np.ndarray:
    """Return T_world_cam (4, 4); NaN if the file is missing or marks tracking as lost."""
    if not path.exists():
        return np.full((4, 4), np.nan)
    try:
        values = np.array(path.read_text("utf-8-sig").split(), float)
        if values.size != 16:
            raise ValueError(f"{values.size} numbers, expected the 16 of a 4x4 matrix")
        return (
            se3.check(values.reshape(4, 4), "the pose")
            if np.isfinite(values).all()
            else np.full((4, 4), np.nan)
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}; correct or remove it") from error
