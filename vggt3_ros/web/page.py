"""The page: the scene, the panel beside it, and what its controls do."""

import logging
import threading
import time
from pathlib import Path

import numpy as np
import viser

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import undistort
from vggt3_ros.geometry.local_frame import shifted
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.web import palette
from vggt3_ros.web.answers import about_image, about_keyframe
from vggt3_ros.web.drawing import Drawing, frustum
from vggt3_ros.web.finder import Finder, Found, small
from vggt3_ros.web.first_view import OPENING, first_view
from vggt3_ros.web.panel import Panel, put
from vggt3_ros.web.server import Server
from vggt3_ros.web.status_text import paragraph, status_html
from vggt3_ros.web.timeline import Timeline
from vggt3_ros.web.watching import Seen

_log = logging.getLogger(__name__)
IMAGE_WIDTH = 480  # of images on the page, pixels
QUERY_DEPTH = 0.25  # of how far keyframes look: the frustum of a localized image
STATE_SECONDS, FRAMES_PER_SECOND = 5.0, 12  # of the film, from one state to the next


class Page:
    """What is seen on a Server of the store in `folder`. show() replaces it; controls may be used
    in other threads meanwhile.
    """

    def __init__(self, server: Server, folder: Path, finder: Finder, most_points: int) -> None:
        self._server, self._folder, self._finder = server, folder, finder
        self._lock = threading.RLock()
        self._playing = threading.Event()
        self._seen = Seen()
        self._timeline: Timeline | None = None
        self._offering = False  # the panel's ranges change, and nobody moved a slider
        self._query: viser.CameraFrustumHandle | None = None
        server.gui.configure_theme(
            dark_mode=True, show_logo=False, show_share_button=False, control_width="medium"
        )
        server.scene.set_background_image(
            np.full((1, 1, 3), palette.BACKGROUND, np.uint8), format="png"
        )
        # Points and lines have no shading; the map of a sky that lights it would be sent in vain.
        server.scene.configure_environment_map(None)
        self._drawing = Drawing(server.scene, self.clicked, most_points)
        self.panel = Panel(server.gui, self._drawing.layer)
        self.panel.height.on_update(lambda _: None if self._offering else self._redraw())
        self.panel.point_size.on_update(
            lambda _: self._drawing.resize_points(self.panel.point_size.value / 1000)
        )
        self.panel.film.on_update(lambda _: self._place(self.panel.film.value))
        self.panel.play.on_click(lambda _: self.play())
        self.panel.upload.on_upload(lambda event: self._uploaded(event.target.value))

    def show(self, seen: Seen) -> None:
        """Show what was found in the store."""
        with self._lock, self._server.atomic():
            first = self._seen.newest is None
            self._playing.clear()
            self._seen = seen
            snapshot = seen.newest
            self._timeline = Timeline.of(seen.snapshots) if snapshot is not None else None
            if snapshot is None or not len(snapshot):
                self._drawing.clear()
                self._forget_query()
            else:
                if first:
                    self._look_at_all()
                self._offering = True
                self.panel.offer(self._heights(), self._timeline.end if self._timeline else 1.0)
                self._offering = False
                origin = self._drawing.origin
                self._redraw()
                if not np.array_equal(origin, self._drawing.origin):
                    self._forget_query()
                self.panel.offer_size(1000 * self._drawing.point_size)
            self.panel.status.content = status_html(seen, self._drawing.shown)

    def _redraw(self) -> None:
        with self._lock, self._server.atomic():
            snapshot, timeline = self._seen.newest, self._timeline
            if snapshot is None or timeline is None:
                return
            cameras = [self._seen.cameras[int(i)] for i in snapshot.keyframe_ids]
            highest = self.panel.highest()
            self._drawing.show(snapshot, cameras, timeline.states[0].T_map_cam, highest)
            put(self.panel.film, timeline.end)
            self.panel.film_text.content = paragraph(timeline.at(timeline.end).text)
            self.panel.status.content = status_html(self._seen, self._drawing.shown)

    def _heights(self) -> tuple[float, float]:
        """(lowest, highest) z of the points, from the cloud's origin on."""
        snapshot = self._seen.newest
        if snapshot is None or not len(snapshot.cloud):
            return 0.0, 0.0
        z = snapshot.cloud.around_origin[:, 2]
        return float(z.min()), float(z.max())

    def _look_at_all(self) -> None:
        """For visitors to come, and those who are there."""
        snapshot = self._seen.newest
        if snapshot is None:
            return
        view, camera = first_view(snapshot), self._server.initial_camera
        self._server.scene.set_up_direction(tuple(view.up))
        camera.fov, camera.up = OPENING, view.up
        camera.position, camera.look_at = view.position, view.look_at
        for client in self._server.get_clients().values():
            client.camera.up_direction = view.up
            client.camera.position, client.camera.look_at = view.position, view.look_at

    # the film
    # -----------------------------------------------------------------------------------------

    def _place(self, place: float) -> None:
        with self._lock, self._server.atomic():
            if self._timeline is None:
                return
            moment = self._timeline.at(place)
            self._drawing.place(moment.T_map_cam, moment.loops)
            self.panel.film_text.content = paragraph(moment.text)

    def play(self) -> None:
        """From the beginning to the end; a second click stops it."""
        with self._lock:
            if self._playing.is_set():
                self._playing.clear()
                return
            if self._timeline is None:
                return
            end = self._timeline.end
            self._playing.set()
        try:
            steps = max(1, round(end * STATE_SECONDS * FRAMES_PER_SECOND))
            for place in np.linspace(0.0, end, steps + 1):
                if not self._playing.is_set():
                    return
                put(self.panel.film, float(place))
                time.sleep(1 / FRAMES_PER_SECOND)
        finally:
            self._playing.clear()

    # images
    # -----------------------------------------------------------------------------------------

    def clicked(self, row: int) -> None:
        """A keyframe: its image, and what is known of it."""
        snapshot = self._seen.newest
        if snapshot is None or row >= len(snapshot):
            return
        about = about_keyframe(snapshot, row)
        try:
            with KeyframeStore(self._folder, read_only=True) as store:
                if not store.has_images:
                    raise ValueError("this map was saved without images")
                keyframe = store.get(int(snapshot.keyframe_ids[row]))
            image = small(undistort(keyframe.image, keyframe.camera), IMAGE_WIDTH)
        except (ValueError, KeyError) as error:
            self.panel.say(about + paragraph(str(error), palette.FAULT))
            return
        with self._lock:
            self._drawing.highlight(row, image)
            self.panel.say(about, image)

    def _uploaded(self, file: viser.UploadedFile) -> None:
        self.find(file.name, file.content)

    def find(self, name: str, data: bytes) -> Found | None:
        """Localize an uploaded file and show where it was taken; None where it cannot be used,
        which the page says.
        """
        self.panel.say(paragraph(f"{name}: looking for it in the map ..."))
        self._forget_query()
        try:
            found = self._finder(data)
        except (ValueError, OSError) as error:
            _log.warning("uploaded %s: %s", name, error)
            self.panel.say(paragraph(f"{name}: {error}", palette.FAULT))
            return None
        image, answer = small(found.image, IMAGE_WIDTH), found.localization
        self.panel.say(about_image(name, answer), image)
        if answer.T_map_cam is None:
            return found
        with self._lock, self._server.atomic():
            if self._timeline is not None:
                put(self.panel.film, self._timeline.end)
            self._drawing.highlight(None)
            self._query = frustum(
                self._server.scene,
                "/your_image",
                found.camera.undistorted(),
                palette.QUERY,
                QUERY_DEPTH * self._drawing.reach,
                image,
            )
            T_local_cam = shifted(answer.T_map_cam, -self._drawing.origin)
            position, quaternion = se3.to_quaternion(T_local_cam)
            self._query.position, self._query.wxyz = position, quaternion[[3, 0, 1, 2]]
        return found

    def _forget_query(self) -> None:
        with self._lock:
            if self._query is not None:
                self._query.remove()
            self._query = None
