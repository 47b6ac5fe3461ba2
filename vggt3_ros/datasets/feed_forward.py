"""What feed-forward pipelines leave of a run: poses, cameras and depth up to scale, for the images
they were given.

VGGT-Long (github.com/DengKaiCQ/VGGT-Long): camera_poses.txt, 16 numbers of camera-to-world a line,
in the images' order; intrinsic.txt beside it, fx fy cx cy a line; pcd/*.ply. VGGT-SLAM
(github.com/MIT-SPARK/VGGT-SLAM, --log_results): "number x y z qx qy qz qw" lines, camera to world,
the number being that in the image's name; <name>_logs/<number>.npz beside it with points of every
pixel in the world, and a mask. LingBot-Map (github.com/robbyant/lingbot-map, --save_predictions):
a folder of frame_000000.npz with extrinsic (3, 4), camera to world, intrinsic (3, 3), depth (h, w,
1) and depth_conf (h, w), in the images' order. All saw images resized to a width of 518 pixels;
their intrinsics and dense output are of those.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vggt3_ros.adapters.contract import intrinsics_of
from vggt3_ros.datasets.tum_files import read_rows
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.store.codec import encoded_size
from vggt3_ros.store.npz import load_npz

KINDS = ("vggt-long", "vggt-slam", "lingbot-map")
IMAGES = (".jpg", ".jpeg", ".png")
SEEN_WIDTH = 518  # pixels
MAX_FRAME_BYTES = 2**28  # of one frame's .npz
LOOKED_AT = 8  # frames whose points tell the camera
CROPPED = 0.06  # difference of aspect beyond which it is not the rounding to whole patches
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True, eq=False)
class Run:
    """One run: images, their T_world_cam (N, 4, 4) in its units, camera (None: not told),
    load_depth(i) -> (h, w) float32 along z in units, 0 unknown; None without dense output.
    """

    images: list[Path]
    T_world_cam: np.ndarray
    camera: Camera | None
    load_depth: Callable | None


def kind_of(path):
    """Which of KINDS left `path`. ValueError where it cannot be told."""
    path = Path(path)
    if path.is_dir():
        if any(path.glob("frame_*.npz")):
            return "lingbot-map"
        raise ValueError(
            f"{path} holds no frame_*.npz: name the file of poses, or LingBot-Map's folder of predictions"
        )
    try:
        first = next((line.split() for line in path.read_text().splitlines() if line.strip()), [])
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if len(first) not in (8, 16):
        raise ValueError(f"{path}: {len(first)} numbers a line; VGGT-Long writes 16, VGGT-SLAM 8")
    return "vggt-long" if len(first) == 16 else "vggt-slam"


def read_run(path, images, kind=None, least_confidence=1.5):
    """Output `path` of a run over the folder `images` -> Run. kind: of KINDS, by default kind_of.
    ValueError says what does not fit.
    """
    path, files = Path(path), _image_files(images)
    kind = kind or kind_of(path)
    if kind == "vggt-slam":
        return _vggt_slam(path, files)
    if kind == "lingbot-map":
        return _lingbot(path, files, least_confidence)
    return _vggt_long(path, files)


def size_of(image):
    """(height, width) of an image file. ValueError where it is none."""
    try:
        width, height = encoded_size(Path(image).read_bytes())
    except ValueError as error:
        raise ValueError(f"{image}: {error}") from error
    return height, width


def _vggt_long(path, files):
    rows = read_rows(path, 16, "16 numbers, camera to world row by row")
    _same_number(path, len(rows), files)
    poses = [
        _pose(path, line, np.array(_floats(path, line, fields)).reshape(4, 4))
        for line, fields in rows
    ]
    intrinsics = path.with_name("intrinsic.txt")
    if not intrinsics.exists():
        return Run(files, np.array(poses), None, None)
    fx, fy, cx, cy = np.median(
        [
            _floats(intrinsics, line, fields)
            for line, fields in read_rows(intrinsics, 4, "fx fy cx cy")
        ],
        axis=0,
    )
    height, width = size_of(files[0])
    seen = round(height * SEEN_WIDTH / width / 14) * 14, SEEN_WIDTH
    return Run(
        files,
        np.array(poses),
        _camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), seen, (height, width)),
        None,
    )


def _vggt_slam(path, files):
    by_number = {}
    for file in files:
        found = _NUMBER.search(file.name)
        if found:
            by_number[float(found[0])] = file
    chosen = {}
    for line, fields in read_rows(path, 8, "number x y z qx qy qz qw"):
        number, *values = _floats(path, line, fields)
        if number not in by_number:
            raise ValueError(
                f"{path}:{line}: no image's name in {files[0].parent} has the number {number:g}"
            )
        try:
            # submaps overlap: the last one to hold an image gives its pose
            chosen[number] = se3.from_quaternion(values[:3], values[3:])
        except ValueError as error:
            raise ValueError(f"{path}:{line}: {error}") from error
    numbers = sorted(chosen)
    poses, logs = (
        np.array([chosen[number] for number in numbers]),
        path.with_name(path.name.replace(".txt", "_logs")),
    )
    chosen_files = [by_number[number] for number in numbers]
    if not logs.is_dir():
        return Run(chosen_files, poses, None, None)
    load_points = lambda i: _vggt_slam_points(logs / f"{numbers[i]}.npz", poses[i])
    looked_at = [
        load_points(i)
        for i in np.linspace(0, len(numbers) - 1, min(LOOKED_AT, len(numbers))).astype(int)
    ]
    matrices = [matrix for points in looked_at if (matrix := intrinsics_of(points)) is not None]
    camera = (
        _camera(np.median(matrices, axis=0), looked_at[0].shape[:2], size_of(chosen_files[0]))
        if matrices
        else None
    )
    return Run(
        chosen_files,
        poses,
        camera,
        lambda i: np.nan_to_num(load_points(i)[..., 2]).astype(np.float32),
    )


def _vggt_slam_points(path, T_world_cam):
    """(h, w, 3) in the camera's frame, NaN where they are masked out."""
    arrays = load_npz(path, ("pointcloud", "mask"), MAX_FRAME_BYTES)
    points, mask = arrays["pointcloud"], arrays["mask"]
    if points.ndim != 3 or points.shape[2] != 3 or mask.shape != points.shape[:2]:
        raise ValueError(
            f"{path} holds points {points.shape} and a mask {mask.shape}: (h, w, 3) and (h, w) are expected"
        )
    seen = se3.transform_points(se3.inverse(T_world_cam), points.astype(float))
    return np.where(
        (mask.astype(bool) & np.isfinite(seen).all(axis=-1) & (seen[..., 2] > 0))[..., None],
        seen,
        np.nan,
    )


