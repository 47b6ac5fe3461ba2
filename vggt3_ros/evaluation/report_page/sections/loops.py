"""Loops, accepted and rejected, with the images behind each."""

from xml.etree.ElementTree import Element

import numpy as np

from vggt3_ros.evaluation.report_page.elements import Child, data_block, element, table
from vggt3_ros.evaluation.report_page.facts import Facts
from vggt3_ros.evaluation.report_page.loop_choice import (
    MOST_DRAWN,
    MOST_LISTED,
    counted,
    in_order,
    known_m,
    listed,
)
from vggt3_ros.evaluation.report_page.pictures import MOST, MOST_BYTES, SIDE, keyframe_pictures
from vggt3_ros.evaluation.report_page.plan import loops_over, places_over, plan
from vggt3_ros.evaluation.report_page.sections import absent, section
from vggt3_ros.evaluation.report_page.views import Above
from vggt3_ros.store.snapshot import Loop


def loops(facts: Facts, view: Above, picture: str) -> Element:
    """Return the section of the loops over the map, as a table, and the pair of images of the one
    that is chosen.
    """
    snapshot = facts.snapshot
    if not snapshot.loops:
        return absent("loops", "Loops", "No pair of keyframes was tried in this map.")
    drawn = in_order(snapshot)
    shown = listed(drawn)
    ids = [keyframe_id for _, loop in shown for keyframe_id in (loop.source_id, loop.target_id)]
    pictures = keyframe_pictures(facts.store, ids)
    centre = dict(zip(snapshot.keyframe_ids.tolist(), snapshot.T_map_cam[:, :3, 3]))
    said = [
        {"source": loop.source_id, "target": loop.target_id, "text": _told(loop)} for loop in drawn
    ]
    return section(
        "loops",
        "Loops",
        table(("proposed by", "accepted", "rejected"), counted(snapshot), class_="sortable"),
        element("p", _bounds(facts, len(drawn), len(shown), len(pictures))),
        _filters(),
        element(
            "div",
            plan(
                "pairs",
                "Loops over the map from above",
                view,
                picture,
                places_over(view, centre),
                loops_over(
                    view, sorted(enumerate(drawn), key=lambda one: one[1].accepted), centre
                ),
            ),
            _pair(),
            class_="beside",
        ),
        element("div", _rows(shown), class_="long"),
        data_block("loop-data", said),
        data_block("pictures", pictures),
    )


def _told(loop: Loop) -> str:
    measured = (
        f", {loop.inliers} matches agree"
        if loop.inliers or loop.T_source_target is not None
        else ""
    )
    residual = (
        f", off from the solved graph by {100 * loop.residual_m:.1f} cm (known to {100 * known_m(loop):.1f}) and {np.degrees(loop.residual_rad):.2f} deg"
        if np.isfinite(loop.residual_m)
        else ""
    )
    verdict = "accepted" if loop.accepted else f"rejected: {loop.reason}"
    return f"{loop.source_id} and {loop.target_id}, proposed by {loop.origin}{measured}{residual}; {verdict}"


def _bounds(facts: Facts, drawn: int, shown: int, pictures: int) -> str:
    count = len(facts.snapshot.loops)
    text = "Point at a line or a row to see the two images; click to hold them. "
    text += f"The map shows {drawn:,} of {count:,} loops (at most {MOST_DRAWN:,}), "
    text += f"the table {shown:,} (at most {MOST_LISTED}): those first that deserve a look. "
    if not facts.store.has_images:
        return text + "The map was saved without images."
    return (
        text
        + f"{pictures} keyframes are embedded as images of at most {SIDE} pixels, at most {MOST} or {MOST_BYTES / 1e6:.0f} MB of them."
    )


def _filters() -> Element:
    boxes: list[Child] = []
    for kind in ("accepted", "rejected"):
        box = element("input", type="checkbox", checked="checked", data_kind=kind)
        boxes.append(element("label", box, element("i", class_=f"key {kind}"), kind))
    return element("p", *boxes, class_="filters")


def _pair() -> Element:
    images = [
        element("figure", element("img", alt="", id=f"pair-{side}"), element("figcaption", ""))
        for side in ("source", "target")
    ]
    return element(
        "div",
        element("p", "No loop is chosen.", id="pair-text"),
        element("div", *images, class_="images"),
        id="pair",
    )


def _centimetres(metres: float) -> float | str:
    return 100 * metres if np.isfinite(metres) else ""


def _rows(shown: list[tuple[int, Loop]]) -> Element:
    head = (
        "source",
        "target",
        "",
        "proposed by",
        "agreeing",
        "off [cm]",
        "[deg]",
        "known to [cm]",
        "why not",
    )
    made = table(
        head,
        [
            (
                loop.source_id,
                loop.target_id,
                "accepted" if loop.accepted else "rejected",
                loop.origin,
                loop.inliers,
                _centimetres(loop.residual_m),
                float(np.degrees(loop.residual_rad)) if np.isfinite(loop.residual_rad) else "",
                _centimetres(known_m(loop)),
                loop.reason,
            )
            for _, loop in shown
        ],
        class_="sortable",
        id="loop-table",
    )
    for row, (number, loop) in zip(made.iter("tr"), [(-1, None), *shown]):
        if loop is not None:
            row.set("data-loop", str(number))
            row.set("class", "accepted" if loop.accepted else "rejected")
            row.set("tabindex", "0")
    return made
