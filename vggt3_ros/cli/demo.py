"""vggt3 demo: run the whole system over real DDS and score it against ground truth."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from vggt3_ros.cli import SubParsers

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from tqdm import tqdm

    from vggt3_ros.datasets.sequence import Sequence
    from vggt3_ros.ros.clients.demo import Outcome

APARTMENT_RATE = 4.0


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "demo",
        help="run front end, back end and client as ROS 2 processes, on a rendered apartment or a folder",
    )
    parser.add_argument(
        "folder",
        nargs="?",
        help="a TUM-layout folder with groundtruth.txt; a rendered apartment by default",
    )
    parser.add_argument(
        "--odometry", help="trajectory file of the front end, odometry.txt by default"
    )
    parser.add_argument(
        "--out", default="demo_output", help="output folder for plot, map, trajectory and table"
    )
    parser.add_argument("--rate", type=float, default=APARTMENT_RATE, help="keyframes per second")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from pathlib import Path

    from vggt3_ros.datasets.tum import load_tum

    out = Path(arguments.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "COLCON_IGNORE").touch()
    folder = Path(arguments.folder) if arguments.folder else _apartment(out)
    sequence = load_tum(folder, odometry=arguments.odometry)
    if sequence.groundtruth is None:
        raise ValueError(
            f"{folder} has no groundtruth.txt to score against; use `vggt3 replay` to run without scores"
        )
    _remove_old_store(out / "store")
    try:
        from vggt3_ros.ros.clients import demo
    except ImportError as error:
        raise ValueError(
            f"the demo needs ROS 2 and the built messages ({error}): start it with scripts/demo"
        ) from error
    try:
        outcome = demo.run(
            folder.resolve(), arguments.odometry, sequence, out, arguments.rate, bar
        )
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    _report(sequence, outcome, out, exact=not arguments.folder)
    return 0


def bar(description: str, total: int, unit: str) -> tqdm[NoReturn]:
    """Return a progress bar; without a terminal only its final line is printed."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=f"{description:<30}",
        unit=unit,
        mininterval=_bar_interval(),
        bar_format="{desc}{percentage:3.0f}%|{bar:30}| {n_fmt}/{total_fmt} {elapsed} {postfix}",
    )


def _bar_interval() -> float:
    """Return the seconds between updates: effectively infinite without a terminal."""
    import sys

    return 0.1 if sys.stderr.isatty() else 1e9


def _apartment(out: Path) -> Path:
    """Render the apartment, or reuse it."""
    from functools import partial

    from tqdm import tqdm

    from vggt3_ros.datasets.synthetic import apartment

    return apartment.write(out / "apartment", partial(tqdm, mininterval=_bar_interval()))


def _remove_old_store(folder: Path) -> None:
    """Remove the store of an earlier demo, because this one sends the same ids with other stamps."""
    import shutil

    if (folder / "keyframes.db").exists():
        shutil.rmtree(folder)


def _report(sequence: Sequence, outcome: Outcome, out: Path, exact: bool) -> None:
    """Score the outcome, print the table and write the files."""
    from vggt3_ros.datasets.tum_files import write_trajectory_tum
    from vggt3_ros.evaluation.report import plot_trajectories, table, write_json
    from vggt3_ros.evaluation.trajectory import trajectory_error
    from vggt3_ros.geometry.se3 import transform_points
    from vggt3_ros.surface.export import write_ply

    ids = outcome.ids
    assert sequence.groundtruth is not None  # run() checked it
    truth, stamps = sequence.groundtruth[ids], sequence.stamps_ns[ids]
    odometry = trajectory_error(sequence.T_odom_cam[ids], truth, stamps)
    corrected = trajectory_error(outcome.T_map_cam, truth, stamps)
    T_truth_map = corrected.T_truth_estimate
    result: dict[str, Any] = {
        "odometry": {"ate_m": odometry.ate_m, "rotation_deg": odometry.rotation_deg},
        "corrected": {"ate_m": corrected.ate_m, "rotation_deg": corrected.rotation_deg},
    }
    result.update(_localization_scores(sequence, outcome, T_truth_map))
    result["map"] = {"points": len(outcome.cloud)}
    if len(outcome.cloud):
        result["map"]["median_error_m"] = _map_error(
            sequence, outcome.cloud.points, T_truth_map, exact
        )
    result["seconds"], result["peak_memory_mb"] = outcome.snapshot_seconds, outcome.peak_memory_mb
    print(table(result))
    write_json(result, out / "table.json")
    write_ply(out / "map.ply", outcome.cloud)
    write_trajectory_tum(out / "trajectory.txt", stamps, outcome.T_map_cam, "T_map_cam")
    plot_trajectories(
        out / "trajectory.png",
        {
            "ground truth": truth[:, :3, 3],
            "odometry": transform_points(
                odometry.T_truth_estimate, sequence.T_odom_cam[ids][:, :3, 3]
            ),
            "corrected": transform_points(T_truth_map, outcome.T_map_cam[:, :3, 3]),
        },
        f"{sequence.name}: ATE {100 * corrected.ate_m:.1f} cm (odometry {100 * odometry.ate_m:.1f} cm)",
    )
    print(
        f"\nin {out}: table.json, trajectory.png, trajectory.txt (TUM), map.ply; logs: backend.log, player.log"
    )


def _localization_scores(
    sequence: Sequence, outcome: Outcome, T_truth_map: np.ndarray
) -> dict[str, Any]:
    """Score the localizations of the queries whose pose is known."""
    from vggt3_ros.evaluation.localization import score_localizations

    known = [i for i, query in enumerate(sequence.queries) if query.T_world_cam is not None]
    if not known:
        return {}
    truth = [sequence.queries[i].T_world_cam for i in known]
    return {
        name: score_localizations([answers[i] for i in known], truth, T_truth_map).as_dict()
        for name, answers in (
            ("localization", outcome.localizations),
            ("localization_memory", outcome.memory_localizations),
        )
    }


def _map_error(
    sequence: Sequence, points: np.ndarray, T_truth_map: np.ndarray, exact: bool
) -> float:
    """Return the median distance, metres, to the exact surfaces, or else to a map fused at the
    true poses.
    """
    if exact:
        from vggt3_ros.datasets.synthetic import apartment
        from vggt3_ros.evaluation.cloud import surface_error

        return surface_error(points, apartment.surfaces(), T_truth_map).median_m
    import numpy as np

    from vggt3_ros.config import MapConfig
    from vggt3_ros.evaluation.cloud import cloud_error
    from vggt3_ros.surface.fusion import fuse

    assert sequence.groundtruth is not None  # run() checked it
    known = np.flatnonzero(np.isfinite(sequence.groundtruth).all(axis=(1, 2)))
    reference = fuse(
        (sequence.keyframes[int(i)] for i in known), sequence.groundtruth[known], MapConfig()
    )
    return cloud_error(points, reference.points, T_truth_map).median_m
