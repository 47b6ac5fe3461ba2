"""Horizontal bars as SVG: seconds and memory by stage."""

from xml.etree.ElementTree import Element

from vggt3_ros.evaluation.report_page.elements import add, element

WIDTH, ROW, LABEL, VALUE = 900, 26, 150, 110


def bars(name: str, label: str, values: dict[str, float], unit: str) -> Element:
    """Return an SVG with a bar for each of {name: value}, the value and its unit behind it."""
    drawing = element(
        "svg",
        viewBox=f"0 0 {WIDTH} {ROW * len(values) + 4}",
        class_=f"chart {name}",
        role="img",
        aria_label=label,
    )
    longest = max(values.values(), default=0.0) or 1.0
    for k, (title, value) in enumerate(values.items()):
        top, length = ROW * k + 4, (WIDTH - LABEL - VALUE) * value / longest
        add(
            drawing,
            element("text", title, x=LABEL - 8, y=top + 15, text_anchor="end"),
            element(
                "rect",
                x=LABEL,
                y=top,
                width=f"{max(length, 1):.1f}",
                height=ROW - 6,
                class_="bar",
            ),
            element("text", f"{_short(value)} {unit}", x=f"{LABEL + length + 6:.1f}", y=top + 15),
        )
    return drawing


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
