"""An evaluation as JSON, as a table, and as a plot of the trajectories."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from vggt3_ros.evaluation.trajectory_alignment import POSITIONS
from vggt3_ros.refinement.odometry_breaks import Break
from vggt3_ros.system import strict_json

# Nested dict of figures, as evaluate_sequence makes it and JSON holds it.
Result: TypeAlias = Mapping[str, Any]
ROWS = (("odometry", "odometry"), ("corrected", "corrected"))


def write_json(result: Result, path: str | Path) -> None:
    """Write `result` as JSON; NaN and infinity become null."""
    with open(path, "w") as file:
        file.write(strict_json.dumps(result, indent=2) + "\n")


def table(result: Result) -> str:
    """Format the evaluation as text: trajectory, localization, map, seconds per stage, memory.

    The fraction of true values within the 95 % ellipsoid is given for positions, then for poses.
    """
    lines = ["", f"{'trajectory':<28}{'ATE':>12}{'rotation':>14}"]
    for name, title in ROWS:
        if name in result:
            lines.append(
                f"  {title:<26}{100 * result[name]['ate_m']:>9.2f} cm{result[name]['rotation_deg']:>10.2f} deg"
            )
    lines += [f"  {text}" for text in _aligned_by(result)]
    lines += (
        ["  " + str(Break(**row)) for row in result["odometry"].get("breaks", ())]
        if "odometry" in result
        else []
    )
    if "localization" in result:
        lines += [
            "",
            f"{'localization':<28}{'median':>12}{'':>14}{'5 cm/5 deg':>14}{'10 cm/10 deg':>14}{'per query':>10}{'in 95 % ellipsoid':>22}",
        ]
        for name, title in (
            ("localization_memory", "scene memory alone"),
            ("localization", "verified"),
        ):
            row = result[name]
            median = (
                f"{100 * row['median_m']:>9.2f} cm{row['median_deg']:>10.2f} deg"
                if math.isfinite(row["median_m"])
                else f"{'none: fewer than half localized':>26}"
            )
            lines.append(
                f"  {title:<26}{median}{row['within_5cm_5deg']:>14.1%}"
                f"{row['within_10cm_10deg']:>14.1%}{row['seconds_per_query']:>8.2f} s"
                f"{row['in_ellipsoid']:>13.1%}, {row['in_pose_ellipsoid']:.1%}"
            )
    mapped = result["map"]
    error = mapped.get("median_error_m")
    lines += [
        "",
        f"map: {mapped['points']:,} points"
        + (f", median error {100 * error:.2f} cm" if error is not None else ""),
    ]
    lines += [f"warning: {text}" for text in result.get("empty", ())]
    if result.get("scene", {}).get("scene_scale", 1) != 1:
        scene = result["scene"]
        lines.append(
            f"scene {scene['scene_scale']:.2g} times as large as a room (four fifths of the depth "
            f"within {scene['scene_depth_m']:.1f} m): lengths left at their defaults grew with it"
        )
    if "sim3" in result:
        lines += ["", _after_sim3(result["sim3"])]
    seconds = result["seconds"]
    lines.append("seconds: " + ", ".join(f"{stage} {seconds[stage]:.1f}" for stage in seconds))
    if "grow" in result:
        grow = result["grow"]
        lines.append(
            f"{grow['keyframes']} keyframes added to {grow['onto']}: "
            + ", ".join(f"{k} {v:.1f}" for k, v in grow["seconds"].items())
        )
    if "network" in result:
        lines.append(f"network: {result['network']['summary']}")
    lines.append(f"peak memory: {result['peak_memory_mb']:.0f} MB")
    return "\n".join(lines)


def _aligned_by(result: Result) -> list[str]:
    """Note the alignments that do not rest on positions alone."""
    turned = [
        title
        for name, title in ROWS
        if result.get(name, {}).get("aligned_by", POSITIONS) != POSITIONS
    ]
    if not turned:
        return []
    return [
        f"({' and '.join(turned)} aligned by orientations as well: positions close to a line do not determine the rotation about it)"
    ]


def _after_sim3(fitted: Result) -> str:
    text = f"scaled by {fitted['scale']:.4f} (scale is not observable from images): ATE {100 * fitted['corrected']['ate_m']:.2f} cm"
    if "localization" in fitted:
        row = fitted["localization"]
        text += (
            f", localization {100 * row['median_m']:.2f} cm, {row['within_5cm_5deg']:.1%} within 5 cm/5 deg, "
            f"{row['within_10cm_10deg']:.1%} within 10 cm/10 deg"
        )
    return text + (
        f", map {100 * fitted['map']['median_error_m']:.2f} cm" if "map" in fitted else ""
    )


def plot_trajectories(
    path: str | Path, trajectories: Mapping[str, np.ndarray], title: str
) -> None:
    """Write a PNG of trajectories {name: (N, 3) metres, aligned}, seen along the axis of least
    motion.

    The first is the reference and is drawn dashed in grey.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    reference = next(iter(trajectories.values()))
    flat = int(np.argmin(np.ptp(reference, axis=0)))
    across, up = (axis for axis in range(3) if axis != flat)
    figure, axes = plt.subplots(figsize=(8, 7))
    styles: list[dict[str, Any]] = [
        {"color": "0.6", "linestyle": "--"},
        {"color": "tab:red", "alpha": 0.7},
        {"color": "tab:blue"},
    ]
    for (name, points), style in zip(trajectories.items(), styles):
        axes.plot(points[:, across], points[:, up], label=name, linewidth=1.6, **style)
    axes.set(xlabel=f"{'xyz'[across]} [m]", ylabel=f"{'xyz'[up]} [m]", title=title, aspect="equal")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
