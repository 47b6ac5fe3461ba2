"""Which of the swept depths can be believed: those that the neighbours' own sweeps, made from other images, confirm."""

import cv2
import numpy as np

from vggt3_ros.geometry import se3

LEAST_SIMILARITY = 0.4
AGREE_PX, AGREE_SHARE = 1.5, 0.015  # a neighbour agrees within so many pixels of parallax, or so much of the depth
CONFIRMATIONS = 2  # or all neighbours, where there is only one


def consistent(swept, camera, T_map_cam, neighbours):
    """InverseDepth of a keyframe, its Camera and pose, [(InverseDepth, Camera, T_map_cam) of neighbours] -> depth (H/2, W/2) float32.

    A pixel is kept where enough neighbours see the same surface (geometric consistency, Schoenberger et al., ECCV 2016); its inverse
    depth is then the mean of all that agree. 0 elsewhere.
    """
    height, width = swept.inverse.shape
    small = camera.scaled(width, height)
    y, x = np.indices((height, width), np.float32)
    pixels = np.stack([x, y], -1).reshape(-1, 2)
    points = small.unproject(pixels, 1 / swept.inverse.reshape(-1))
    total, votes = swept.inverse.copy(), np.zeros((height, width), np.int32)
    for other, other_camera, T_map_other in neighbours:
        T_other_cam = se3.inverse(T_map_other) @ T_map_cam
        seen = se3.transform_points(T_other_cam, points)
        theirs = other_camera.scaled(*other.inverse.shape[::-1])
        ahead = seen[:, 2] > 0.05
        at = np.full((len(seen), 2), -1e4, np.float32)
        at[ahead] = theirs.project(seen[ahead])
        at = at.reshape(height, width, 2)
        inverse = cv2.remap(other.inverse, at, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        trusted = cv2.remap(other.similarity, at, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=-1)
        # What the neighbour found, seen from here.
        back = theirs.unproject(at.reshape(-1, 2), 1 / np.maximum(inverse.reshape(-1), 1e-3))
        mine = se3.transform_points(se3.inverse(T_other_cam), back)[:, 2].reshape(height, width)
        mine = 1 / np.maximum(mine, 1e-3)
        allowed = np.maximum(AGREE_PX * swept.step, AGREE_SHARE * swept.inverse)
        agrees = (inverse > 0) & (trusted > LEAST_SIMILARITY) & (np.abs(mine - swept.inverse) < allowed)
        total += np.where(agrees, mine, 0)
        votes += agrees
    believed = (votes >= min(CONFIRMATIONS, len(neighbours))) & (swept.similarity > LEAST_SIMILARITY) & (votes > 0)
    return np.where(believed, (votes + 1) / np.maximum(total, 1e-6), 0).astype(np.float32)
