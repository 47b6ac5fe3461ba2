"""The paths over the map, and how far they are off along the run."""

from xml.etree.ElementTree import Element

import numpy as np

from vggt3_ros.evaluation.report_page.charts import Axis, Line, line_chart
from vggt3_ros.evaluation.report_page.elements import element, figure, table
from vggt3_ros.evaluation.report_page.facts import Facts
from vggt3_ros.evaluation.report_page.plan import path_over, places_over, plan
from vggt3_ros.evaluation.report_page.sections import absent, legend, section
from vggt3_ros.evaluation.report_page.views import Above
from vggt3_ros.evaluation.sequence import Evaluation

LEAST_CM = 0.01  # that the logarithmic axis shows
NAMES = {"truth": "truth", "odometry": "odometry", "corrected": "corrected"}


def trajectory(facts: Facts, view: Above, picture: str) -> Element:
    """Return the section of the paths over the map from above."""
    aligned = (
        "Odometry is aligned to the truth."
        if "truth" in facts.paths
        else "There is no truth to compare with; odometry begins where the map has its first keyframe."
    )
    centre = dict(zip(facts.snapshot.keyframe_ids.tolist(), facts.snapshot.T_map_cam[:, :3, 3]))
    ways = [path_over(view, name, facts.paths[name]) for name in NAMES if name in facts.paths]
    drawing = plan(
        "paths",
        "Trajectories over the map from above",
        view,
        picture,
        *ways,
        places_over(view, centre),
    )
    return section(
        "trajectory",
        "Trajectory over the map",
        element("p", f"From above, without what lies above the cameras. {aligned}"),
        legend(**{name: NAMES[name] for name in NAMES if name in facts.paths}),
        drawing,
    )


def error(facts: Facts) -> Element:
    """Return the section of the errors along the run."""
    title = "Error over the run"
    evaluation = facts.evaluation
    if evaluation is None:
        return absent(
            "error", title, "The store holds no true trajectory, so that errors are not known."
        )
    known = np.isfinite(evaluation.T_truth_cam).all(axis=(1, 2))
    snapshot = facts.snapshot
    seconds = (snapshot.stamps_ns[known] - snapshot.stamps_ns.min()) / 1e9
    ids = snapshot.keyframe_ids[known]
    centimetres = {
        "odometry": 100 * evaluation.odometry.distances_m,
        "corrected": 100 * evaluation.corrected.distances_m,
    }
    lines = [
        Line(
            name,
            seconds,
            values,
            [
                f"keyframe {i}, {s:.1f} s: {v:.2f} cm ({name})"
                for i, s, v in zip(ids, seconds, values)
            ],
        )
        for name, values in centimetres.items()
    ]
    every = np.concatenate(list(centimetres.values()))
    y = Axis(
        "distance from the truth [cm]",
        max(LEAST_CM, 10 ** np.floor(np.log10(max(every.min(), LEAST_CM)))),
        10 ** np.ceil(np.log10(max(every.max(), 10 * LEAST_CM))),
        logarithmic=True,
    )
    x = Axis("time [s]", 0.0, max(float(seconds.max()), 1e-3))
    return section(
        "error",
        title,
        element("p", "Distance of each keyframe from the truth after SE(3) alignment."),
        legend(odometry="odometry", corrected="corrected"),
        line_chart(
            "errors", "Error of odometry and of the corrected poses over time", x, y, lines
        ),
        _figures(evaluation),
    )


def _figures(evaluation: Evaluation) -> Element:
    result, rows = evaluation.result, []
    for name, error in (("odometry", evaluation.odometry), ("corrected", evaluation.corrected)):
        found = result[name]
        rows.append(
            (
                name,
                figure(f"{name}.ate_m", found["ate_m"], f"{100 * found['ate_m']:.2f} cm"),
                f"{100 * np.median(error.distances_m):.2f} cm",
                f"{100 * error.distances_m.max():.2f} cm",
                figure(
                    f"{name}.rotation_deg",
                    found["rotation_deg"],
                    f"{found['rotation_deg']:.2f} deg",
                ),
            )
        )
    if "sim3" in result:
        fitted = result["sim3"]["corrected"]
        rows.append(
            (
                f"corrected, scaled by {result['sim3']['scale']:.4f}",
                figure("sim3.corrected.ate_m", fitted["ate_m"], f"{100 * fitted['ate_m']:.2f} cm"),
                "",
                "",
                figure(
                    "sim3.corrected.rotation_deg",
                    fitted["rotation_deg"],
                    f"{fitted['rotation_deg']:.2f} deg",
                ),
            )
        )
    return table(("", "ATE (RMSE)", "median", "largest", "rotation (RMSE)"), rows)
