"""Where a visitor looks from at first: behind and above, all of the map in view."""

from dataclasses import dataclass

import numpy as np

from vggt3_ros.geometry.local_frame import shifted
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.surface.export.picture import FIELD_OF_VIEW, upright, viewpoint

OPENING = float(FIELD_OF_VIEW)  # vertical, radians
MOST_POINTS = 20_000  # that are asked
# of the distance, that the view is moved by: the panel covers the right of the window
BESIDE, FARTHER = 0.12, 0.02


@dataclass(frozen=True, eq=False)
class FirstView:
    """position, look_at, up (3,): metres from the origin of the cloud on."""

    position: np.ndarray
    look_at: np.ndarray
    up: np.ndarray


def first_view(snapshot: Snapshot) -> FirstView:
    """Of a snapshot with keyframes."""
    T_map_cam = shifted(snapshot.T_map_cam, -snapshot.cloud.origin)
    cloud = snapshot.cloud.thinned(MOST_POINTS)
    points = np.concatenate([cloud.around_origin.astype(float), T_map_cam[:, :3, 3]])
    up = upright(T_map_cam)
    view = viewpoint(points, up)
    across, forward, eye = view[:3, 0], view[:3, 2], view[:3, 3]
    away = max(float(forward @ (np.median(points, axis=0) - eye)), 0.1)
    position = eye + away * (BESIDE * across - FARTHER * forward)
    return FirstView(position, position + (1 + FARTHER) * away * forward, up)
