"""A snapshot as nodes of a viser scene, which move without being sent anew.

Points are one cloud for each keyframe (or run of keyframes), in its camera's frame: to move them,
a pose is sent, not the points.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import viser

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.local_frame import shifted
from vggt3_ros.store.snapshot import Loop, PointMap, Snapshot
from vggt3_ros.web import palette
from vggt3_ros.web.attachment import attach, reach
from vggt3_ros.web.shapes import anchors, no_segment, pair_segments, path_segments, spacing

MOST_FRUSTUMS = 512  # of a longer path every second, third ... keyframe is drawn
LAYERS = ("points", "keyframes", "corrected", "odometry", "accepted", "rejected")
PATH_PX, LOOP_PX = 3.0, 1.0


@dataclass(frozen=True, eq=False)
class _Moving:
    """A node that is carried by a keyframe: row of it."""

    node: viser.SceneNodeHandle
    row: int


class Drawing:
    """The scene of one snapshot. All it draws is relative to the origin of the cloud.

    clicked(row) hears which keyframe was clicked. shown: points drawn. reach: how far keyframes
    look, metres.
    """

    def __init__(
        self, scene: viser.SceneApi, clicked: Callable[[int], None], most_points: int
    ) -> None:
        self._scene, self._clicked, self._most_points = scene, clicked, most_points
        self._layers = {
            name: scene.add_frame(f"/{name}", show_axes=False, visible=name != "rejected")
            for name in LAYERS
        }
        self._nodes: list[viser.SceneNodeHandle] = []
        self._moving: list[_Moving] = []
        self._clouds: list[viser.PointCloudHandle] = []
        self._path: viser.LineSegmentsHandle | None = None
        self._accepted: viser.LineSegmentsHandle | None = None
        self._frustums: dict[int, viser.CameraFrustumHandle] = {}
        self._snapshot: Snapshot | None = None
        self.origin, self.shown, self.point_size, self.reach = np.zeros(3), 0, 0.01, 1.0

    def layer(self, name: str, visible: bool) -> None:
        self._layers[name].visible = visible

    def clear(self) -> None:
        for node in self._nodes:
            node.remove()
        self._nodes, self._moving, self._clouds = [], [], []
        self._frustums, self._path, self._accepted, self._snapshot = {}, None, None, None
        self.shown = 0

    def show(
        self,
        snapshot: Snapshot,
        cameras: list[Camera],
        T_before: np.ndarray,
        highest: float = np.inf,
    ) -> None:
        """Draw a snapshot in place of what is there. cameras: of its keyframes, in their order.
        T_before (N, 4, 4): by the odometry. highest: points above this z, metres from the origin
        of the cloud on, are left out.
        """
        self.clear()
        self._snapshot, self.origin = snapshot, snapshot.cloud.origin
        T_map_cam = shifted(snapshot.T_map_cam, -self.origin)
        cloud = snapshot.cloud.thinned(self._most_points)
        self.reach = reach(cloud.around_origin, T_map_cam)
        if len(snapshot):
            self._show_points(cloud, T_map_cam, cameras, highest)
            self._show_keyframes(T_map_cam, cameras)
            self._show_paths(snapshot, T_map_cam, shifted(T_before, -self.origin))
            self._show_loops(snapshot, T_map_cam)
            self.place(snapshot.T_map_cam, tuple(loop for loop in snapshot.loops if loop.accepted))

    def place(self, T_map_cam: np.ndarray, accepted: tuple[Loop, ...]) -> None:
        """Move everything that keyframes carry to other poses of them (N, 4, 4), in the map."""
        if self._snapshot is None or self._path is None or self._accepted is None:
            return
        T_local_cam = shifted(T_map_cam, -self.origin)
        position, quaternion = se3.to_quaternion(T_local_cam)
        for moving in self._moving:
            moving.node.position = position[moving.row]
            moving.node.wxyz = quaternion[moving.row][[3, 0, 1, 2]]
        self._path.points = path_segments(self._snapshot, position)
        _draw(self._accepted, pair_segments(self._snapshot, position, accepted))

    def highlight(self, row: int | None, image: np.ndarray | None = None) -> None:
        """Show one keyframe's image in its frustum, and none in the others."""
        for other, frustum in self._frustums.items():
            if other == row:
                frustum.image, frustum.color = image, palette.CHOSEN
            elif frustum.image is not None or frustum.color != palette.KEYFRAME:
                frustum.image, frustum.color = None, palette.KEYFRAME

    def resize_points(self, size: float) -> None:
        self.point_size = size
        for cloud in self._clouds:
            cloud.point_size = size

    def _hear(self, row: int, _: object) -> None:
        self._clicked(row)

    def _kept(self, node: viser.SceneNodeHandle) -> None:
        self._nodes.append(node)

    def _show_points(
        self, cloud: PointMap, T_map_cam: np.ndarray, cameras: list[Camera], highest: float
    ) -> None:
        points, colors = cloud.around_origin, cloud.colors
        if len(points) == 0:
            return
        self.point_size = spacing(points)
        below = points[:, 2] <= highest
        points, colors = points[below], colors[below]
        self.shown = len(points)
        rows = anchors(len(T_map_cam))[attach(points, T_map_cam, cameras)]
        order = np.argsort(rows, kind="stable")
        starts = np.searchsorted(rows[order], np.arange(len(T_map_cam) + 1))
        for row in np.unique(rows):
            members = order[starts[row] : starts[row + 1]]
            node = self._scene.add_point_cloud(
                f"/points/{row}",
                se3.transform_points(se3.inverse(T_map_cam[row]), points[members]),
                colors[members],
                point_size=self.point_size,
                point_shape="rounded",
                point_shading="flat",
            )
            self._clouds.append(node)
            self._moving.append(_Moving(node, int(row)))
            self._kept(node)

    def _show_keyframes(self, T_map_cam: np.ndarray, cameras: list[Camera]) -> None:
        step = np.linalg.norm(np.diff(T_map_cam[:, :3, 3], axis=0), axis=1)
        some = 0.4 * np.median(step) if len(step) else 0.0
        size = float(np.clip(some, 0.03 * self.reach, 0.3 * self.reach))
        every = -(-len(T_map_cam) // MOST_FRUSTUMS)
        for row in range(0, len(T_map_cam), every):
            node = frustum(self._scene, f"/keyframes/{row}", cameras[row], palette.KEYFRAME, size)
            node.on_click(partial(self._hear, row))
            self._frustums[row] = node
            self._moving.append(_Moving(node, row))
            self._kept(node)

    def _show_paths(self, snapshot: Snapshot, T_map_cam: np.ndarray, T_before: np.ndarray) -> None:
        path = path_segments(snapshot, T_map_cam[:, :3, 3])
        before = path_segments(snapshot, T_before[:, :3, 3])
        self._path = self._lines("/corrected/path", path, palette.CORRECTED, PATH_PX)
        self._lines("/odometry/path", before, palette.ODOMETRY, PATH_PX)

    def _show_loops(self, snapshot: Snapshot, T_map_cam: np.ndarray) -> None:
        """Accepted ones follow when everything is placed; rejected ones stay where they are."""
        nothing = no_segment(T_map_cam[0, :3, 3])
        self._accepted = self._lines("/accepted/loops", nothing, palette.ACCEPTED, LOOP_PX)
        node = self._lines("/rejected/loops", nothing, palette.REJECTED, LOOP_PX)
        rejected = tuple(loop for loop in snapshot.loops if not loop.accepted)
        _draw(node, pair_segments(snapshot, T_map_cam[:, :3, 3], rejected))

    def _lines(
        self, name: str, points: np.ndarray, color: tuple[int, int, int], pixels: float
    ) -> viser.LineSegmentsHandle:
        node = self._scene.add_line_segments(
            name, points, color, thickness=pixels, thickness_units="screen"
        )
        self._kept(node)
        return node


def frustum(
    scene: viser.SceneApi,
    name: str,
    camera: Camera,
    color: tuple[int, int, int],
    size: float,
    image: np.ndarray | None = None,
) -> viser.CameraFrustumHandle:
    """A camera, `size` metres deep, with its image (h, w, 3) uint8 RGB if given."""
    return scene.add_camera_frustum(
        name,
        fov=2 * float(np.arctan(0.5 * camera.height / camera.fy)),
        aspect=camera.width / camera.height * camera.fy / camera.fx,
        scale=size,
        thickness=1.5,
        thickness_units="screen",
        color=color,
        image=image,
        jpeg_quality=85,
        cast_shadow=False,
        receive_shadow=False,
    )


def _draw(node: viser.LineSegmentsHandle, segments: np.ndarray) -> None:
    """Give lines other ends, and hide them where there are none."""
    node.visible = len(segments) > 0
    if len(segments):
        node.points = segments
