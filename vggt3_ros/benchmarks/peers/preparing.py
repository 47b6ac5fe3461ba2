"""A data set -> the folder that every contender is given, and the truth that only the judge has."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vggt3_ros.benchmarks.peers.given import Array, Given, Progress, Shot, write_shot
from vggt3_ros.config import BackendConfig
from vggt3_ros.datasets.dataset import Options, kind_of, open_dataset, open_recording
from vggt3_ros.datasets.tum import find_file
from vggt3_ros.datasets.tum_files import write_trajectory_tum
from vggt3_ros.features.frame import encode_image
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.features.xfeat import XFeatEncoder
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import undistort
from vggt3_ros.system.device import device_named

SIMILAR = 10  # images that look alike, for each keyframe and query
TRUTH_FILE = "truth.npy"


@dataclass(frozen=True, eq=False)
class Truth:
    """keyframes (K, 4, 4), NaN where unknown, and queries (Q, 4, 4): T_world_cam. file: the first
    of them on disk, for contenders that are given poses. odometry (K, 4, 4) or None.
    """

    stamps_ns: Array
    keyframes: Array
    queries: Array
    file: Path
    odometry: Array | None


def prepared(
    path: str,
    folder: Path,
    options: Options,
    device: str = "auto",
    own_front_end: bool = False,
    hold_out: int = 0,
    all_frames: bool = True,
    progress: Progress = lambda text, part: None,
) -> tuple[Given, Truth]:
    """Data set `path`, an empty folder -> (Given, Truth).

    Keyframes and queries are those of `vggt3 evaluate` with the same Options. Without odometry, or
    with own_front_end, no poses are given, and the true ones say which frames become keyframes:
    that choice is the same for all. hold_out: where the data set has no queries, so many
    keyframes, evenly spread, become one (every hold_out-th); 0: none do. all_frames: the frames
    between the keyframes are written too, which trackers need. ValueError without ground truth.
    """
    recording = open_recording(path, options)
    given_odometry = not own_front_end and _has_odometry(path, recording, options)
    folder.mkdir(parents=True, exist_ok=True)
    if not given_odometry:
        if recording.T_world_cam is None:
            raise ValueError(f"{path} has no ground truth to score against")
        known = np.isfinite(recording.T_world_cam).all(axis=(1, 2))
        file = folder / "true_trajectory.txt"
        write_trajectory_tum(
            file,
            recording.stamps_ns[known],
            recording.T_world_cam[known] @ se3.inverse(recording.T_file_cam),
        )
        options = replace(options, odometry=str(file.resolve()), drift=None)
    sequence = open_dataset(path, options)
    if not given_odometry:
        file.unlink()  # truth is not for the contenders
    if sequence.groundtruth is None:
        raise ValueError(
            f"{path} has no ground truth to score against: name a trajectory file with --groundtruth"
        )
    kept, queries, stamps, true_queries = _split(sequence, hold_out)
    return _written(
        sequence,
        recording if all_frames else None,
        folder,
        kept,
        list(zip(stamps, queries)),
        true_queries,
        given_odometry,
        device,
        progress,
    )


def _has_odometry(path: str, recording: Any, options: Options) -> bool:
    if options.odometry is not None or options.drift is not None:
        return True
    if recording.T_odom_cam is not None:
        return True
    place = Path(path)
    return (
        place.is_dir()
        and kind_of(path) != "rosbag"
        and find_file(place, None, "odometry.txt") is not None
    )


def _split(sequence: Any, hold_out: int) -> tuple[Array, list[Any], list[int], Array]:
    """(indices of the keyframes that stay, load_image() of the queries, their stamps, their true
    poses (Q, 4, 4)).
    """
    asked = [
        query
        for query in sequence.queries
        if query.T_world_cam is not None and np.isfinite(query.T_world_cam).all()
    ]
    everything = np.arange(len(sequence))
    if asked or not hold_out:
        truth = np.array([query.T_world_cam for query in asked]).reshape(-1, 4, 4)
        return (
            everything,
            [query.load_image for query in asked],
            [q.stamp_ns for q in asked],
            truth,
        )
    known = np.isfinite(sequence.groundtruth).all(axis=(1, 2))
    out = (everything % hold_out == hold_out // 2) & known
    held = np.flatnonzero(out)
    return (
        everything[~out],
        [lambda i=i: sequence.keyframes.load_image(i) for i in held.tolist()],
        sequence.stamps_ns[held].tolist(),
        sequence.groundtruth[held],
    )


def _written(
    sequence: Any,
    recording: Any,
    folder: Path,
    kept: Array,
    queries: list[Any],
    true_queries: Array,
    given_odometry: bool,
    device: str,
    progress: Progress,
) -> tuple[Given, Truth]:
    camera, place = sequence.camera, folder / "given"
    encoder = XFeatEncoder(BackendConfig().features, device_named(device))
    wanted = {int(sequence.stamps_ns[i]): int(i) for i in kept}
    held_out = {int(stamp) for stamp, _ in queries}
    frames: list[Shot] = []
    keyframe_at, features = {}, []
    for stamp, load_image, load_depth in _frames(sequence, recording, kept):
        if stamp in held_out:
            continue  # nobody sees a query before it is asked
        image, depth = load_image(), load_depth()
        pinhole = undistort(image, camera)
        if stamp in wanted:
            keyframe_at[wanted[stamp]] = len(frames)
            features.append(encode_image(pinhole, camera.undistorted(), encoder).features)
        frames.append(
            write_shot(
                place,
                f"images/{len(frames):06d}",
                stamp,
                pinhole,
                None if depth is None else undistort(depth, camera, nearest=True),
            )
        )
        progress("images", len(keyframe_at) / len(kept))
    places = PlaceIndex.build(features)
    shots, similar_to_query = [], []
    for k, (stamp, load_image) in enumerate(queries):
        pinhole = undistort(load_image(), camera)
        shots.append(write_shot(place, f"queries/{k:06d}", stamp, pinhole))
        asked = encode_image(pinhole, camera.undistorted(), encoder).features
        similar_to_query.append(places.like(asked, SIMILAR) if places else [])
        progress("queries", (k + 1) / len(queries))
    others = ~np.eye(len(kept), dtype=bool)
    covariances = sequence.keyframes.odometry_covariances
    given = Given(
        place,
        sequence.name,
        camera.undistorted(),
        frames,
        [keyframe_at[int(i)] for i in kept],
        shots,
        [places.similar(i, SIMILAR, others[i]) if places else [] for i in range(len(kept))],
        similar_to_query,
        sequence.T_odom_cam[kept] if given_odometry else None,
        # of motions from one keyframe to the next: they do not hold once some are taken out
        covariances if given_odometry and len(kept) == len(sequence) else None,
    )
    given.save()
    truth = folder / TRUTH_FILE
    np.save(truth, sequence.groundtruth[kept], allow_pickle=False)
    return given, Truth(
        sequence.stamps_ns[kept],
        sequence.groundtruth[kept],
        true_queries,
        truth,
        given.poses,
    )


def _frames(sequence: Any, recording: Any, kept: Array) -> Any:
    """(stamp, load_image, load_depth) of the keyframes, and of the frames between them where the
    Recording is given.
    """
    if recording is None:
        frames, indices = sequence.keyframes, kept
    else:
        first, last = sequence.stamps_ns[kept[0]], sequence.stamps_ns[kept[-1]]
        frames = recording
        indices = np.flatnonzero((recording.stamps_ns >= first) & (recording.stamps_ns <= last))
    for i in map(int, indices):
        yield (
            int(frames.stamps_ns[i]),
            lambda i=i: frames.load_image(i),
            lambda i=i: frames.load_depth(i) if frames.load_depth else None,
        )
