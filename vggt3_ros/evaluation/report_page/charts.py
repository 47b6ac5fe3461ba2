"""Line charts and histograms as SVG: axes with ticks, lines, a title on every point."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator

from vggt3_ros.evaluation.report_page.elements import add, element

WIDTH, HEIGHT = 900, 280
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 12, 42
MOST_TITLES = 600  # points of a line that tell their values; more would weigh more than they say


@dataclass(frozen=True, eq=False)
class Line:
    """name: its class in the style sheet and in the legend. x, y: (N,); NaN breaks the line.
    titles: what each point says.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    titles: Sequence[str] = ()


@dataclass(frozen=True)
class Axis:
    """title with the unit; low, high: what is shown; logarithmic: low must be above 0."""

    title: str
    low: float
    high: float
    logarithmic: bool = False

    def share(self, values: np.ndarray) -> np.ndarray:
        """Return where values lie between low, 0, and high, 1; what lies beyond is at the end."""
        low, high = self.low, self.high
        if self.logarithmic:
            values, low, high = np.log10(np.maximum(values, low)), np.log10(low), np.log10(high)
        return np.clip((values - low) / max(high - low, 1e-12), 0, 1)

    def ticks(self) -> list[float]:
        locator = LogLocator(10, subs=(1, 2, 5)) if self.logarithmic else MaxNLocator(6)
        ends = self.low * (1 - 1e-9), self.high * (1 + 1e-9)
        return [
            float(t) for t in locator.tick_values(self.low, self.high) if ends[0] <= t <= ends[1]
        ]


def line_chart(name: str, label: str, x: Axis, y: Axis, lines: Sequence[Line]) -> Element:
    """Return an SVG of lines. name: its class; label: what it shows, for those who do not see
    it.
    """
    drawing = _framed(name, label, x, y)
    for line in lines:
        left, top = _placed(x, y, line.x, line.y)
        add(drawing, element("path", d=_path(left, top), class_=f"line {line.name}"))
        if 0 < len(line.titles) <= MOST_TITLES:
            for at_x, at_y, title in zip(left, top, line.titles):
                if np.isfinite(at_x + at_y):
                    dot = element(
                        "circle", element("title", title), cx=_text(at_x), cy=_text(at_y), r="6"
                    )
                    add(drawing, add(element("g", class_="hover"), dot))
    return drawing


def histogram(
    name: str, label: str, x: Axis, y_title: str, values: np.ndarray, bins: int = 40
) -> Element:
    """Return an SVG of how many of values (N,) lie where; what lies beyond the axis counts at its
    end.
    """
    counts, edges = np.histogram(np.clip(values, x.low, x.high), bins, (x.low, x.high))
    y = Axis(y_title, 0.0, float(max(counts.max(), 1)))
    drawing = _framed(name, label, x, y)
    for count, begin, end in zip(counts, edges[:-1], edges[1:]):
        (left, right), (top, bottom) = _placed(
            x, y, np.array([begin, end]), np.array([float(count), 0.0])
        )
        add(
            drawing,
            element(
                "rect",
                element("title", f"{count:,} from {begin:.3g} to {end:.3g}"),
                x=_text(left),
                y=_text(top),
                width=_text(max(right - left - 1, 0.5)),
                height=_text(bottom - top),
                class_="bar",
            ),
        )
    return drawing


def _framed(name: str, label: str, x: Axis, y: Axis) -> Element:
    """Return an SVG with axes, their ticks and titles."""
    drawing = element(
        "svg",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        class_=f"chart {name}",
        role="img",
        aria_label=label,
    )
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for tick in x.ticks():
        at = _text(LEFT + float(x.share(np.array(tick))) * (right - LEFT))
        add(
            drawing,
            element("line", x1=at, x2=at, y1=TOP, y2=bottom, class_="grid"),
            element("text", f"{tick:g}", x=at, y=bottom + 16, text_anchor="middle"),
        )
    for tick in y.ticks():
        at_y = bottom - float(y.share(np.array(tick))) * (bottom - TOP)
        add(
            drawing,
            element("line", x1=LEFT, x2=right, y1=_text(at_y), y2=_text(at_y), class_="grid"),
            element("text", f"{tick:g}", x=LEFT - 6, y=_text(at_y + 4), text_anchor="end"),
        )
    middle = (TOP + bottom) / 2
    return add(
        drawing,
        element("text", x.title, x=(LEFT + right) / 2, y=HEIGHT - 6, text_anchor="middle"),
        element(
            "text",
            y.title,
            x=14,
            y=middle,
            text_anchor="middle",
            transform=f"rotate(-90 14 {middle:.1f})",
        ),
    )


def _placed(x: Axis, y: Axis, at: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels from the left and from the top."""
    left = LEFT + x.share(at) * (WIDTH - RIGHT - LEFT)
    return left, HEIGHT - BOTTOM - y.share(values) * (HEIGHT - BOTTOM - TOP)


def _path(left: np.ndarray, top: np.ndarray) -> str:
    """Return the d of an SVG path through points; NaN breaks it."""
    out, pen = [], "M"
    for x, y in zip(left, top):
        if np.isfinite(x + y):
            out.append(f"{pen}{x:.1f} {y:.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(out)


def _text(value: float) -> str:
    return f"{value:.1f}"
