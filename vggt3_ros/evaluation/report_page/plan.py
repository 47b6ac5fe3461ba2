"""The map from above with paths and loops drawn over it."""

from collections.abc import Iterable
from xml.etree.ElementTree import Element

import numpy as np

from vggt3_ros.evaluation.report_page.elements import add, element
from vggt3_ros.evaluation.report_page.views import Above
from vggt3_ros.store.snapshot import Loop

MOST_CORNERS = 4000  # of a path
BAR_SHARE = 0.2  # of the width, at most, that the scale bar takes


def plan(name: str, label: str, view: Above, picture: str, *overlays: Element) -> Element:
    """Return an SVG: a picture (data URL) of the view, a scale bar, and overlays in its pixels."""
    drawing = element(
        "svg",
        element("image", href=picture, width=view.width, height=view.height),
        viewBox=f"0 0 {view.width} {view.height}",
        class_=f"plan {name}",
        role="img",
        aria_label=label,
    )
    return add(drawing, *overlays, _scale_bar(view))


def path_over(view: Above, name: str, pieces: Iterable[np.ndarray]) -> Element:
    """Return a path's pieces [(N, 3) metres in map] as lines; positions that are NaN break
    them.
    """
    line = []
    for points in pieces:
        step = max(1, len(points) // MOST_CORNERS)
        pen = "M"
        for x, y in view.pixels(points[::step]):
            if np.isfinite(x + y):
                line.append(f"{pen}{x:.1f} {y:.1f}")
                pen = "L"
            else:
                pen = "M"
    return element("path", d="".join(line), class_=f"way {name}")


def loops_over(
    view: Above, loops: Iterable[tuple[int, Loop]], centre: dict[int, np.ndarray]
) -> Element:
    """Return loops, each with a number for the page's script, as lines between keyframes. centre:
    {keyframe id: (3,) metres in map}.
    """
    group = element("g", class_="loops")
    for number, loop in loops:
        ends = view.pixels(np.array([centre[loop.source_id], centre[loop.target_id]]))
        (x1, y1), (x2, y2) = np.round(ends, 1).tolist()
        kind = "accepted" if loop.accepted else "rejected"
        add(
            group,
            element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=f"loop {kind}", data_loop=number),
        )
    return group


def places_over(view: Above, centre: dict[int, np.ndarray]) -> Element:
    """Return keyframes {id: (3,) metres in map} as dots that tell their ids."""
    group = element("g", class_="places")
    for keyframe_id, (x, y) in zip(centre, view.pixels(np.array(list(centre.values())))):
        title = element("title", f"keyframe {keyframe_id}")
        add(group, element("circle", title, cx=f"{x:.1f}", cy=f"{y:.1f}", r=3))
    return group


def _scale_bar(view: Above) -> Element:
    """Return the longest bar of 1, 2 or 5 times a power of ten metres that fits."""
    most = BAR_SHARE * view.width * view.pixel
    power = 10.0 ** np.floor(np.log10(most))
    metres = max(k * power for k in (1, 2, 5) if k * power <= most)
    right, y = view.width - 16, view.height - 16
    left = right - metres / view.pixel
    return element(
        "g",
        element("path", d=f"M{left:.1f} {y - 6}V{y}H{right}V{y - 6}"),
        element(
            "text", f"{metres:g} m", x=f"{(left + right) / 2:.1f}", y=y - 8, text_anchor="middle"
        ),
        class_="scale",
    )