def _lingbot(path, files, least_confidence):
    frames = sorted(path.glob("frame_*.npz"))
    _same_number(path, len(frames), files)
    poses, matrices = [], []
    for frame in frames:
        arrays = load_npz(frame, ("extrinsic", "intrinsic"), MAX_FRAME_BYTES)
        if arrays["extrinsic"].shape != (3, 4) or arrays["intrinsic"].shape != (3, 3):
            raise ValueError(
                f"{frame}: extrinsic {arrays['extrinsic'].shape} and intrinsic {arrays['intrinsic'].shape}: (3, 4) and (3, 3) are "
                "expected"
            )
        poses.append(_pose(frame, 0, np.vstack([arrays["extrinsic"].astype(float), [0, 0, 0, 1]])))
        matrices.append(arrays["intrinsic"].astype(float))

    def load_depth(i):
        arrays = load_npz(frames[i], ("depth", "depth_conf"), MAX_FRAME_BYTES)
        depth, confidence = (
            arrays["depth"].reshape(arrays["depth"].shape[:2]),
            arrays["depth_conf"],
        )
        if confidence.shape != depth.shape:
            raise ValueError(
                f"{frames[i]}: depth {depth.shape} and depth_conf {confidence.shape} differ"
            )
        return np.where(
            (confidence >= least_confidence) & np.isfinite(depth) & (depth > 0), depth, 0
        ).astype(np.float32)

    camera = _camera(np.median(matrices, axis=0), load_depth(0).shape, size_of(files[0]))
    return Run(files, np.array(poses), camera, load_depth)


def whole_image(depth, size):
    """Depth (h, w) resized to (height, width) pixels. ValueError where it is of a part of the
    image only.
    """
    height, width = size
    if abs(np.log(depth.shape[0] / depth.shape[1] * width / height)) > CROPPED:
        raise ValueError(
            f"dense output of {depth.shape[1]}x{depth.shape[0]} is not of the whole image of {width}x{height}: it was cropped"
        )
    return cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def _camera(matrix, seen, size):
    """Camera of the images of `size` from the matrix of those the network saw."""
    (rows, columns), (height, width) = seen, size
    if abs(np.log(rows / columns * width / height)) > CROPPED:
        raise ValueError(
            f"the network saw {columns}x{rows} of images of {width}x{height}: they were cropped; give the camera with --camera"
        )
    seen_camera = Camera(
        columns, rows, *(float(matrix[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    )
    return seen_camera.scaled(width, height)


def _image_files(folder):
    folder = Path(folder)
    files = (
        sorted(file for file in folder.glob("*") if file.suffix.lower() in IMAGES)
        if folder.is_dir()
        else []
    )
    if not files:
        raise ValueError(
            f"{folder} is no folder with images ({', '.join(IMAGES)}): name the one that the run was given"
        )
    return files


def _same_number(path, count, files):
    if count != len(files):
        raise ValueError(
            f"{path} holds {count} poses, {files[0].parent} {len(files)} images: give the images of that run, and no others"
        )


def _floats(path, line, fields):
    try:
        values = [float(field) for field in fields]
    except ValueError as error:
        raise ValueError(f"{path}:{line}: {error}") from error
    if not np.isfinite(values).all():
        raise ValueError(f"{path}:{line}: it holds NaN or infinity")
    return values


def _pose(path, line, matrix):
    try:
        return se3.check(matrix, "the pose")
    except ValueError as error:
        raise ValueError(f"{path}{f':{line}' if line else ''}: {error}") from error
