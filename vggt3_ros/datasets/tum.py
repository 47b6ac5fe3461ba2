"""Folders in the TUM RGB-D layout: rgb.txt, depth.txt and groundtruth.txt as the TUM tools write
them, and in addition odometry.txt (the front end's trajectory), camera.yaml, queries.txt and
queries_groundtruth.txt.

camera_file.py describes camera.yaml; its depth_scale is 5000 by default.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from vggt3_ros.datasets.camera_file import read_camera, write_camera
from vggt3_ros.datasets.image_files import levels_of, read_depth, read_image, write_image
from vggt3_ros.datasets.odometry import PAIRING, OdometryAtImages, track_of
from vggt3_ros.datasets.recording import Recording
from vggt3_ros.datasets.sequence import Query, Sequence
from vggt3_ros.datasets.trajectories import (
    MAX_STAMP_GAP_NS,
    associate,
    nearest,
    offset_text,
    offsets_ns,
    paired,
)
from vggt3_ros.datasets.tum_files import (
    read_rows,
    read_stamps,
    read_tracked_tum,
    read_trajectory_tum,
    seconds,
    write_trajectory_tum,
)
from vggt3_ros.frontend.pairing import PairingConfig
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.messages.levels import Levels

DEPTH_SCALE = 5000.0
Motion = Callable[[int, int], "np.ndarray | None"]  # covariance (6, 6) of a motion, by index


class Progress(Protocol):
    """Wraps an iterable and reports its progress, as tqdm does."""

    def __call__(
        self, steps: Iterable[tuple[str, str]], *, total: int, desc: str, unit: str
    ) -> Iterable[tuple[str, str]]: ...


def _silent(
    steps: Iterable[tuple[str, str]], *, total: int, desc: str, unit: str
) -> Iterable[tuple[str, str]]:
    return steps


def load_tum(
    folder: str | Path, odometry: str | Path | None = None, queries: str | Path | None = None
) -> Sequence:
    """Read `folder` as a Sequence; its keyframes are the images with an odometry pose within 20
    ms.

    odometry: a trajectory file, folder/odometry.txt by default. queries: a list of images to
    localize, folder/queries.txt by default (none if it is missing), with its truth in
    <stem>_groundtruth.txt beside it. Both are searched for in the working directory, then in
    `folder`. Keyframes have no depth without depth.txt, or without a depth image within 20 ms.
    Raise ValueError naming the file, the line, the fault and the remedy.
    """
    frames = read_tum(folder)
    folder = Path(folder)
    odometry_file = find_file(folder, odometry, "odometry.txt")
    if odometry_file is None:
        raise ValueError(
            f"{folder / 'odometry.txt'} is missing: name the front end's trajectory file (or groundtruth.txt)"
        )
    image_of, found = match_trajectory(odometry_file, frames.stamps_ns)
    frames = replace(frames, motion=by_position(image_of, found.motion))
    truth = None if frames.T_world_cam is None else frames.T_world_cam[image_of]
    return frames.keyframes(
        image_of,
        found.T_odom_cam,
        truth,
        read_queries(folder, queries, frames.camera, frames.levels),
    )


def read_tum(
    folder: str | Path,
    pairing: PairingConfig = PAIRING,
    time_offsets: Mapping[str, float] | None = None,
) -> Recording:
    """Read every image of `folder` as a Recording, with groundtruth.txt if present, without
    odometry. Errors are those of :func:`load_tum`.

    time_offsets: {"depth" or "groundtruth": seconds to add to the stamps of that list}.
    """
    folder, offsets = Path(folder), offsets_ns(time_offsets)
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is not a folder: name one in the TUM layout (rgb.txt, camera.yaml, odometry.txt)"
        )
    camera, depth_scale = read_camera(folder / "camera.yaml", DEPTH_SCALE)
    stamps_ns, rgb_files = _read_files(folder / "rgb.txt")
    load_depth = None
    if (folder / "depth.txt").exists():
        depth_stamps, depth_files = _read_files(folder / "depth.txt")
        pairs = paired(
            stamps_ns,
            depth_stamps + offsets["depth"],
            pairing.tolerance_ns,
            "depth",
            folder / "depth.txt",
        )
        depth_of = dict(zip(*(x.tolist() for x in pairs)))
        load_depth = lambda i: (
            read_depth(depth_files[depth_of[i]], camera, depth_scale) if i in depth_of else None
        )
    truth_file = folder / "groundtruth.txt"
    truth = (
        _truth_at(truth_file, stamps_ns, offsets["groundtruth"]) if truth_file.exists() else None
    )
    levels = levels_of(rgb_files)
    return Recording(
        folder.resolve().name,
        camera,
        stamps_ns,
        lambda i: read_image(rgb_files[i], camera, levels),
        load_depth,
        T_world_cam=truth,
        levels=levels,
    )


def write_tum(folder: str | Path, sequence: Sequence, progress: Progress = _silent) -> None:
    """Write `sequence` to `folder` in the layout that :func:`load_tum` reads (JPEG quality 95,
    depth in units of 0.2 mm).

    progress: wraps the iterator over all images, as tqdm does. Two threads load images at a time.
    The layout has no place for odometry covariances.
    """
    folder = Path(folder)
    for sub in ("rgb", "depth", "queries"):
        (folder / sub).mkdir(parents=True, exist_ok=True)

    def write(index: int) -> tuple[str, str]:
        """Write image `index` (queries follow the keyframes). Return its lines for the lists of
        images and depths.
        """
        frame = (
            sequence.keyframes[index]
            if index < len(sequence)
            else sequence.queries[index - len(sequence)]
        )
        stamp, kind = seconds(frame.stamp_ns), "rgb" if index < len(sequence) else "queries"
        write_image(
            folder / f"{kind}/{stamp}.jpg", frame.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95]
        )
        if isinstance(frame, Query) or frame.depth is None:
            return f"{stamp} {kind}/{stamp}.jpg\n", ""
        stored = np.round(frame.depth * DEPTH_SCALE)
        write_image(
            folder / f"depth/{stamp}.png", np.where(stored < 65536, stored, 0).astype(np.uint16)
        )
        return f"{stamp} rgb/{stamp}.jpg\n", f"{stamp} depth/{stamp}.png\n"

    count = len(sequence) + len(sequence.queries)
    # render one image while another is being encoded
    with ThreadPoolExecutor(2) as pool:
        lines = list(
            progress(
                pool.map(write, range(count)),
                total=count,
                desc=f"writing {sequence.name}",
                unit="image",
            )
        )
    rgb, queries = (
        [line for line, _ in lines[: len(sequence)]],
        [line for line, _ in lines[len(sequence) :]],
    )
    depth = [line for _, line in lines if line]

    write_camera(folder / "camera.yaml", sequence.camera, DEPTH_SCALE)
    for name, listed, what in (
        ("rgb", rgb, "filename"),
        ("queries", queries, "filename: images that are not keyframes"),
        ("depth", depth, "filename (uint16, metres * 5000, 0 = none, registered to rgb)"),
    ):
        if listed:
            (folder / f"{name}.txt").write_text(f"# timestamp {what}\n" + "".join(listed))
    write_trajectory_tum(
        folder / "odometry.txt",
        sequence.stamps_ns,
        sequence.T_odom_cam,
        "T_odom_cam, as sent by the front end",
    )
    if sequence.groundtruth is not None:
        known = np.isfinite(sequence.groundtruth).all(axis=(1, 2))
        write_trajectory_tum(
            folder / "groundtruth.txt", sequence.stamps_ns[known], sequence.groundtruth[known]
        )
    scored = [(q.stamp_ns, q.T_world_cam) for q in sequence.queries if q.T_world_cam is not None]
    if scored:
        write_trajectory_tum(
            folder / "queries_groundtruth.txt",
            [stamp_ns for stamp_ns, _ in scored],
            [pose for _, pose in scored],
        )


def match_trajectory(
    file: Path,
    stamps_ns: np.ndarray,
    pairing: PairingConfig = PAIRING,
    offset_ns: int = 0,
    T_file_cam: np.ndarray | None = None,
) -> tuple[np.ndarray, OdometryAtImages]:
    """Match a front end's trajectory file with images at stamps_ns. Return the indices of the
    matched images and their OdometryAtImages.

    Jumps are bridged as in the node. offset_ns is added to the file's stamps. T_file_cam (4, 4):
    from the images' camera to the camera whose poses the file holds, by default the identity. Raise ValueError if no pose
    matches an image.
    """
    stamps, poses, lost = read_tracked_tum(file)
    if not len(stamps):
        raise ValueError(
            f"{file}: none of the {len(lost)} lines has a pose: tracking was lost throughout"
        )
    stamps = stamps + offset_ns
    of_image, of_pose = associate(stamps_ns, stamps, pairing.tolerance_ns)
    if not len(of_image):
        raise ValueError(
            f"{file}: no pose stamp is within {pairing.tolerance_ns / 1e6:.0f} ms of an image; both must use the same clock: "
            f"{offset_text(stamps_ns, stamps, 'odometry')}"
        )
    return of_image, OdometryAtImages(
        track_of(stamps, poses, pairing, file, lost=lost + offset_ns),
        stamps[of_pose],
        np.eye(4) if T_file_cam is None else T_file_cam,
    )


def find_file(folder: Path, given: str | Path | None, default: str | None) -> Path | None:
    """Find `given` in the working directory or in `folder`. If it is None, return folder/default,
    or None if that does not exist. Raise ValueError if `given` is missing.
    """
    if given is None:
        return folder / default if default and (folder / default).exists() else None
    for path in (Path(given), folder / given):
        if path.exists():
            return path
    raise ValueError(
        f"{given} is missing, both in the working directory and in {folder}: correct the path"
    )


def _read_files(path: Path) -> tuple[np.ndarray, list[Path]]:
    rows = read_rows(path, 2, "timestamp filename")
    for number, fields in rows:
        if not (path.parent / fields[1]).is_file():
            raise ValueError(
                f"{path}:{number}: {path.parent / fields[1]} is missing: copy the images too, or remove the line"
            )
    return read_stamps(path, rows), [path.parent / fields[1] for _, fields in rows]


def by_position(of_image: np.ndarray, motion: Motion) -> Motion:
    """Convert motion(k, l) between positions in `of_image` (N,) to a function of the image
    indices.
    """
    position = {int(i): k for k, i in enumerate(of_image)}
    return lambda earlier, later: motion(position[earlier], position[later])


def _truth_at(path: Path, stamps_ns: np.ndarray, offset_ns: int = 0) -> np.ndarray:
    """Return the true poses (N, 4, 4) nearest to the stamps, NaN if none is within 20 ms. Raise
    ValueError.
    """
    truth_stamps, poses = read_trajectory_tum(path)
    truth_stamps = truth_stamps + offset_ns
    index = nearest(truth_stamps, stamps_ns)
    truth: np.ndarray = poses[index]
    truth[np.abs(truth_stamps[index] - stamps_ns) > MAX_STAMP_GAP_NS] = np.nan
    if not np.isfinite(truth).any():
        raise ValueError(
            f"{path}: no pose stamp is within {MAX_STAMP_GAP_NS / 1e6:.0f} ms of an image: "
            f"{offset_text(stamps_ns, truth_stamps, 'groundtruth')}"
        )
    return truth


def read_queries(
    folder: Path, given: str | Path | None, camera: Camera, levels: Levels | None = None
) -> list[Query]:
    """Read a list of images, found by :func:`find_file`, as queries; <stem>_groundtruth.txt beside
    it holds their truth.
    """
    path = find_file(folder, given, "queries.txt")
    if path is None:
        return []
    stamps, files = _read_files(path)
    truth_file = path.with_name(path.stem + "_groundtruth.txt")
    truth = (
        _truth_at(truth_file, stamps)
        if truth_file.exists()
        else np.full((len(stamps), 4, 4), np.nan)
    )
    return [
        Query(
            int(stamp),
            partial(read_image, file, camera, levels),
            pose if np.isfinite(pose).all() else None,
        )
        for stamp, file, pose in zip(stamps, files, truth)
    ]
