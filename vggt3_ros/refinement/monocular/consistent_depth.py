"""Keep the swept depths that the neighbours' own sweeps, made from other images, confirm."""

from collections.abc import Sequence

import cv2
import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.refinement.monocular.plane_sweep import InverseDepth

LEAST_SIMILARITY = 0.4
AGREE_PX = 1.5  # a neighbour agrees within this many pixels of parallax
SURE_PX = 0.4  # the same for what is accurate enough for the map
# largest relative change of depth per pixel of parallax for the map: beyond it a point is too far
# away to be measured
SURE_STEP = 0.1
CONFIRMATIONS = 2  # neighbours that must agree, or all when there are fewer


def consistent(
    swept: InverseDepth,
    camera: Camera,
    T_map_cam: np.ndarray,
    neighbours: Sequence[tuple[InverseDepth, Camera, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """Filter the swept depth of a keyframe, given its camera and pose T_map_cam (4, 4), by that of
    its neighbours, each (InverseDepth, Camera, T_map_cam).

    Return depth (H/2, W/2) float32 metres, 0 where it is not confirmed, and the mask of what is
    accurate enough for the map.

    A pixel is kept where enough neighbours see the same surface (geometric consistency,
    Schoenberger et al., ECCV 2016); its inverse depth is then the mean of all that agree. Depth
    that agrees roughly helps to recognise images (with accurate depth alone 84 % of the kitchen's
    queries were within 10 cm, with all of it 94 %), but harms the map: median error 6.6 cm, 90th
    percentile 45 cm.

    Against the sensor at the true poses of 24 keyframes each, kitchen first, then fr1_xyz: 14 and
    8 % of the pixels are accurate, 90 % of them within 35 and 9 cm; 41 and 32 % are kept, 90 % of
    them within 27 and 11 %. No threshold is critical: LEAST_SIMILARITY 0.3 to 0.5, AGREE_PX 1 to
    2 and SURE_PX 0.3 to 0.6 change these errors by a tenth, and the shares by half. SURE_STEP 0.05
    would leave errors of 19 and 7 cm, and two thirds of the pixels.
    """
    height, width = swept.inverse.shape
    small = camera.scaled(width, height)
    y, x = np.indices((height, width), np.float32)
    pixels = np.stack([x, y], -1).reshape(-1, 2)
    points = small.unproject(pixels, 1 / swept.inverse.reshape(-1))
    total, votes, close = (
        swept.inverse.copy(),
        np.zeros((height, width), np.int32),
        np.zeros((height, width), np.int32),
    )
    one_map = np.empty(0, np.float32)  # the second argument of cv2.remap: x and y are in the first
    for other, other_camera, T_map_other in neighbours:
        T_other_cam = se3.inverse(T_map_other) @ T_map_cam
        seen = se3.transform_points(T_other_cam, points)
        theirs = other_camera.scaled(*other.inverse.shape[::-1])
        ahead = seen[:, 2] > 0.05
        projected = np.full((len(seen), 2), -1e4, np.float32)
        projected[ahead] = theirs.project(seen[ahead])
        at = projected.reshape(height, width, 2)
        inverse = cv2.remap(
            other.inverse,
            at,
            one_map,
            cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=0,
        )
        trusted = cv2.remap(
            other.similarity,
            at,
            one_map,
            cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=-1,
        )
        # the neighbour's depth, transformed to this camera
        back = theirs.unproject(at.reshape(-1, 2), 1 / np.maximum(inverse.reshape(-1), 1e-3))
        mine = se3.transform_points(se3.inverse(T_other_cam), back)[:, 2].reshape(height, width)
        mine = 1 / np.maximum(mine, 1e-3)
        off, seen = np.abs(mine - swept.inverse), (inverse > 0) & (trusted > LEAST_SIMILARITY)
        agrees = seen & (off < AGREE_PX * swept.step)
        close += seen & (off < SURE_PX * swept.step)
        total += np.where(agrees, mine, 0)
        votes += agrees
    needed = max(1, min(CONFIRMATIONS, len(neighbours)))
    believed = (votes >= needed) & (swept.similarity > LEAST_SIMILARITY)
    sure = believed & (close >= needed) & (swept.step < SURE_STEP * swept.inverse)
    return np.where(believed, (votes + 1) / np.maximum(total, 1e-6), 0).astype(np.float32), sure
