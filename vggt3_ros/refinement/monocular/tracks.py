"""Link the matches between pairs of keyframes to tracks, the keypoints of several images that show
one point of the scene, and triangulate them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera


@dataclass(frozen=True, eq=False)
class Observations:
    """What the images saw of the tracks, sorted by track. track, image, keypoint (M,): indices.
    pixels (M, 2) float64.
    """

    track: np.ndarray
    image: np.ndarray
    keypoint: np.ndarray
    pixels: np.ndarray

    @property
    def tracks(self) -> int:
        """Number of tracks."""
        return int(self.track.max()) + 1 if len(self.track) else 0

    def only(self, mask: np.ndarray) -> "tuple[Observations, np.ndarray]":
        """Select the observations in a mask (M,) whose tracks keep two or more of them.

        The tracks are renumbered. Return (Observations, the old numbers of their tracks).
        """
        enough = np.bincount(self.track[mask], minlength=self.tracks) >= 2
        mask = mask & enough[self.track]
        kept = np.flatnonzero(enough)
        number = np.cumsum(enough) - 1
        return Observations(
            number[self.track[mask]], self.image[mask], self.keypoint[mask], self.pixels[mask]
        ), kept


def build_tracks(
    keypoints: Sequence[np.ndarray], matches: Mapping[tuple[int, int], np.ndarray]
) -> Observations:
    """Link matches to tracks, which are the connected components.

    keypoints: for each image, (K, 2) pixels. matches: {(i, j): (M, 2) indices of keypoints of
    images i and j}. A component with two keypoints in one image contains a wrong match: its
    keypoints in those images are left out, the others are kept.
    """
    start = np.concatenate([[0], np.cumsum([len(k) for k in keypoints])])
    edges = [
        (start[i] + pairs[:, 0], start[j] + pairs[:, 1])
        for (i, j), pairs in matches.items()
        if len(pairs)
    ]
    if not edges:
        empty = np.zeros(0, np.int64)
        return Observations(empty, empty, empty, np.zeros((0, 2)))
    source, target = (np.concatenate(side) for side in zip(*edges))
    _, component = connected_components(
        coo_matrix((np.ones(len(source), bool), (source, target)), shape=(start[-1],) * 2),
        directed=False,
    )
    image = np.repeat(np.arange(len(keypoints)), np.diff(start))
    both = component.astype(np.int64) * len(keypoints) + image
    _, inverse, count = np.unique(both, return_inverse=True, return_counts=True)
    unambiguous = count[inverse] == 1
    length = np.bincount(component[unambiguous], minlength=component.max() + 1)
    member = np.flatnonzero(unambiguous & (length[component] >= 2))
    member = member[np.argsort(component[member], kind="stable")]
    _, track = np.unique(component[member], return_inverse=True)
    pixels = np.concatenate(keypoints).astype(np.float64)[member]
    return Observations(track, image[member], member - start[image[member]], pixels)


def triangulate(
    observations: Observations, cameras: Sequence[Camera], T_map_cam: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the points (tracks, 3) in the map that are nearest to all their rays, and the widest
    angle (tracks,) in rad between two of these.

    The points minimize the squared distances to the rays; in a second round each is divided by the
    distance from the camera, so that angles are minimized. Points behind a camera or without
    parallax are not excluded: check the angle and the reprojection error.
    """
    rays = np.empty((len(observations.track), 3))
    for i in np.unique(observations.image):
        of = observations.image == i
        rays[of] = (
            cameras[i].unproject(observations.pixels[of], np.ones(of.sum()))
            @ T_map_cam[i, :3, :3].T
        )
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    centres = T_map_cam[observations.image, :3, 3]
    across = np.eye(3) - rays[:, :, None] * rays[:, None, :]
    weights = np.ones(len(rays))
    for _ in range(2):
        normal = _sum_by_track(observations, weights[:, None, None] * across)
        right = _sum_by_track(
            observations, weights[:, None] * np.einsum("nij,nj->ni", across, centres)
        )
        points = np.linalg.solve(normal + 1e-9 * np.eye(3), right[..., None])[..., 0]
        weights = 1 / np.maximum(((points[observations.track] - centres) ** 2).sum(1), 1e-4)
    mean = _sum_by_track(observations, rays)
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
    from_mean = np.arccos(np.clip((rays * mean[observations.track]).sum(1), -1, 1))
    widest = np.zeros(observations.tracks)
    np.maximum.at(widest, observations.track, from_mean)
    return points, 2 * widest


def reprojection(
    observations: Observations,
    cameras: Sequence[Camera],
    T_map_cam: np.ndarray,
    points: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the reprojection error (M,) of each observation in pixels, infinite behind the camera,
    and its depth (M,) in metres along z.
    """
    error, depth = np.full(len(observations.track), np.inf), np.zeros(len(observations.track))
    for i in np.unique(observations.image):
        of = np.flatnonzero(observations.image == i)
        seen = se3.transform_points(se3.inverse(T_map_cam[i]), points[observations.track[of]])
        depth[of] = seen[:, 2]
        ahead = seen[:, 2] > 0.05
        off = cameras[i].project(seen[ahead]) - observations.pixels[of[ahead]]
        error[of[ahead]] = np.linalg.norm(off, axis=1)
    return error, depth


def _sum_by_track(observations: Observations, values: np.ndarray) -> np.ndarray:
    out = np.zeros((observations.tracks, *values.shape[1:]))
    np.add.at(out, observations.track, values)
    return out
