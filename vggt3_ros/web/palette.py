"""Colours of the page, RGB: those of Okabe and Ito, which colour-blind people tell apart."""

CORRECTED = (86, 180, 233)
ODOMETRY = (230, 159, 0)
ACCEPTED = (0, 190, 130)
REJECTED = (204, 121, 167)
KEYFRAME = (150, 190, 215)
CHOSEN = (255, 255, 255)
QUERY = (240, 228, 66)
BACKGROUND = (16, 18, 22)
FAULT = "rgb(255,130,120)"  # of text

LEGEND = (
    ("corrected path", CORRECTED),
    ("odometry", ODOMETRY),
    ("accepted loops", ACCEPTED),
    ("rejected loops", REJECTED),
    ("your image", QUERY),
)


def legend_html() -> str:
    """A line with a square for each colour."""
    squares = "".join(
        f'<span style="white-space:nowrap;margin-right:12px">'
        f'<span style="color:rgb{color}">&#9632;</span> {name}</span> '
        for name, color in LEGEND
    )
    return f'<div style="font-size:12px;line-height:1.5;margin:0 12px 6px 12px">{squares}</div>'
