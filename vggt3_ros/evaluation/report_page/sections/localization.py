"""How often unseen images are localized, and those that are localized worst beside what the map
shows there.
"""

from xml.etree.ElementTree import Element

import numpy as np

from vggt3_ros.evaluation.localization import pose_errors
from vggt3_ros.evaluation.report_page.charts import Axis, Line, line_chart
from vggt3_ros.evaluation.report_page.elements import Child, element, figure, table
from vggt3_ros.evaluation.report_page.facts import Facts
from vggt3_ros.evaluation.report_page.pictures import jpeg, shrunk
from vggt3_ros.evaluation.report_page.sections import absent, legend, section
from vggt3_ros.evaluation.report_page.views import seen_from
from vggt3_ros.evaluation.sequence import Evaluation
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import undistort

STANDARD = (5.0, 10.0)  # limits that are reported everywhere
WAYS = {"memory": False, "verified": True}
TITLES = {"memory": "scene memory alone", "verified": "verified against keyframes"}
RESULTS = {"memory": "localization_memory", "verified": "localization"}
MOST_QUERIES, SIDE = 6, 480  # shown, the worst ones; pixels of their longer side
BEGIN, END = 0.1, 50.0  # of the curve: cm and degrees


def localization(facts: Facts) -> Element:
    """Return the section of the recall curves."""
    title = "Localization"
    evaluation = facts.evaluation
    if evaluation is None or not evaluation.queries:
        return absent("localization", title, _without_queries(evaluation))
    limits = np.union1d(np.geomspace(BEGIN, END, 120), STANDARD)
    lines = []
    for name, errors in _errors(evaluation).items():
        shares = recall(*errors, limits)
        titles = [
            f"{share:.1%} within {limit:.1f} cm, {limit:.1f} deg ({TITLES[name]})"
            for limit, share in zip(limits, shares)
        ]
        lines.append(Line(name, limits, 100 * shares, titles))
    return section(
        "localization",
        title,
        element(
            "p",
            f"Share of {len(evaluation.queries)} unseen images that are localized within x centimetres and x degrees, "
            "without a hint.",
        ),
        legend(**TITLES),
        line_chart(
            "recall",
            "Share of images localized within a limit",
            Axis("within [cm and deg]", BEGIN, END, logarithmic=True),
            Axis("images [%]", 0.0, 100.0),
            lines,
        ),
        _figures(evaluation),
    )


def recall(metres: np.ndarray, degrees: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return the shares of errors (N,) that are within each limit (L,), in centimetres and in
    degrees.
    """
    inside = (100 * metres[:, None] <= limits) & (degrees[:, None] <= limits)
    return np.asarray(inside.mean(axis=0))


def queries(facts: Facts) -> Element:
    """Return the section of the worst queries."""
    title = "Worst queries"
    evaluation = facts.evaluation
    if evaluation is None or not evaluation.queries:
        return absent("queries", title, _without_queries(evaluation))
    metres, degrees = _errors(evaluation)["verified"]
    worst = np.lexsort((-degrees, -metres))[:MOST_QUERIES]
    return section(
        "queries",
        title,
        element(
            "p",
            f"The {len(worst)} images with the largest errors, verified (at most {MOST_QUERIES}, {SIDE} pixels). Beside each, "
            "the points of the map from the pose that was found; grey where there are none.",
        ),
        *(_query(facts, evaluation, int(k), metres[k], degrees[k]) for k in worst),
    )


def _query(facts: Facts, evaluation: Evaluation, k: int, metres: float, degrees: float) -> Element:
    """Return an image beside what the map shows from its pose; from the true one where none was
    found.
    """
    query, answer = evaluation.queries[k], evaluation.answers[True][k]
    T_map_truth = se3.inverse(evaluation.corrected.T_truth_estimate)
    found = answer.T_map_cam is not None
    pose = np.asarray(answer.T_map_cam if found else T_map_truth @ np.asarray(query.T_world_cam))
    image = shrunk(undistort(query.image, facts.camera), SIDE)
    camera = facts.camera.undistorted().scaled(image.shape[1], image.shape[0])
    cloud = facts.cloud
    pose = se3.from_rotation_translation(pose[:3, :3], pose[:3, 3] - cloud.origin)
    there = seen_from(pose, camera, cloud.around_origin, cloud.colors, facts.spacing)
    if found:
        how = "verified" if answer.verified else "by the scene memory alone"
        said = (
            f"off by {100 * metres:.2f} cm and {degrees:.2f} deg; {answer.inliers} inliers, {how}"
        )
    else:
        said = f"{answer.code.replace('_', ' ')}: {answer.message}"
    return element(
        "div",
        element("p", element("b", f"Query {k}: "), said),
        element(
            "div",
            _shown(jpeg(image, SIDE), "the image"),
            _shown(
                jpeg(there, SIDE), "the map from there" if found else "the map from the true pose"
            ),
            class_="images",
        ),
        class_="query",
        data_query=k,
    )


def _shown(url: str, text: str) -> Element:
    return element("figure", element("img", src=url, alt=text), element("figcaption", text))


def _errors(evaluation: Evaluation) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    truth = [query.T_world_cam for query in evaluation.queries]
    T_truth_map = evaluation.corrected.T_truth_estimate
    return {
        name: pose_errors(evaluation.answers[verify], truth, T_truth_map)
        for name, verify in WAYS.items()
    }


def _figures(evaluation: Evaluation) -> Element:
    rows: list[tuple[Child, ...]] = []
    for name, key in RESULTS.items():
        found = evaluation.result[key]
        numbers = [
            (field, text.format(factor * found[field]) if np.isfinite(found[field]) else "none")
            for field, text, factor in (
                ("median_m", "{:.2f} cm", 100),
                ("median_deg", "{:.2f} deg", 1),
                ("within_5cm_5deg", "{:.1%}", 1),
                ("within_10cm_10deg", "{:.1%}", 1),
                ("localized", "{:.1%}", 1),
                ("seconds_per_query", "{:.2f} s", 1),
                ("in_ellipsoid", "{:.1%}", 1),
            )
        ]
        rows.append(
            (
                TITLES[name],
                *(figure(f"{key}.{field}", found[field], text) for field, text in numbers),
            )
        )
    head = (
        "",
        "median",
        "",
        "5 cm, 5 deg",
        "10 cm, 10 deg",
        "localized",
        "a query",
        "in 95 % ellipsoid",
    )
    return table(head, rows)


def _without_queries(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "A store holds no unseen images with known poses; the command vggt3 evaluate localizes those of a data set."
    return "The data set has no unseen images with known poses."
