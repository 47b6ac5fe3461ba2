"""Rows of contenders as pictures: recall of localization, and error against time."""

from pathlib import Path
from typing import Any

from vggt3_ros.benchmarks.peers.scoring import CURVE, LEAST_DEGREES

SHORTEST_SECONDS = 0.1  # that a logarithmic axis shows


def recall_curves(path: Path, rows: list[dict[str, Any]], name: str) -> bool:
    """Write a PNG of the share of queries localized within x cm (and x degrees, at least
    scoring.LEAST_DEGREES); False where no row has any.
    """
    shown = [row for row in rows if row.get("recall_curve")]
    if not shown:
        return False
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(9, 5.5))
    for row in shown:
        axes.plot(
            CURVE,
            [100 * share for share in row["recall_curve"]],
            label=_plain(row["title"]),
            linestyle="--" if row["knows_poses"] else "-",
            linewidth=2.4 if "**" in row["title"] else 1.4,
            color=_style(row).get("color"),
        )
    axes.set(
        xlabel=f"error below x cm, and below {LEAST_DEGREES:.0f} degrees (x degrees for larger x)",
        ylabel="queries [%]",
        title=f"{name}: localization of {shown[0]['localization']['queries']} unseen images",
        xscale="log",
        ylim=(-2, 102),
        xlim=(CURVE[0], CURVE[-1]),
    )
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    _finish(figure, axes, path)
    return True


def error_against_time(path: Path, rows: list[dict[str, Any]], name: str) -> bool:
    """Write a PNG of trajectory errors (scale fitted, which all have) against CPU seconds, which
    other work on the machine changes least; the label says what share of the keyframes is
    registered. False where no row has an error.
    """
    shown = [row for row in rows if "ate_scaled_m" in row]
    if not shown:
        return False
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(9, 5.5))
    for row in shown:
        axes.scatter(
            max(row["cpu_seconds"], SHORTEST_SECONDS),
            100 * row["ate_scaled_m"],
            s=110 if "**" in row["title"] else 60,
            label=f"{_plain(row['title'])} ({row['registered']:.0%} registered)",
            zorder=3,
            **_style(row),
        )
    errors = [100 * row["ate_scaled_m"] for row in shown if row["ate_scaled_m"] > 0]
    axes.set(
        xlabel="CPU seconds for the map, all cores",
        ylabel="ATE, scale fitted [cm]",
        title=f"{name}: error of {shown[0]['keyframes']} keyframes against time",
        xscale="log",
        yscale="log" if errors and max(errors) > 10 * min(errors) else "linear",
    )
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)
    _finish(figure, axes, path)
    return True


def _finish(figure: Any, axes: Any, path: Path) -> None:
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    _pyplot().close(figure)


# one hue for each system, so that its variants are seen to belong together
_HUES = {
    "odometry": "0.5",
    "vggt3": "tab:blue",
    "vggt3-memory": "tab:cyan",
    "vggt3-no-places": "slateblue",
    "vggt3-no-memory": "navy",
    "colmap-sift": "tab:red",
    "colmap-sift-global": "tab:orange",
    "colmap-xfeat": "firebrick",
    "colmap-xfeat-global": "goldenrod",
    "orbslam3": "tab:green",
    "orbslam3-no-loops": "limegreen",
    "vggt3-posed": "tab:blue",
    "vggt3-posed-memory": "tab:cyan",
    "hloc": "tab:purple",
}
_MARKERS = {"vggt3": "o", "colmap": "s", "orbslam3": "^", "odometry": "x"}


def _style(row: dict[str, Any]) -> dict[str, str]:
    style = {"marker": _MARKERS.get(row["contender"].split("-")[0], "D")}
    hue = _HUES.get(row["contender"])
    return style | ({"color": hue} if hue else {})


def _plain(title: str) -> str:
    return title.replace("*", "")


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
