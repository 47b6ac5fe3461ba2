"""The panel beside the scene: status, legend, layers, film, images."""

from collections.abc import Callable

import numpy as np
import viser

from vggt3_ros.web import palette
from vggt3_ros.web.status_text import paragraph

LAYERS = {
    "points": "Points",
    "keyframes": "Keyframes",
    "corrected": "Corrected path",
    "odometry": "Path of the odometry",
    "accepted": "Accepted loops",
    "rejected": "Rejected loops",
}
HIDDEN = ("rejected",)
HELP = "Click a keyframe to see its image."
UPLOAD_HELP = "A JPEG or PNG of the map's camera; it stays on this machine."


class Panel:
    """The controls, by name; layer(name, visible) hears the check boxes."""

    def __init__(self, gui: viser.GuiApi, layer: Callable[[str, bool], None]) -> None:
        self.status = gui.add_html(paragraph("reading the store ..."))
        gui.add_html(palette.legend_html())
        with gui.add_folder("Refinement, step by step"):
            self.play = gui.add_button("Play", icon=viser.Icon.PLAYER_PLAY)
            self.film = gui.add_slider("State", 0.0, 1.0, 0.01, 1.0)
            self.film_text = gui.add_html(paragraph(""))
        with gui.add_folder("Show", expand_by_default=False):
            for name, label in LAYERS.items():
                box = gui.add_checkbox(label, name not in HIDDEN)
                _switch(box, name, layer)
            self.point_size = gui.add_slider("Point size (mm)", 1.0, 200.0, 0.5, 10.0)
            self.height = gui.add_slider("Up to height (m)", 0.0, 1.0, 0.05, 1.0)
        self.upload = gui.add_upload_button(
            "Where was this image taken?",
            mime_type="image/png,image/jpeg",
            icon=viser.Icon.PHOTO_SEARCH,
            hint=UPLOAD_HELP,
        )
        self.said = gui.add_html(paragraph(HELP))
        self._image = gui.add_image(np.zeros((2, 2, 3), np.uint8), visible=False)

    def say(self, html: str, image: np.ndarray | None = None) -> None:
        """Show a text, and an image (h, w, 3) uint8 RGB below it or none."""
        self.said.content = html
        if image is not None:
            self._image.image = image
        self._image.visible = image is not None

    def offer(self, heights: tuple[float, float], states: float) -> None:
        """The ranges of the sliders: heights of the points, metres; states of the film."""
        low, high = np.floor(heights[0] * 20) / 20, np.ceil(heights[1] * 20) / 20
        all_shown = self.height.value >= self.height.max
        self.height.min = min(float(low), self.height.value)
        self.height.max = max(float(high), float(low) + 0.05)
        if all_shown or self.height.value > self.height.max:
            put(self.height, self.height.max)
        self.height.min = float(low)
        self.film.max = states

    def offer_size(self, millimetres: float) -> None:
        self.point_size.max = max(200.0, round(10 * millimetres))
        put(self.point_size, max(round(2 * millimetres) / 2, 1.0))

    def highest(self) -> float:
        """z above which points are hidden; infinite where the slider is at its end."""
        return float(np.inf) if self.height.value >= self.height.max else float(self.height.value)


def put(control: viser.GuiInputHandle[float], value: float) -> None:
    """Set a control, whose callbacks then run at once."""
    control.value = value  # type: ignore[misc]  # mypy overlooks the setter: a method precedes it


def _switch(
    box: viser.GuiInputHandle[bool], name: str, layer: Callable[[str, bool], None]
) -> None:
    box.on_update(lambda _: layer(name, box.value))
