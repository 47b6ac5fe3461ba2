"""Folders in the TUM RGB-D layout: rgb.txt, depth.txt, groundtruth.txt as the TUM tools write them, and beside them
odometry.txt (the front end's trajectory), camera.yaml, queries.txt and queries_groundtruth.txt.

camera.yaml: width, height, fx, fy, cx, cy in pixels; depth_scale (a depth of 1 m is stored as this number, 5000 by default);
distortion_model and distortion (as CameraInfo has them) where the lens needs them.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import yaml

from vggt3_ros.datasets.sequence import KeyframeList, Query, Sequence
from vggt3_ros.datasets.tum_files import read_rows, read_stamps, read_trajectory_tum, seconds, write_trajectory_tum
from vggt3_ros.geometry.camera import Camera

MAX_STAMP_GAP_NS = 20_000_000  # stamps further apart than this do not belong together
DEPTH_SCALE = 5000.0


def load_tum(folder, odometry=None, queries=None):
    """Read `folder` as a Sequence; its keyframes are the images that have an odometry pose within 20 ms.

    odometry: trajectory file, folder/odometry.txt by default. queries: list of images to localize, folder/queries.txt by
    default (none when it is missing); its truth is <stem>_groundtruth.txt beside it. Both are looked for from the working
    directory first, then inside `folder`. Without depth.txt keyframes have no depth; an image without a depth image within
    20 ms neither. Raises ValueError naming the file, the line, what is wrong with it and what to do.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give one in the TUM layout (rgb.txt, camera.yaml, odometry.txt)")
    camera, depth_scale = _read_camera(folder / "camera.yaml")
    rgb_stamps, rgb_files = _read_files(folder / "rgb.txt")
    odometry_file = _find(folder, odometry, "odometry.txt")
    if odometry_file is None:
        raise ValueError(f"{folder / 'odometry.txt'} is missing: name the front end's trajectory file (or groundtruth.txt)")
    odometry_stamps, T_odom_cam = read_trajectory_tum(odometry_file)
    image_of, pose_of = _associate(rgb_stamps, odometry_stamps)
    if not len(image_of):
        raise ValueError(f"{odometry_file}: no pose lies within 20 ms of an image in {folder / 'rgb.txt'}: both must use the "
                         f"same clock (images from {seconds(rgb_stamps[0])}, poses from {seconds(odometry_stamps[0])})")
    stamps_ns, rgb_files = rgb_stamps[image_of], [rgb_files[i] for i in image_of]

    load_depth = None
    if (folder / "depth.txt").exists():
        depth_stamps, depth_files = _read_files(folder / "depth.txt")
        depth_of = dict(zip(*(x.tolist() for x in _associate(stamps_ns, depth_stamps))))
        load_depth = lambda i: _read_depth(depth_files[depth_of[i]], camera, depth_scale) if i in depth_of else None
    keyframes = KeyframeList(camera, stamps_ns, T_odom_cam[pose_of], lambda i: _read_image(rgb_files[i], camera), load_depth)

    truth_file = folder / "groundtruth.txt"
    truth = _truth_at(truth_file, stamps_ns) if truth_file.exists() else None
    return Sequence(folder.resolve().name, camera, stamps_ns, keyframes, truth, _read_queries(folder, queries, camera))


