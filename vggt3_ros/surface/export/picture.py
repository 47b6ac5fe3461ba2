"""Render a refined map as a picture: points, trajectory and loops, viewed from behind and above.
Needs no display.
"""

from pathlib import Path

import cv2
import numpy as np

from vggt3_ros.datasets.image_files import write_image
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.store.snapshot import PointMap, Snapshot

# RGB
BACKGROUND, TRAJECTORY, ACCEPTED, START = (
    (250, 250, 250),
    (230, 60, 30),
    (40, 170, 70),
    (40, 90, 220),
)
FIELD_OF_VIEW, MARGIN = np.radians(50), 1.1
SEEN = 0.96  # share of the points that must fit into the picture; a few are far outside
TILT = np.radians(55)  # of the viewing direction below the horizon


def write_picture(
    path: Path | str, snapshot: Snapshot, cloud: PointMap, size: tuple[int, int] = (1280, 960)
) -> None:
    """Write an image file of `size` (width, height) pixels."""
    write_image(Path(path), draw(snapshot, cloud, size)[..., ::-1])


def draw(
    snapshot: Snapshot,
    cloud: PointMap,
    size: tuple[int, int] = (1280, 960),
    T_map_view: np.ndarray | None = None,
) -> np.ndarray:
    """Return the picture (height, width, 3) uint8 RGB.

    T_map_view (4, 4): pose of the viewer's optical frame in the map; by default one that shows the
    whole map.
    """
    width, height = size
    focal = 0.5 * min(width, height) / np.tan(FIELD_OF_VIEW / 2)
    camera = Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
    centres = snapshot.T_map_cam[:, :3, 3]
    points = np.concatenate([cloud.points.astype(float), centres])
    if T_map_view is None:
        T_map_view = viewpoint(points, upright(snapshot.T_map_cam))
    T_view_map = se3.inverse(T_map_view)
    picture = np.full((height, width, 3), BACKGROUND, np.uint8)
    _splat(
        picture, camera, se3.transform_points(T_view_map, cloud.points.astype(float)), cloud.colors
    )
    position = dict(zip(map(int, snapshot.keyframe_ids), centres))
    for loop in snapshot.loops:
        if loop.accepted and loop.source_id in position and loop.target_id in position:
            _line(
                picture,
                camera,
                T_view_map,
                np.array([position[loop.source_id], position[loop.target_id]]),
                ACCEPTED,
                1,
            )
    in_order = centres[np.argsort(snapshot.stamps_ns, kind="stable")]
    _line(picture, camera, T_view_map, in_order, TRAJECTORY, 2)
    seen = se3.transform_points(T_view_map, in_order[:1])
    if len(seen) and seen[0, 2] > 0:
        cv2.circle(
            picture,
            tuple(int(value) for value in np.rint(camera.project(seen)[0])),
            6,
            START,
            -1,
            cv2.LINE_AA,
        )
    return picture


def viewpoint(points: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return T_map_view (4, 4), looking down on points (N, 3), metres, such that nearly all are
    visible. up (3,): unit vector in the map.
    """
    middle = np.median(points, axis=0)
    level = points - middle - np.outer((points - middle) @ up, up)
    across = (
        np.linalg.svd(level - level.mean(axis=0), full_matrices=False)[2][0]
        if len(points) > 2
        else np.zeros(3)
    )
    across -= up * (across @ up)
    if np.linalg.norm(across) < 1e-6:
        across = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    across /= np.linalg.norm(across)
    ahead = np.cross(up, across)
    forward = np.cos(TILT) * ahead - np.sin(TILT) * up
    rotation = np.stack([across, np.cross(forward, across), forward], axis=1)
    x, y, z = ((points - middle) @ rotation).T
    # Distance at which each point is within the field of view of the narrower side.
    wanted = MARGIN * np.maximum(np.abs(x), np.abs(y)) / np.tan(FIELD_OF_VIEW / 2) - z
    return se3.from_rotation_translation(
        rotation, middle - forward * max(np.quantile(wanted, SEEN), 0.5)
    )


def upright(T_map_cam: np.ndarray) -> np.ndarray:
    """Return (3,) of unit length, the mean direction of the upper edges of images (N, 4, 4); z if
    there is none.
    """
    up = -T_map_cam[:, :3, 1].mean(axis=0) if len(T_map_cam) else np.zeros(3)
    if np.linalg.norm(up) <= 0.1:
        return np.array([0.0, 0.0, 1.0])
    unit: np.ndarray = up / np.linalg.norm(up)
    return unit


def _splat(picture: np.ndarray, camera: Camera, points: np.ndarray, colors: np.ndarray) -> None:
    """Draw points (N, 3) of the view as squares, the nearer over the farther."""
    order = np.argsort(-points[:, 2])
    points, colors = points[order], colors[order]
    ahead = points[:, 2] > 0.05
    at = np.rint(camera.project(points[ahead])).astype(int)
    for dy, dx in ((1, 1), (1, 0), (0, 1), (0, 0)):
        x, y = at[:, 0] + dx, at[:, 1] + dy
        inside = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
        picture[y[inside], x[inside]] = colors[ahead][inside]


def _line(
    picture: np.ndarray,
    camera: Camera,
    T_view_map: np.ndarray,
    points: np.ndarray,
    color: tuple[int, int, int],
    thickness: int,
) -> None:
    """Draw the parts of a polyline (N, 3), metres in the map, that are in front of the viewer."""
    seen = se3.transform_points(T_view_map, points)
    pixels = camera.project(seen)
    for begin, end, near in zip(pixels[:-1], pixels[1:], np.minimum(seen[:-1, 2], seen[1:, 2])):
        if near > 0.05 and np.abs([begin, end]).max() < 10 * max(camera.width, camera.height):
            cv2.line(
                picture,
                (round(begin[0]), round(begin[1])),
                (round(end[0]), round(end[1])),
                color,
                thickness,
                cv2.LINE_AA,
            )
