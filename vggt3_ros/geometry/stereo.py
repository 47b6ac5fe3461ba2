"""Depth from two calibrated cameras side by side: OpenCV's rectification and semi-global matching
(Hirschmuller, PAMI 2008).
"""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera, rectifying_maps, undistorted_rays
from vggt3_ros.geometry.se3 import Floats

NEAREST_M = 0.5  # smallest depth searched for
BLOCK = 5  # pixels along a side of the matched blocks
# Time and memory grow with the disparities. For a calibration that needs more, the nearest depth
# grows instead.
MAX_DISPARITIES = 1024
# Rotation in radians, and offset relative to the baseline, below which a pair counts as rectified.
PARALLEL = 1e-6

Maps = tuple[np.ndarray, np.ndarray]


class StereoPair:
    """Compute depth of the left of two cameras, distorted or not, placed by T_right_left (4, 4),
    metres.

    nearest: smallest depth searched for, metres. camera: that of the rectified left image, or of
    the left image itself if the pair is already rectified. T_left_rectified: (4, 4) rotation from
    that camera to the left one. baseline: metres. Raises ValueError if the image sizes differ or
    the cameras are not side by side.
    """

    def __init__(
        self,
        left: Camera,
        right: Camera,
        T_right_left: np.ndarray | Sequence[Sequence[float]],
        nearest: float = NEAREST_M,
    ) -> None:
        if (left.width, left.height) != (right.width, right.height):
            raise ValueError(
                f"the stereo images differ in size: {left.width}x{left.height} and {right.width}x{right.height}"
            )
        T_right_left = np.asarray(T_right_left, float)
        self.left = left
        self._maps: list[Maps] | None = None
        self._back: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        if _are_rectified(left, right, T_right_left):
            self.camera, self.T_left_rectified = left.undistorted(), np.eye(4)
            focal_baseline, self._offset = -T_right_left[0, 3] * left.fx, left.cx - right.cx
        else:
            rotations, projections = _rectification(left, right, T_right_left)
            focal_baseline, self._offset = (
                -projections[1][0, 3],
                projections[0][0, 2] - projections[1][0, 2],
            )
            fx, fy, cx, cy = (float(projections[0][at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
            self.camera = Camera(left.width, left.height, fx, fy, cx, cy)
            self.T_left_rectified = se3.from_rotation_translation(rotations[0].T, np.zeros(3))
            self._maps = [
                cv2.convertMaps(*rectifying_maps(*each), cv2.CV_16SC2)
                for each in zip((left, right), rotations, projections)
            ]
            self._back = _from_rectified(left, rotations[0], projections[0])
        baseline = focal_baseline / self.camera.fx
        if not baseline > 1e-3:
            raise ValueError(
                f"the second camera must be to the right of the first, but the baseline is {baseline:.3f} m"
            )
        self._focal_baseline, self.baseline = focal_baseline, float(baseline)
        # disparity of points at infinity: nonzero if the principal points differ
        self._least = int(np.floor(self._offset))
        widest = min(focal_baseline / nearest, left.width / 2, MAX_DISPARITIES)
        self._count = max(16, int(np.ceil(widest / 16)) * 16)
        area = BLOCK * BLOCK
        self._matcher = cv2.StereoSGBM.create(
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

    def rectify(self, image: np.ndarray, right: bool = False) -> np.ndarray:
        """Rectify an image (height, width[, 3]) of the left or right camera."""
        return (
            image
            if self._maps is None
            else cv2.remap(image, *self._maps[int(right)], cv2.INTER_LINEAR)
        )

    def depth(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Match unrectified images (height, width[, 3]) uint8; return the depth (height, width)
        float32 of `camera`, metres along its z, 0 where unknown. Raises ValueError if an image's
        size differs from its camera's.
        """
        for name, image in (("left", left), ("right", right)):
            if image.shape[:2] != (self.left.height, self.left.width):
                raise ValueError(
                    f"the {name} image is {image.shape[1]}x{image.shape[0]}, but its camera is {self.left.width}x{self.left.height}"
                )
        # OpenCV skips columns where the largest disparity would leave the image; padding avoids
        # that.
        margin = max(0, self._count + self._least)
        images = [
            cv2.copyMakeBorder(
                _gray(self.rectify(image, bool(side))), 0, 0, margin, 0, cv2.BORDER_REPLICATE
            )
            for side, image in enumerate((left, right))
        ]
        found = self._matcher.compute(*images)[:, margin:]
        disparity = found.astype(np.float32) / 16 - self._offset
        valid = (found >= 16 * self._least) & (disparity > 0.5)
        return np.where(valid, self._focal_baseline / np.maximum(disparity, 0.5), 0).astype(
            np.float32
        )

    def depth_of_left(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return :meth:`depth` registered to the unrectified left image: metres along the left
        camera's own optical axis.
        """
        depth = self.depth(left, right)
        if self._back is None:
            return depth
        x, y, along = self._back
        at_left: np.ndarray = cv2.remap(
            depth, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0
        )
        at_left *= along
        return at_left


@lru_cache(maxsize=8)
def stereo_pair(left: Camera, right: Camera, T_right_left: tuple[float, ...]) -> StereoPair:
    """Return a StereoPair, cached by calibration. T_right_left: 16 numbers, row-major."""
    return StereoPair(left, right, np.reshape(T_right_left, (4, 4)))


def _are_rectified(left: Camera, right: Camera, T_right_left: Floats) -> bool:
    if left.is_distorted or right.is_distorted:
        return False
    baseline = np.linalg.norm(T_right_left[:3, 3])
    same = np.allclose(
        (left.fx, left.fy, left.cy), (right.fx, right.fy, right.cy), rtol=0, atol=1e-3
    )
    return bool(
        same
        and se3.rotation_angle(T_right_left) < PARALLEL
        and np.abs(T_right_left[1:3, 3]).max() <= PARALLEL * baseline
    )


def _rectification(left: Camera, right: Camera, T_right_left: Floats) -> tuple[Maps, Maps]:
    """Return the rectifying rotations (3, 3) and the projections (3, 4) of both cameras."""
    size, rotation, translation = (
        (left.width, left.height),
        T_right_left[:3, :3],
        T_right_left[:3, 3],
    )
    fisheye = [camera.distortion_model == "equidistant" for camera in (left, right)]
    if any(fisheye) and not all(fisheye):
        raise ValueError(
            "one camera is equidistant and the other is not; publish rectified images instead"
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


def _from_rectified(
    camera: Camera, rotation: np.ndarray, projection: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each pixel of the unrectified image its x and y in the rectified one, and the
    camera's depth per rectified depth, each (height, width) float32.
    """
    y, x = np.indices((camera.height, camera.width), np.float64)
    # rays in the rectified camera, z = 1
    rays = undistorted_rays(camera, np.stack([x, y], -1).reshape(-1, 2), rotation)
    at = rays * (projection[0, 0], projection[1, 1]) + projection[:2, 2]
    # z of rotation^T @ ray in the left camera
    along = np.column_stack([rays, np.ones(len(rays))]) @ rotation[:, 2]
    x, y, along = (
        values.reshape(camera.height, camera.width).astype(np.float32)
        for values in (at[:, 0], at[:, 1], along)
    )
    return x, y, along


def _gray(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
