"""Open any data set by its path: TUM, 7-Scenes and EuRoC folders, rosbag2 recordings."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from vggt3_ros.datasets.drift import drifting_odometry
from vggt3_ros.datasets.euroc import mav_folder, read_euroc
from vggt3_ros.datasets.odometry import PAIRING
from vggt3_ros.datasets.recording import Recording
from vggt3_ros.datasets.rosbag import bag_paths, read_rosbag
from vggt3_ros.datasets.rosbag_topics import GUESSED, Topics
from vggt3_ros.datasets.sequence import Query, Sequence
from vggt3_ros.datasets.seven_scenes import read_seven_scenes, sequences_in
from vggt3_ros.datasets.trajectories import offset_text, offsets_ns, poses_at
from vggt3_ros.datasets.tum import (
    Motion,
    by_position,
    find_file,
    match_trajectory,
    read_queries,
    read_tum,
)
from vggt3_ros.datasets.tum_files import read_trajectory_tum
from vggt3_ros.frontend.pairing import PairingConfig
from vggt3_ros.frontend.selection import KeyframeSelector, SelectionConfig

KINDS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "tum": (
        "TUM (rgb.txt)",
        lambda path: (
            (path / "rgb.txt").is_file()
            or ((path / "camera.yaml").is_file() and not sequences_in(path))
        ),
    ),
    "rosbag": ("rosbag2 (metadata.yaml, .mcap, .db3)", bag_paths),
    "seven_scenes": ("7-Scenes (frame-NNNNNN.color.png, seq-XX/)", sequences_in),
    "euroc": ("EuRoC (mav0/cam0/data.csv)", mav_folder),
}


@dataclass(frozen=True, eq=False)
class Options:
    """How to read a data set. Options that do not apply to its kind are ignored.

    odometry, groundtruth: trajectory files (TUM lines, camera poses) that replace those of the
    data set. drift: trajectory error in metres of odometry generated from the truth. queries: a
    list of images as in the TUM layout, or another data set of the same camera with truth in the
    same frame. limits: which frames become keyframes. every_frame: use all frames that have a
    pose; None: only for TUM folders and Keyframe messages. topics, T_base_cam, rectified,
    base_frame: see read_rosbag. stereo: compute depth from a second camera if there is one.
    pairing: association of messages with images, and tolerated jumps of the odometry.
    time_offsets: {"depth", "right", "odometry" or "groundtruth": seconds to add to the stamps of
    that list}.
    """

    odometry: str | None = None
    groundtruth: str | None = None
    drift: float | None = None
    queries: str | None = None
    limits: SelectionConfig = field(default_factory=SelectionConfig)
    every_frame: bool | None = None
    topics: Topics = GUESSED
    T_base_cam: np.ndarray | None = None
    rectified: bool = False
    stereo: bool = True
    base_frame: str = ""
    pairing: PairingConfig = PAIRING
    time_offsets: dict[str, float] = field(default_factory=dict)


def kind_of(path: str | Path) -> str:
    """Return which of KINDS `path` is. Raise ValueError naming the known kinds."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    for kind, (_, fits) in KINDS.items():
        if fits(path):
            return kind
    raise ValueError(
        f"{path} is not a known kind of data set: {', '.join(name for name, _ in KINDS.values())}"
    )


DEFAULTS = Options()


def open_recording(
    path: str | Path, options: Options = DEFAULTS, odometry_needed: bool = False
) -> Recording:
    """Open all frames of a data set as a Recording. Raise ValueError."""
    kind = kind_of(path)
    if kind == "tum":
        return read_tum(path, options.pairing, options.time_offsets)
    if kind == "rosbag":
        topics = options.topics if options.stereo else replace(options.topics, right="")
        return read_rosbag(
            path,
            topics,
            options.T_base_cam,
            odometry_needed,
            options.rectified,
            options.base_frame,
            options.pairing,
            options.time_offsets,
        )
    if kind == "seven_scenes":
        return read_seven_scenes(path)
    return read_euroc(path, options.stereo, options.pairing, options.time_offsets)


