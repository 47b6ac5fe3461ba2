"""Folders in the TUM RGB-D layout: rgb.txt, depth.txt, groundtruth.txt as the TUM tools write
them, and beside them odometry.txt (the front end's trajectory), camera.yaml, queries.txt and
queries_groundtruth.txt.

camera.yaml: width, height, fx, fy, cx, cy in pixels; depth_scale (a depth of 1 m is stored as this
number, 5000 by default); distortion_model and distortion (as CameraInfo has them) where the lens
needs them.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from vggt3_ros.datasets.camera_file import read_camera, write_camera
from vggt3_ros.datasets.image_files import levels_of, read_depth, read_image, write_image
from vggt3_ros.datasets.odometry import OdometryAtImages, track_of
from vggt3_ros.datasets.recording import Recording
from vggt3_ros.datasets.sequence import Query
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

DEPTH_SCALE = 5000.0


def load_tum(folder, odometry=None, queries=None):
    """Read `folder` as a Sequence; its keyframes are the images that have an odometry pose within
    20 ms.

    odometry: trajectory file, folder/odometry.txt by default. queries: list of images to localize,
    folder/queries.txt by default (none when it is missing); its truth is <stem>_groundtruth.txt
    beside it. Both are looked for from the working directory first, then inside `folder`. Without
    depth.txt keyframes have no depth; an image without a depth image within 20 ms neither. Raises
    ValueError naming the file, the line, what is wrong with it and what to do.
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


def read_tum(folder, pairing=PairingConfig(), time_offsets=None):
    """Every image of `folder` as a Recording, with groundtruth.txt where there is one and no
    odometry; errors as :func:`load_tum`.

    time_offsets: {"depth", "groundtruth": seconds to add to the stamps of that list}.
    """
    folder, offsets = Path(folder), offsets_ns(time_offsets)
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is not a folder: give one in the TUM layout (rgb.txt, camera.yaml, odometry.txt)"
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


def write_tum(folder, sequence, progress=lambda steps, **_: steps):
    """Write `sequence` into `folder` in the layout :func:`load_tum` reads (JPEG quality 95, depth
    in 0.2 mm).

    progress: wraps the iterator over all images, as tqdm does. Two threads load images at a time.
    Covariances of the odometry have no place in this layout.
    """
    folder = Path(folder)
    for sub in ("rgb", "depth", "queries"):
        (folder / sub).mkdir(parents=True, exist_ok=True)

    def write(index):
        """Image `index`, queries counted after the keyframes -> its line in the list of images,
        and in that of depths.
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
        if kind == "queries" or frame.depth is None:
            return f"{stamp} {kind}/{stamp}.jpg\n", ""
        stored = np.round(frame.depth * DEPTH_SCALE)
        write_image(
            folder / f"depth/{stamp}.png", np.where(stored < 65536, stored, 0).astype(np.uint16)
        )
        return f"{stamp} rgb/{stamp}.jpg\n", f"{stamp} depth/{stamp}.png\n"

    count = len(sequence) + len(sequence.queries)
    # rendered images come faster while another one is being encoded
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
    for name, lines, what in (
        ("rgb", rgb, "filename"),
        ("queries", queries, "filename: images that are not keyframes"),
        ("depth", depth, "filename (uint16, metres * 5000, 0 = none, registered to rgb)"),
    ):
        if lines:
            (folder / f"{name}.txt").write_text(f"# timestamp {what}\n" + "".join(lines))
    write_trajectory_tum(
        folder / "odometry.txt",
        sequence.stamps_ns,
        sequence.T_odom_cam,
        "T_odom_cam, what the front end sends",
    )
    if sequence.groundtruth is not None:
        known = np.isfinite(sequence.groundtruth).all(axis=(1, 2))
        write_trajectory_tum(
            folder / "groundtruth.txt", sequence.stamps_ns[known], sequence.groundtruth[known]
        )
    known = [query for query in sequence.queries if query.T_world_cam is not None]
    if known:
        write_trajectory_tum(
            folder / "queries_groundtruth.txt",
            [q.stamp_ns for q in known],
            [q.T_world_cam for q in known],
        )


def match_trajectory(file, stamps_ns, pairing=PairingConfig(), offset_ns=0, T_file_cam=np.eye(4)):
    """Trajectory file of a front end -> (indices of the images at stamps_ns that are nearest to
    one of its poses, OdometryAtImages of those).

    Jumps are bridged as the node does it. offset_ns is added to the file's stamps; T_file_cam (4,
    4): the images' camera in the one whose poses they are. ValueError when no pose belongs to an
    image.
    """
    stamps, poses, lost = read_tracked_tum(file)
    if not len(stamps):
        raise ValueError(f"{file}: the front end was lost in all of its {len(lost)} lines")
    stamps = stamps + offset_ns
    of_image, of_pose = associate(stamps_ns, stamps, pairing.tolerance_ns)
    if not len(of_image):
        raise ValueError(
            f"{file}: no pose is stamped within {pairing.tolerance_ns / 1e6:.0f} ms of an image: both must use the same clock; "
            f"{offset_text(stamps_ns, stamps, 'odometry')}"
        )
    return of_image, OdometryAtImages(
        track_of(stamps, poses, pairing, file, lost=lost + offset_ns), stamps[of_pose], T_file_cam
    )


def find_file(folder, given, default):
    """`given` from the working directory or else inside `folder`; when None, folder/default, or
    None where that is missing.
    """
    if given is None:
        return folder / default if (folder / default).exists() else None
    for path in (Path(given), folder / given):
        if path.exists():
            return path
    raise ValueError(f"{given} is missing, both here and in {folder}: correct the path")


def _read_files(path):
    rows = read_rows(path, 2, "timestamp filename")
    for number, fields in rows:
        if not (path.parent / fields[1]).is_file():
            raise ValueError(
                f"{path}:{number}: {path.parent / fields[1]} is missing: copy the images too, or remove the line"
            )
    return read_stamps(path, rows), [path.parent / fields[1] for _, fields in rows]


def by_position(of_image, motion):
    """motion(k, l) of the k-th of the images `of_image` (N,) -> the same of the images
    themselves.
    """
    position = {int(i): k for k, i in enumerate(of_image)}
    return lambda earlier, later: motion(position[earlier], position[later])


def _truth_at(path, stamps_ns, offset_ns=0):
    truth_stamps, poses = read_trajectory_tum(path)
    truth_stamps = truth_stamps + offset_ns
    index = nearest(truth_stamps, stamps_ns)
    truth = poses[index]
    truth[np.abs(truth_stamps[index] - stamps_ns) > MAX_STAMP_GAP_NS] = np.nan
    if not np.isfinite(truth).any():
        raise ValueError(
            f"{path}: no pose is stamped within {MAX_STAMP_GAP_NS / 1e6:.0f} ms of an image: "
            f"{offset_text(stamps_ns, truth_stamps, 'groundtruth')}"
        )
    return truth


def read_queries(folder, given, camera, levels=None):
    """List of Query from a list of images with <stem>_groundtruth.txt beside it, found as by
    :func:`find_file`.
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
            lambda file=file: read_image(file, camera, levels),
            pose if np.isfinite(pose).all() else None,
        )
        for stamp, file, pose in zip(stamps, files, truth)
    ]