def write_tum(folder, sequence, progress=lambda steps, **_: steps):
    """Write `sequence` into `folder` in the layout :func:`load_tum` reads (JPEG quality 95, depth in 0.2 mm).

    progress: wraps the iterator over all images, as tqdm does. Two threads load images at a time. Covariances of the odometry
    have no place in this layout.
    """
    folder = Path(folder)
    for sub in ("rgb", "depth", "queries"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    def write(index):
        """Image `index`, queries counted after the keyframes -> its line in the list of images, and in that of depths."""
        frame = sequence.keyframes[index] if index < len(sequence) else sequence.queries[index - len(sequence)]
        stamp, kind = seconds(frame.stamp_ns), "rgb" if index < len(sequence) else "queries"
        _write_image(folder / f"{kind}/{stamp}.jpg", frame.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        if kind == "queries" or frame.depth is None:
            return f"{stamp} {kind}/{stamp}.jpg\n", ""
        stored = np.round(frame.depth * DEPTH_SCALE)
        _write_image(folder / f"depth/{stamp}.png", np.where(stored < 65536, stored, 0).astype(np.uint16))
        return f"{stamp} rgb/{stamp}.jpg\n", f"{stamp} depth/{stamp}.png\n"

    count = len(sequence) + len(sequence.queries)
    with ThreadPoolExecutor(2) as pool:  # rendered images come faster while another one is being encoded
        lines = list(progress(pool.map(write, range(count)), total=count, desc=f"writing {sequence.name}", unit="image"))
    rgb, queries = [line for line, _ in lines[:len(sequence)]], [line for line, _ in lines[len(sequence):]]
    depth = [line for _, line in lines if line]

    camera = {key: getattr(sequence.camera, key) for key in ("width", "height", "fx", "fy", "cx", "cy")}
    if sequence.camera.is_distorted:
        camera |= {"distortion_model": sequence.camera.distortion_model, "distortion": list(sequence.camera.distortion)}
    (folder / "camera.yaml").write_text(yaml.safe_dump(camera | {"depth_scale": DEPTH_SCALE}, sort_keys=False))
    for name, lines, what in (("rgb", rgb, "filename"), ("queries", queries, "filename: images that are not keyframes"),
                              ("depth", depth, "filename (uint16, metres * 5000, 0 = none, registered to rgb)")):
        if lines:
            (folder / f"{name}.txt").write_text(f"# timestamp {what}\n" + "".join(lines))
    write_trajectory_tum(folder / "odometry.txt", sequence.stamps_ns, sequence.T_odom_cam, "T_odom_cam, what the front end sends")
    if sequence.groundtruth is not None:
        known = np.isfinite(sequence.groundtruth).all(axis=(1, 2))
        write_trajectory_tum(folder / "groundtruth.txt", sequence.stamps_ns[known], sequence.groundtruth[known])
    known = [query for query in sequence.queries if query.T_world_cam is not None]
    if known:
        write_trajectory_tum(folder / "queries_groundtruth.txt", [q.stamp_ns for q in known], [q.T_world_cam for q in known])


def _find(folder, given, default):
    if given is None:
        return folder / default if (folder / default).exists() else None
    for path in (Path(given), folder / given):
        if path.exists():
            return path
    raise ValueError(f"{given} is missing, both here and in {folder}: correct the path")


def _read_camera(path):
    try:
        text = yaml.safe_load(path.read_text())
        if not isinstance(text, dict):
            raise ValueError("it must hold 'name: value' lines")
        camera = Camera(*(int(text[key]) for key in ("width", "height")), *(float(text[key]) for key in ("fx", "fy", "cx", "cy")),
                        text.get("distortion_model") or "", tuple(text.get("distortion") or ()))
        depth_scale = float(text.get("depth_scale", DEPTH_SCALE))
        if not (np.isfinite(depth_scale) and depth_scale > 0):
            raise ValueError(f"depth_scale must be positive, got {depth_scale}")
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): write width, height, fx, fy, cx, cy and depth_scale "
                         "into it") from error
    except KeyError as error:
        raise ValueError(f"{path}: {error.args[0]} is missing: add a line '{error.args[0]}: value'") from error
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}; correct that line") from error
    return camera, depth_scale


def _read_files(path):
    rows = read_rows(path, 2, "timestamp filename")
    for number, fields in rows:
        if not (path.parent / fields[1]).is_file():
            raise ValueError(f"{path}:{number}: {path.parent / fields[1]} is missing: copy the images too, or remove the line")
    return read_stamps(path, rows), [path.parent / fields[1] for _, fields in rows]


def _nearest(stamps, wanted):
    right = np.clip(np.searchsorted(stamps, wanted), 1, max(len(stamps) - 1, 1)).clip(max=len(stamps) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(stamps[left] - wanted) <= np.abs(stamps[right] - wanted), left, right)


def _associate(stamps, others):
    """Index pairs that are each other's nearest and at most 20 ms apart, so that nothing is used twice."""
    other_of = _nearest(others, stamps)
    mutual = _nearest(stamps, others)[other_of] == np.arange(len(stamps))
    chosen = np.flatnonzero(mutual & (np.abs(others[other_of] - stamps) <= MAX_STAMP_GAP_NS))
    return chosen, other_of[chosen]


def _truth_at(path, stamps_ns):
    truth_stamps, poses = read_trajectory_tum(path)
    nearest = _nearest(truth_stamps, stamps_ns)
    truth = poses[nearest]
    truth[np.abs(truth_stamps[nearest] - stamps_ns) > MAX_STAMP_GAP_NS] = np.nan
    return truth


def _read_queries(folder, given, camera):
    path = _find(folder, given, "queries.txt")
    if path is None:
        return []
    stamps, files = _read_files(path)
    truth_file = path.with_name(path.stem + "_groundtruth.txt")
    truth = _truth_at(truth_file, stamps) if truth_file.exists() else np.full((len(stamps), 4, 4), np.nan)
    return [Query(int(stamp), lambda file=file: _read_image(file, camera), pose if np.isfinite(pose).all() else None)
            for stamp, file, pose in zip(stamps, files, truth)]


def _read(path, flags, camera):
    image = cv2.imread(str(path), flags)
    if image is None:
        raise ValueError(f"{path} is not an image that OpenCV reads: replace it or remove its line")
    if image.shape[:2] != (camera.height, camera.width):
        raise ValueError(f"{path} is {image.shape[1]}x{image.shape[0]}, camera.yaml says {camera.width}x{camera.height}: correct "
                         "camera.yaml (depth must be registered to rgb)")
    return image


def _read_image(path, camera):
    image = _read(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, camera)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _read_depth(path, camera, depth_scale):
    depth = _read(path, cv2.IMREAD_UNCHANGED, camera)
    if depth.dtype not in (np.uint16, np.float32) or depth.ndim != 2:
        raise ValueError(f"{path} is {depth.dtype} with shape {depth.shape}: depth images have one channel of uint16")
    return depth.astype(np.float32) / np.float32(depth_scale)


def _write_image(path, image, parameters=()):
    if not cv2.imwrite(str(path), image, list(parameters)):
        raise OSError(f"cannot write {path}")
