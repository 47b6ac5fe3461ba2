"""ORB-SLAM3 as a contender, in a process of its own that the user installs: RGB-D, all frames in
order. See scripts/orbslam3-tracker.
"""

import shlex
from pathlib import Path

import numpy as np

from vggt3_ros.benchmarks.peers.given import Given
from vggt3_ros.benchmarks.peers.outcome import Clock, Outcome
from vggt3_ros.datasets.trajectories import associate
from vggt3_ros.datasets.tum_files import read_tracked_tum
from vggt3_ros.frontend.tracker_process import TrackerProcess

INSTALL = (
    "not installed: pyorbslam3 is GPL-3 and no part of this package; "
    "`python3 -m venv orbslam3 && orbslam3/bin/pip install numpy pyorbslam3==0.1.1`, then "
    "--orbslam3 'orbslam3/bin/python scripts/orbslam3-tracker ORBvoc.txt'"
)
END_SECONDS = 120.0  # for its last loops and its trajectory
STAMP_NS = 1_000_000  # its files round stamps to microseconds


def contend(given: Given, folder: Path, command: str, loop_closing: bool) -> Outcome:
    """Track all frames with `command`, then take the trajectory that it writes at its end, after
    its last correction. ValueError says what it lacks.
    """
    if not command:
        raise ValueError(INSTALL)
    if not given.has_depth:
        raise ValueError("needs depth: scripts/orbslam3-tracker runs ORB-SLAM3 as RGB-D SLAM")
    file = folder / "trajectory.txt"
    words = [command, "--trajectory", shlex.quote(str(file))]
    clock, chains = Clock(), np.full(len(given.frames), -1)
    with TrackerProcess(
        " ".join(words + ["--loop-closing"] * loop_closing), patience=END_SECONDS
    ) as tracker:
        for i, shot in enumerate(given.frames):
            depth = given.depth(shot)
            if depth is None:
                continue
            tracked = tracker.track(given.image(shot), depth, given.camera, shot.stamp_ns)
            if tracked.chain is not None:
                chains[i] = tracked.chain
        spent = clock.read()
    if not file.exists():
        raise ValueError("ORB-SLAM3 wrote no trajectory: it was lost from the first frame on")
    _in_order(file)
    stamps, poses, _ = read_tracked_tum(file)
    keyframe_stamps = np.array([shot.stamp_ns for shot in given.shots], np.int64)
    mine, theirs = associate(keyframe_stamps, stamps, STAMP_NS)
    T_map_cam, model = np.full((len(given), 4, 4), np.nan), np.full(len(given), -1)
    T_map_cam[mine], model[mine] = poses[theirs], chains[np.array(given.keyframes)[mine]]
    return Outcome(T_map_cam, model, True, *spent)


def _in_order(file: Path) -> None:
    """Sort the lines by their stamps. ORB-SLAM3 writes frames of a map that it gave up twice, and
    not in order: the last line of a stamp counts.
    """
    lines = {line.split()[0]: line for line in file.read_text().splitlines() if line.strip()}
    file.write_text("".join(lines[stamp] + "\n" for stamp in sorted(lines, key=float)))
