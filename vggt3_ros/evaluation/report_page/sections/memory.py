"""The scene memory: size, what is left of its fit, what it covers, what it makes of keyframes held
out.
"""

from xml.etree.ElementTree import Element

import numpy as np

from vggt3_ros.evaluation.report_page.charts import Axis, histogram
from vggt3_ros.evaluation.report_page.elements import Child, element, table
from vggt3_ros.evaluation.report_page.facts import Facts
from vggt3_ros.evaluation.report_page.memory_facts import HeldOut, MemoryFacts
from vggt3_ros.evaluation.report_page.pictures import png
from vggt3_ros.evaluation.report_page.plan import plan
from vggt3_ros.evaluation.report_page.sections import absent, legend, section
from vggt3_ros.evaluation.report_page.views import Above, spacing_of

KNOWN, UNKNOWN = (110, 150, 190), (224, 122, 31)  # RGB, as the style sheet has them
MOST_SPREAD = 0.995  # share of the slots that the histogram's axis is made for


def memory(facts: Facts, view: Above) -> Element:
    """Return the section of the scene memory."""
    found = facts.memory
    if found is None:
        return absent(
            "memory",
            "Scene memory",
            "This map has no scene memory: its keyframes have no depth or no features.",
        )
    content: list[Child] = [_figures(found)]
    if len(found.spread):
        content += [
            element("h3", "What is left of the fit"),
            element("p", "How far the observations that a slot averages lie apart."),
            _spread(found),
        ]
    if len(found.points):
        content += [
            element("h3", "Coverage"),
            element(
                "p",
                f"Points of the map from above: {found.covered:.1%} have a slot within {100 * found.near_m:.0f} cm.",
            ),
            legend(known=f"a slot within {100 * found.near_m:.0f} cm", unknown="none"),
            _coverage(found, view),
        ]
    content += [element("h3", "Keyframes held out"), *_held_out(found.held_out)]
    return section("memory", "Scene memory", *content)


def _figures(found: MemoryFacts) -> Element:
    error = found.validation_error_m
    return table(
        (
            "slots",
            "size",
            "keyframes learned from",
            "optimizer steps",
            "error on keyframes held out (median)",
        ),
        [
            (
                f"{found.slots:,}",
                f"{found.bytes / 1e6:.1f} MB",
                f"{found.keyframes:,}",
                f"{found.steps:,}" if found.steps else "none: closed form",
                f"{100 * error:.2f} cm" if np.isfinite(error) else "none was held out",
            )
        ],
    )


def _spread(found: MemoryFacts) -> Element:
    centimetres = 100 * found.spread
    end = max(float(np.quantile(centimetres, MOST_SPREAD)), 0.1)
    return histogram(
        "spread", "Spread of the slots", Axis("spread [cm]", 0.0, end), "slots", centimetres
    )


def _coverage(found: MemoryFacts, view: Above) -> Element:
    colors = np.where(found.known[:, None], np.array(KNOWN, np.uint8), np.array(UNKNOWN, np.uint8))
    points = np.asarray(found.points, float)
    drawn = view.drawn(points, colors, spacing_of(points - points[0]))
    return plan("coverage", "What of the map the scene memory covers", view, png(drawn))


def _held_out(held_out: list[HeldOut] | None) -> list[Child]:
    if held_out is None:
        return [
            element("p", "The map was saved without images: none can be asked.", class_="absent")
        ]
    if not held_out:
        return [element("p", "None was held out of the memory.", class_="absent")]
    placed = [row for row in held_out if np.isfinite(row.metres)]
    return [
        element(
            "p",
            f"Asked without a hint and without looking at any keyframe, the memory localizes {len(placed)} of {len(held_out)} "
            "that it has not learned from.",
        ),
        table(
            ("keyframe", "off by [cm]", "[deg]", "keypoints that agree"),
            [
                (
                    row.keyframe_id,
                    100 * row.metres if np.isfinite(row.metres) else "not localized",
                    row.degrees if np.isfinite(row.degrees) else "",
                    row.agreeing,
                )
                for row in held_out
            ],
            class_="sortable",
        ),
    ]
