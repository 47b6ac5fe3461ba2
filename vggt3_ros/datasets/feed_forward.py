"""Read the output of feed-forward pipelines: poses, cameras and depth up to scale, for their input
images.

VGGT-Long (github.com/DengKaiCQ/VGGT-Long): camera_poses.txt with the 16 numbers of a
camera-to-world matrix per line, in the order of the images; beside it intrinsic.txt with fx fy cx
cy per line, and pcd/*.ply. VGGT-SLAM (github.com/MIT-SPARK/VGGT-SLAM, --log_results): "number x y
z qx qy qz qw" lines, camera to world, where the number is the one in the image's name; beside it
<name>_logs/<number>.npz with the world points of every pixel, and a mask. LingBot-Map
(github.com/robbyant/lingbot-map, --save_predictions): a folder of frame_000000.npz with extrinsic
(3, 4), camera to world, intrinsic (3, 3), depth (h, w, 1) and depth_conf (h, w), in the order of
the images. All resize images to a width of 518 pixels; their intrinsics and dense output refer to
the resized images.
"""

import re
from collections.abc import Callable, Sequence
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
MAX_FRAME_BYTES = 2**28  # per .npz of a frame
LOOKED_AT = 8  # frames whose points the camera is estimated from
CROPPED = 0.06  # log ratio of aspects that rounding to whole patches cannot explain
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True, eq=False)
class Run:
    """One run: images, T_world_cam (N, 4, 4) in the run's units, camera (None: unknown), and
    load_depth(i), which returns (h, w) float32 along z in units, 0 where unknown; None without
    dense output.
    """

    images: list[Path]
    T_world_cam: np.ndarray
    camera: Camera | None
    load_depth: Callable[[int], np.ndarray] | None


def kind_of(path: str | Path) -> str:
    """Return which of KINDS wrote `path`. Raise ValueError if it is none."""
    path = Path(path)
    if path.is_dir():
        if any(path.glob("frame_*.npz")):
            return "lingbot-map"
        raise ValueError(
            f"{path} contains no frame_*.npz: name the file of poses, or LingBot-Map's folder of predictions"
        )
    try:
        first = next((line.split() for line in path.read_text().splitlines() if line.strip()), [])
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if len(first) not in (8, 16):
        raise ValueError(
            f"{path}: {len(first)} numbers per line; VGGT-Long writes 16, VGGT-SLAM 8"
        )
    return "vggt-long" if len(first) == 16 else "vggt-slam"


def read_run(
    path: str | Path, images: str | Path, kind: str | None = None, least_confidence: float = 1.5
) -> Run:
    """Read the output `path` of a run on the folder `images`.

    kind: one of KINDS, by default that of kind_of. least_confidence: threshold of LingBot-Map's
    depth. Raise ValueError if output and images do not match.
    """
    path, files = Path(path), _image_files(images)
    kind = kind or kind_of(path)
    if kind == "vggt-slam":
        return _vggt_slam(path, files)
    if kind == "lingbot-map":
        return _lingbot(path, files, least_confidence)
    return _vggt_long(path, files)


def size_of(image: str | Path) -> tuple[int, int]:
    """Return (height, width) of an image file. Raise ValueError if it is not an image."""
    try:
        width, height = encoded_size(Path(image).read_bytes())
    except ValueError as error:
        raise ValueError(f"{image}: {error}") from error
    return height, width


def _vggt_long(path: Path, files: list[Path]) -> Run:
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


def _vggt_slam(path: Path, files: list[Path]) -> Run:
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
                f"{path}:{line}: no image in {files[0].parent} has the number {number:g} in its name"
            )
        try:
            # submaps overlap: the pose in the last one counts
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

    def load_points(i: int) -> np.ndarray:
        return _vggt_slam_points(logs / f"{numbers[i]}.npz", poses[i])

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


def _vggt_slam_points(path: Path, T_world_cam: np.ndarray) -> np.ndarray:
    """Return the points (h, w, 3) in the camera's frame, NaN where masked out. Raise ValueError."""
    arrays = load_npz(path, ("pointcloud", "mask"), MAX_FRAME_BYTES)
    points, mask = arrays["pointcloud"], arrays["mask"]
    if points.ndim != 3 or points.shape[2] != 3 or mask.shape != points.shape[:2]:
        raise ValueError(
            f"{path} has points {points.shape} and a mask {mask.shape}, expected (h, w, 3) and (h, w)"
        )
    seen = se3.transform_points(se3.inverse(T_world_cam), points.astype(float))
    return np.where(
        (mask.astype(bool) & np.isfinite(seen).all(axis=-1) & (seen[..., 2] > 0))[..., None],
        seen,
        np.nan,
    )


