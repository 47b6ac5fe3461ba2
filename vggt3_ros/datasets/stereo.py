"""Depth from two calibrated cameras side by side (OpenCV: rectification and semi-global matching)."""

import cv2
import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

NEAREST_M = 0.5  # of the depths that are looked for
BLOCK = 5  # pixels


class StereoPair:
    """Two distorted cameras and T_right_left (4, 4), metres -> rectified images and depth of the left one.

    camera: of the rectified left image. T_left_rectified: (4, 4) rotation of that camera in the left one. ValueError when the
    cameras differ in size or do not stand side by side.
    """

    def __init__(self, left, right, T_right_left):
        if (left.width, left.height) != (right.width, right.height):
            raise ValueError(f"the stereo images differ in size: {left.width}x{left.height} and {right.width}x{right.height}")
        rotations, projections = _rectification(left, right, np.asarray(T_right_left, float))
        focal, shift = projections[1][0, 0], projections[1][0, 3]
        baseline = -shift / focal
        if not baseline > 1e-3:
            raise ValueError(f"the second camera must stand to the right of the first, its baseline is {baseline:.3f} m")
        intrinsics = [float(projections[0][at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2))]
        self.camera = Camera(left.width, left.height, *intrinsics)
        self.T_left_rectified = se3.from_rotation_translation(rotations[0].T, np.zeros(3))
        self._maps = [_maps(*each) for each in zip((left, right), rotations, projections)]
        self._focal_baseline = focal * baseline
        disparities = max(16, int(np.ceil(self._focal_baseline / NEAREST_M / 16)) * 16)
        area = BLOCK * BLOCK
        self._matcher = cv2.StereoSGBM_create(
            0, disparities, BLOCK, P1=8 * area, P2=32 * area, disp12MaxDiff=1, preFilterCap=31, uniquenessRatio=10, speckleWindowSize=100,
            speckleRange=2, mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY)

    def rectify(self, image, right=False):
        """Image as the left (or right) camera saw it -> as the rectified one would have."""
        return cv2.remap(image, *self._maps[int(right)], cv2.INTER_LINEAR)

    def depth(self, left, right):
        """Images (height, width[, 3]) as the cameras saw them -> (height, width) float32 metres of `camera`, 0 where unknown."""
        disparity = self._matcher.compute(_gray(self.rectify(left)), _gray(self.rectify(right, True))).astype(np.float32) / 16
        return np.where(disparity > 0.5, self._focal_baseline / np.maximum(disparity, 0.5), 0).astype(np.float32)


def _rectification(left, right, T_right_left):
    size, rotation, translation = (left.width, left.height), T_right_left[:3, :3], T_right_left[:3, 3]
    if "equidistant" in (left.distortion_model, right.distortion_model):
        R0, R1, P0, P1, _ = cv2.fisheye.stereoRectify(left.matrix, _fisheye(left), right.matrix, _fisheye(right), size, rotation,
                                                      translation, cv2.CALIB_ZERO_DISPARITY, balance=0.0)
    else:
        R0, R1, P0, P1, *_ = cv2.stereoRectify(left.matrix, np.array(left.distortion), right.matrix, np.array(right.distortion), size,
                                               rotation, translation, flags=cv2.CALIB_ZERO_DISPARITY, alpha=0)
    return (R0, R1), (P0, P1)


def _maps(camera, rotation, projection):
    size = (camera.width, camera.height)
    if camera.distortion_model == "equidistant":
        return cv2.fisheye.initUndistortRectifyMap(camera.matrix, _fisheye(camera), rotation, projection, size, cv2.CV_16SC2)
    return cv2.initUndistortRectifyMap(camera.matrix, np.array(camera.distortion), rotation, projection, size, cv2.CV_16SC2)


def _fisheye(camera):
    if camera.is_distorted and camera.distortion_model != "equidistant":
        raise ValueError("one camera is equidistant and the other is not: rectify the images before")
    return np.array(camera.distortion or (0, 0, 0, 0), float)


def _gray(image):
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