def open_dataset(path: str | Path, options: Options = DEFAULTS) -> Sequence:
    """Open the keyframes of a data set as a Sequence. Raise ValueError naming the file, the fault
    and the remedy.
    """
    path, kind = Path(path), kind_of(path)
    own_odometry = options.odometry is None and options.drift is None
    frames = open_recording(path, options, odometry_needed=own_odometry)
    if not own_odometry:
        # they belong to poses that are not used
        frames = replace(frames, covariances=None, motion=None)
    truth = frames.T_world_cam
    if options.groundtruth is not None:
        truth = _truth(path, frames, options)
    usable, T_odom_cam, motion = _odometry(path, kind, frames, truth, options)
    frames = replace(frames, motion=motion)
    keyframes_already = frames.chosen or kind == "tum"
    if options.every_frame is False or (options.every_frame is None and not keyframes_already):
        selected = select(frames, usable, T_odom_cam, options.limits)
        usable, T_odom_cam = usable[selected], T_odom_cam[selected]
    if options.drift is not None:
        T_odom_cam, _ = drifting_odometry(T_odom_cam, ate=options.drift)
    return frames.keyframes(
        usable,
        T_odom_cam,
        None if truth is None else truth[usable],
        _queries(path, kind, frames, options),
    )


def _truth(path: Path, frames: Recording, options: Options) -> np.ndarray:
    file = find_file(path, options.groundtruth, None)
    assert file is not None  # find_file raises where a named file is missing
    stamps_ns, poses = read_trajectory_tum(file)
    stamps_ns = stamps_ns + offsets_ns(options.time_offsets)["groundtruth"]
    truth: np.ndarray = poses_at(stamps_ns, poses, frames.stamps_ns) @ frames.T_file_cam
    if not np.isfinite(truth).any():
        raise ValueError(
            f"{file}: no pose is known at the time of any image: {offset_text(frames.stamps_ns, stamps_ns, 'groundtruth')}"
        )
    return truth


def _odometry(
    path: Path, kind: str, frames: Recording, truth: np.ndarray | None, options: Options
) -> tuple[np.ndarray, np.ndarray, Motion | None]:
    """Return the indices of the frames that have a pose, these poses, and the covariance of the
    motion between two frames (or None). As with a live front end, a file's pose belongs to the
    image nearest to it.
    """
    motion = None
    if options.drift is not None:
        if truth is None:
            raise ValueError(
                f"{path} has no ground truth, from which drifting odometry is generated"
            )
        poses, source = truth, "its ground truth"
    elif options.odometry is None and frames.T_odom_cam is not None:
        poses, source, motion = frames.T_odom_cam, "its odometry", frames.motion
    else:
        file = (
            find_file(path, options.odometry, "odometry.txt")
            if path.is_dir() or options.odometry
            else None
        )
        if file is None:
            lacking = (
                f"{path / 'odometry.txt'} is missing"
                if kind == "tum"
                else f"{path} has no odometry"
            )
            raise ValueError(
                f"{lacking}: name the front end's trajectory file with --odometry, or use --drift 0.3 to add drift to "
                "the ground truth"
            )
        offset_ns = offsets_ns(options.time_offsets)["odometry"]
        of_image, found = match_trajectory(
            file, frames.stamps_ns, options.pairing, offset_ns, frames.T_file_cam
        )
        return of_image, found.T_odom_cam, by_position(of_image, found.motion)
    known = np.flatnonzero(np.isfinite(poses).all(axis=(1, 2)))
    if not len(known):
        raise ValueError(f"{path}: {source} has no pose at the time of any image")
    return known, poses[known], motion


def _queries(path: Path, kind: str, frames: Recording, options: Options) -> list[Query]:
    given = options.queries
    listed = find_file(path, given, None) if kind == "tum" and given is not None else None
    if kind == "tum" and (listed is None or listed.is_file()):
        return read_queries(path, given, frames.camera, frames.levels)
    if given is None:
        return []
    other = open_recording(given, options)
    if other.camera != frames.camera:
        raise ValueError(
            f"{given} and {path} are from different cameras: {other.camera} and {frames.camera}"
        )
    if other.T_world_cam is None:
        raise ValueError(f"{given} has no ground truth")
    known = np.flatnonzero(np.isfinite(other.T_world_cam).all(axis=(1, 2)))
    chosen = known[select(other, known, other.T_world_cam[known], options.limits)]
    return [
        Query(int(other.stamps_ns[i]), partial(other.load_image, i), other.T_world_cam[i])
        for i in map(int, chosen)
    ]


def select(
    frames: Recording, indices: np.ndarray, T_odom_cam: np.ndarray, limits: SelectionConfig
) -> np.ndarray:
    """Select keyframes among the frames `indices` (K,) at T_odom_cam (K, 4, 4). Return their
    positions (N,) in `indices`.
    """
    selector, taken = KeyframeSelector(), []
    for position, (index, pose) in enumerate(zip(indices.tolist(), T_odom_cam)):
        if selector.reason(int(frames.stamps_ns[index]), pose, frames.camera, limits):
            depth = frames.load_depth(index) if limits.overlap and frames.load_depth else None
            selector.keep(int(frames.stamps_ns[index]), pose, frames.camera, depth)
            taken.append(position)
    return np.array(taken, int)