def _lingbot(path: Path, files: list[Path], least_confidence: float) -> Run:
    frames = sorted(path.glob("frame_*.npz"))
    _same_number(path, len(frames), files)
    poses, matrices = [], []
    for frame in frames:
        arrays = load_npz(frame, ("extrinsic", "intrinsic"), MAX_FRAME_BYTES)
        if arrays["extrinsic"].shape != (3, 4) or arrays["intrinsic"].shape != (3, 3):
            raise ValueError(
                f"{frame}: extrinsic {arrays['extrinsic'].shape} and intrinsic {arrays['intrinsic'].shape}, expected (3, 4) "
                "and (3, 3)"
            )
        poses.append(_pose(frame, 0, np.vstack([arrays["extrinsic"].astype(float), [0, 0, 0, 1]])))
        matrices.append(arrays["intrinsic"].astype(float))

    def load_depth(i: int) -> np.ndarray:
        arrays = load_npz(frames[i], ("depth", "depth_conf"), MAX_FRAME_BYTES)
        depth, confidence = (
            arrays["depth"].reshape(arrays["depth"].shape[:2]),
            arrays["depth_conf"],
        )
        if confidence.shape != depth.shape:
            raise ValueError(
                f"{frames[i]}: depth {depth.shape} and depth_conf {confidence.shape} differ in shape"
            )
        return np.where(
            (confidence >= least_confidence) & np.isfinite(depth) & (depth > 0), depth, 0
        ).astype(np.float32)

    camera = _camera(np.median(matrices, axis=0), load_depth(0).shape, size_of(files[0]))
    return Run(files, np.array(poses), camera, load_depth)


def whole_image(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize depth (h, w) to (height, width) pixels. Raise ValueError if it covers only part of
    the image.
    """
    height, width = size
    if abs(np.log(depth.shape[0] / depth.shape[1] * width / height)) > CROPPED:
        raise ValueError(
            f"dense output of {depth.shape[1]}x{depth.shape[0]} does not cover the whole image of {width}x{height}: it was cropped"
        )
    return cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def _camera(matrix: np.ndarray, seen: tuple[int, int], size: tuple[int, int]) -> Camera:
    """Return the camera of images of `size`, from the matrix (3, 3) of the resized images of size
    `seen`.
    """
    (rows, columns), (height, width) = seen, size
    if abs(np.log(rows / columns * width / height)) > CROPPED:
        raise ValueError(
            f"images of {width}x{height} were cropped to {columns}x{rows} for the network: give the camera with --camera"
        )
    fx, fy, cx, cy = (float(matrix[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    seen_camera = Camera(columns, rows, fx, fy, cx, cy)
    return seen_camera.scaled(width, height)


def _image_files(folder: str | Path) -> list[Path]:
    folder = Path(folder)
    files = (
        sorted(file for file in folder.glob("*") if file.suffix.lower() in IMAGES)
        if folder.is_dir()
        else []
    )
    if not files:
        raise ValueError(
            f"{folder} is not a folder with images ({', '.join(IMAGES)}): name the input folder of the run"
        )
    return files


def _same_number(path: Path, count: int, files: list[Path]) -> None:
    if count != len(files):
        raise ValueError(
            f"{path} has {count} poses, but {files[0].parent} has {len(files)} images: give exactly the images of that run"
        )


def _floats(path: Path, line: int, fields: Sequence[str]) -> list[float]:
    try:
        values = [float(field) for field in fields]
    except ValueError as error:
        raise ValueError(f"{path}:{line}: {error}") from error
    if not np.isfinite(values).all():
        raise ValueError(f"{path}:{line}: it contains NaN or infinity")
    return values


def _pose(path: Path, line: int, matrix: np.ndarray) -> np.ndarray:
    try:
        return se3.check(matrix, "the pose")
    except ValueError as error:
        raise ValueError(f"{path}{f':{line}' if line else ''}: {error}") from error
