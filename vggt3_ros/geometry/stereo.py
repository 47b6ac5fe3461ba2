"""Depth from two calibrated cameras side by side (OpenCV: rectification and semi-global matching,
Hirschmuller, PAMI 2008).
"""

from functools import lru_cache

import cv2
import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera, rectifying_maps, undistorted_rays

NEAREST_M = 0.5  # of the depths that are looked for
BLOCK = 5  # pixels
# time and memory grow with them: a calibration that asks for more sees less near by
MOST_DISPARITIES = 1024
# radians and shares of the baseline; cameras closer to parallel need no rectification
PARALLEL = 1e-6


class StereoPair:
    """Two cameras, distorted or not, and T_right_left (4, 4), metres: depth of the left one.

    camera: of the rectified left image; of the left image itself where the pair is rectified
    already. T_left_rectified: (4, 4) rotation of that camera in the left one. ValueError when the
    cameras differ in size or do not stand side by side.
    """

    def __init__(self, left, right, T_right_left, nearest=NEAREST_M):
        if (left.width, left.height) != (right.width, right.height):
            raise ValueError(
                f"the stereo images differ in size: {left.width}x{left.height} and {right.width}x{right.height}"
            )
        T_right_left = np.asarray(T_right_left, float)
        self.left, self._maps, self._back = left, None, None
        if _are_rectified(left, right, T_right_left):
            self.camera, self.T_left_rectified = left.undistorted(), np.eye(4)
            focal_baseline, self._offset = -T_right_left[0, 3] * left.fx, left.cx - right.cx
        else:
            rotations, projections = _rectification(left, right, T_right_left)
            focal_baseline, self._offset = (
                -projections[1][0, 3],
                projections[0][0, 2] - projections[1][0, 2],
            )
            intrinsics = [float(projections[0][at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2))]
            self.camera = Camera(left.width, left.height, *intrinsics)
            self.T_left_rectified = se3.from_rotation_translation(rotations[0].T, np.zeros(3))
            self._maps = [
                cv2.convertMaps(*rectifying_maps(*each), cv2.CV_16SC2)
                for each in zip((left, right), rotations, projections)
            ]
            self._back = _from_rectified(left, rotations[0], projections[0])
        baseline = focal_baseline / self.camera.fx
        if not baseline > 1e-3:
            raise ValueError(
                f"the second camera must stand to the right of the first, its baseline is {baseline:.3f} m"
            )
        self._focal_baseline, self.baseline = focal_baseline, float(baseline)
        # Far points lie at this disparity already where the principal points differ.
        self._least = int(np.floor(self._offset))
        widest = min(focal_baseline / nearest, left.width / 2, MOST_DISPARITIES)
        self._count = max(16, int(np.ceil(widest / 16)) * 16)
        area = BLOCK * BLOCK
        self._matcher = cv2.StereoSGBM_create(
            self._least,
            self._count,
            BLOCK,
            P1=8 * area,
            P2=32 * area,
            disp12MaxDiff=1,
            preFilterCap=31,
            uniquenessRatio=10,
            speckleWindowSize=100,
            speckleRange=2,
            mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,
        )

    def rectify(self, image, right=False):
        """Image as the left (or right) camera saw it -> as the rectified one would have."""
        return (
            image
            if self._maps is None
            else cv2.remap(image, *self._maps[int(right)], cv2.INTER_LINEAR)
        )

    def depth(self, left, right):
        """Images (height, width[, 3]) uint8 as the cameras saw them -> (height, width) float32
        metres of `camera`, 0 where unknown.
        """
        for name, image in (("left", left), ("right", right)):
            if image.shape[:2] != (self.left.height, self.left.width):
                raise ValueError(
                    f"the {name} image is {image.shape[1]}x{image.shape[0]}, its camera {self.left.width}x{self.left.height}"
                )
        # OpenCV gives up columns whose widest disparity would leave the image: there are none
        # beside a border.
        margin = max(0, self._count + self._least)
        images = [
            cv2.copyMakeBorder(
                _gray(self.rectify(image, side)), 0, 0, margin, 0, cv2.BORDER_REPLICATE
            )
            for side, image in enumerate((left, right))
        ]
        found = self._matcher.compute(*images)[:, margin:]
        disparity = found.astype(np.float32) / 16 - self._offset
        valid = (found >= 16 * self._least) & (disparity > 0.5)
        return np.where(valid, self._focal_baseline / np.maximum(disparity, 0.5), 0).astype(
            np.float32
        )

    def depth_of_left(self, left, right):
        """The same registered to the left image as it came: metres along the optical axis of the
        left camera itself.
        """
        depth = self.depth(left, right)
        if self._back is None:
            return depth
        x, y, along = self._back
        return (
            cv2.remap(
                depth, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0
            )
            * along
        )


@lru_cache(maxsize=8)
def stereo_pair(left, right, T_right_left):
    """StereoPair of two Cameras and T_right_left as a tuple of 16 numbers, made once for each
    calibration.
    """
    return StereoPair(left, right, np.reshape(T_right_left, (4, 4)))


def _are_rectified(left, right, T_right_left):
    if left.is_distorted or right.is_distorted:
        return False
    baseline = np.linalg.norm(T_right_left[:3, 3])
    same = np.allclose(
        (left.fx, left.fy, left.cy), (right.fx, right.fy, right.cy), rtol=0, atol=1e-3
    )
    return (
        same
        and se3.rotation_angle(T_right_left) < PARALLEL
        and np.abs(T_right_left[1:3, 3]).max() <= PARALLEL * baseline
    )


def _rectification(left, right, T_right_left):
    size, rotation, translation = (
        (left.width, left.height),
        T_right_left[:3, :3],
        T_right_left[:3, 3],
    )
    fisheye = [camera.distortion_model == "equidistant" for camera in (left, right)]
    if any(fisheye) and not all(fisheye):
        raise ValueError(
            "one camera is equidistant and the other is not: rectify the images before"
        )
    if any(fisheye):
        R0, R1, P0, P1, _ = cv2.fisheye.stereoRectify(
            left.matrix,
            np.array(left.distortion),
            right.matrix,
            np.array(right.distortion),
            size,
            rotation,
            translation,
            cv2.CALIB_ZERO_DISPARITY,
            balance=0.0,
        )
    else:
        R0, R1, P0, P1, *_ = cv2.stereoRectify(
            left.matrix,
            np.array(left.distortion),
            right.matrix,
            np.array(right.distortion),
            size,
            rotation,
            translation,
            flags=cv2.CALIB_ZERO_DISPARITY,
            alpha=0,
        )
    return (R0, R1), (P0, P1)


def _from_rectified(camera, rotation, projection):
    """For each pixel of the image as it came: x, y (height, width) float32 in the rectified one,
    and the z of its ray of unit depth.
    """
    y, x = np.indices((camera.height, camera.width), np.float64)
    # in the rectified camera, z = 1
    rays = undistorted_rays(camera, np.stack([x, y], -1).reshape(-1, 2), rotation)
    at = rays * (projection[0, 0], projection[1, 1]) + projection[:2, 2]
    # the left camera's z of rotation^T ray
    along = np.column_stack([rays, np.ones(len(rays))]) @ rotation[:, 2]
    return tuple(
        a.reshape(camera.height, camera.width).astype(np.float32)
        for a in (at[:, 0], at[:, 1], along)
    )


def _gray(image):
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
