"""The points of a map as pictures: from straight above, and as a camera sees them."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

SIDE = 900  # pixels, the longer side of the map from above
INSIDE = 0.995  # share of the points, at each end, that the map from above is cut out around
# what is higher above the cameras than this hides them: ceilings; times the scale of the scene
ABOVE_M = 0.4
SAMPLE = 2000  # points whose distance to the next tells how dense the map is
LARGEST = 12  # pixels, half the side of a point that is near the camera
NEAREST_M = 0.05
NOTHING = (222, 222, 222)  # RGB, where a camera sees no point


@dataclass(frozen=True, eq=False)
class Above:
    """A view from above. axes (3, 3): rows are the map's directions to the right, to the top of
    the picture and up; corner (2,): metres along the first two at the lower left; pixel: metres;
    ceiling: metres along the third, above which nothing is drawn.
    """

    axes: np.ndarray
    corner: np.ndarray
    pixel: float
    width: int
    height: int
    ceiling: float

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Return where points (N, 3), metres in map, lie in the picture: (N, 2), x to the right, y
        down.
        """
        across, ahead = ((points @ self.axes[:2].T - self.corner) / self.pixel).T
        return np.stack([across, self.height - ahead], axis=1)

    def drawn(self, points: np.ndarray, colors: np.ndarray, spacing: float) -> np.ndarray:
        """Return (height, width, 4) uint8 RGBA of points (N, 3) that lie `spacing` metres apart,
        the higher over the lower; transparent where there are none.
        """
        height = points @ self.axes[2]
        below = height <= self.ceiling
        half = np.full(below.sum(), min(LARGEST, round(spacing / self.pixel / 2 + 0.5)))
        return _splatted(
            self.width,
            self.height,
            self.pixels(points[below]),
            -height[below],
            half,
            colors[below],
        )


def from_above(points: np.ndarray, T_map_cam: np.ndarray, scale: float = 1.0) -> Above:
    """Return the view that shows points (N, 3) and all cameras (K, 4, 4), its longer side to the
    right, along one of the map's axes. Up is where most images have their upper edge. scale: of
    the scene, see refinement/scene_scale.py.
    """
    up = -T_map_cam[:, :3, 1].mean(axis=0)
    up = up / np.linalg.norm(up) if np.linalg.norm(up) > 0.1 else np.array([0.0, 0.0, 1.0])
    level = np.eye(3)[0 if abs(up[0]) < 0.9 else 1]
    across = level - up * (level @ up)
    across = across / np.linalg.norm(across)
    ahead = np.cross(up, across)
    low, high = _extent(np.stack([across, ahead]), points, T_map_cam[:, :3, 3])
    if high[1] - low[1] > high[0] - low[0]:
        across, ahead = ahead, -across
        low, high = _extent(np.stack([across, ahead]), points, T_map_cam[:, :3, 3])
    pixel = float(max(high - low) / SIDE)
    width, height = (max(1, int(np.ceil(side))) for side in (high - low) / pixel)
    ceiling = float(np.quantile(T_map_cam[:, :3, 3] @ up, 0.9) + ABOVE_M * scale)
    return Above(np.stack([across, ahead, up]), low, pixel, width, height, ceiling)


def _extent(
    axes: np.ndarray, points: np.ndarray, centres: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners (2,) of what is shown along two axes (2, 3), metres."""
    flat = centres @ axes.T
    low, high = flat.min(axis=0), flat.max(axis=0)
    if len(points):
        seen = np.quantile(points @ axes.T, [1 - INSIDE, INSIDE], axis=0)
        low, high = np.minimum(low, seen[0]), np.maximum(high, seen[1])
    margin = 0.03 * max(*(high - low), 1.0)
    return low - margin, high + margin


def spacing_of(points: np.ndarray) -> float:
    """Return the median distance of points (N, 3) to the next one, metres, of a sample; 0 of fewer
    than two.
    """
    if len(points) < 2:
        return 0.0
    some = np.random.default_rng(0).choice(len(points), min(SAMPLE, len(points)), replace=False)
    return float(np.median(cKDTree(points).query(points[some], 2)[0][:, 1]))


def seen_from(
    T_map_cam: np.ndarray, camera: Camera, points: np.ndarray, colors: np.ndarray, spacing: float
) -> np.ndarray:
    """Return (height, width, 3) uint8 RGB: points (N, 3), `spacing` metres apart, as a camera
    without distortion at T_map_cam (4, 4) sees them.
    """
    local = se3.transform_points(se3.inverse(T_map_cam), points)
    ahead = local[:, 2] > NEAREST_M
    local, colors = local[ahead], colors[ahead]
    half = np.clip(np.rint(spacing * camera.fx / local[:, 2] / 2 + 0.5), 0, LARGEST).astype(int)
    picture = _splatted(
        camera.width, camera.height, camera.project(local) + 0.5, local[:, 2], half, colors
    )
    return np.where(picture[..., 3:] > 0, picture[..., :3], np.array(NOTHING, np.uint8))


def _splatted(
    width: int,
    height: int,
    pixels: np.ndarray,
    depth: np.ndarray,
    half: np.ndarray,
    colors: np.ndarray,
) -> np.ndarray:
    """Return (height, width, 4) uint8 RGBA: squares around pixels (N, 2), sides 2 * half + 1, the
    one with the least depth over the others.
    """
    nearest = np.full(width * height, np.inf)
    picture = np.zeros((width * height, 4), np.uint8)
    reach = half.max(initial=0)
    inside = (pixels > -reach).all(axis=1) & (pixels < (width + reach, height + reach)).all(axis=1)
    order = np.flatnonzero(inside)[np.argsort(-half[inside], kind="stable")]
    column, row = np.floor(pixels[order]).astype(np.int64).T
    depth, colors = depth[order], colors[order]
    # how many of the points reach so far: they come first
    reaching = [int((half[order] >= far).sum()) for far in range(reach + 1)]

    def covered() -> list[tuple[np.ndarray, np.ndarray]]:
        places = []
        for down in range(-reach, reach + 1):
            for right in range(-reach, reach + 1):
                count = reaching[max(abs(down), abs(right))]
                x, y = column[:count] + right, row[:count] + down
                which = np.flatnonzero((x >= 0) & (x < width) & (y >= 0) & (y < height))
                places.append((which, y[which] * width + x[which]))
        return places

    squares = covered()
    for which, at in squares:
        np.minimum.at(nearest, at, depth[which])
    for which, at in squares:
        front = depth[which] == nearest[at]
        picture[at[front], :3] = colors[which[front]]
        picture[at[front], 3] = 255
    return picture.reshape(height, width, 4)
