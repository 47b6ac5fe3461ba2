"""RGB-D visual odometry: SIFT features with depth, matched against a reference frame, and PnP
(OpenCV).
"""

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import undistort

FEATURES = 1500
NEAREST_M, FARTHEST_M = 0.2, 6.0  # depth that is measured well enough to be a landmark
RATIO = 0.8  # Lowe's, between the best and the second best match
REPROJECTION_PX = 3.0
LEAST_INLIERS = 12  # fewer tell nothing
NEW_REFERENCE_INLIERS = 150  # with fewer, the next frame is tracked against this one
WEAK_INLIERS = 60  # with fewer, the frame before is tried as the reference too
# metres and radians that a camera may have moved unseen
LOST_SIGMA = np.array([0.5, 0.5, 0.5, 0.4, 0.4, 0.4])
REFERENCES = 10  # frames of before that a lost camera is looked for in
COASTING = 3  # frames in a row that a lost camera is believed to go on as it went


@dataclass(frozen=True, eq=False)
class Tracked:
    """T_odom_cam (4, 4); inliers: matches that agree with it, 0 when lost. covariance: (6, 6) as
    in Keyframe.odometry_covariance where the motion is a guess, None where it was measured. chain:
    between frames of the same number the motion was measured all the way; None when lost.
    """

    T_odom_cam: np.ndarray
    inliers: int
    covariance: np.ndarray | None = None
    chain: int | None = 0


class RgbdOdometry:
    """Tracks a camera from frame to frame; its odometry frame is the first camera's. It looks back
    only when it is lost: errors add up.
    """

    def __init__(self):
        self._detector, self._matcher = cv2.SIFT_create(FEATURES), cv2.BFMatcher(cv2.NORM_L2)
        self._reference = self._last = None
        self._before = deque(maxlen=REFERENCES)  # references that were
        self._motion_so_far, self._coasted, self._chains = np.eye(4), 0, 0

    def track(self, image, depth, camera, stamp_ns=None):
        """(height, width, 3) uint8 RGB and (height, width) metres (0 unknown) of `camera`,
        distorted as it is -> Tracked; the stamp does not matter to it.

        A frame in which nothing of the reference, of the frame before or of earlier references is
        found is lost: its pose is a guess, where steady motion leads for a few frames. Tracking
        goes on from what is seen again, else from the guess, in a new chain.
        """
        frame = self._extract(
            undistort(image, camera), undistort(depth, camera, nearest=True), camera.undistorted()
        )
        if self._reference is None:
            frame.T_odom_cam, frame.chain = np.eye(4), 0
            self._reference = self._last = frame
            return Tracked(frame.T_odom_cam, len(frame.points))
        motion, inliers = self._motion(self._reference, frame)
        if inliers < WEAK_INLIERS and self._last is not self._reference:
            from_last = self._motion(self._last, frame)
            if from_last[1] > inliers:
                self._use(self._last)
                motion, inliers = from_last
        if not inliers or self._reference.chain is None:
            motion, inliers = self._found_again(frame, motion, inliers)
        if not inliers:
            return self._guessed(frame)
        if self._reference.chain is None:  # nothing but a guess ties it to what was before
            self._chains += 1
            self._reference.chain = self._chains
        frame.T_odom_cam, frame.chain = (
            se3.orthonormalize(self._reference.T_odom_cam @ motion),
            self._reference.chain,
        )
        if self._last.chain == frame.chain:
            self._motion_so_far = se3.inverse(self._last.T_odom_cam) @ frame.T_odom_cam
        self._coasted = 0
        self._last = frame
        if inliers < NEW_REFERENCE_INLIERS:
            self._use(frame)
        return Tracked(frame.T_odom_cam, inliers, None, frame.chain)

    def _use(self, frame):
        """Track against another reference from now on."""
        if self._reference.chain is not None:
            self._before.append(self._reference)
        self._reference = frame

    def _found_again(self, frame, motion, inliers):
        """(motion, inliers) against that of the earlier references which shows most of the frame,
        if it is enough to measure it well, or if there is nothing else.
        """
        for earlier in reversed(self._before):
            again, agreeing = self._motion(earlier, frame)
            if agreeing >= (WEAK_INLIERS if inliers else LEAST_INLIERS):
                self._use(earlier)
                return again, agreeing
        return motion, inliers

    def _guessed(self, frame):
        self._coasted += 1
        steady = self._motion_so_far if self._coasted <= COASTING else np.eye(4)
        frame.T_odom_cam = se3.orthonormalize(self._last.T_odom_cam @ steady)
        self._last = frame
        return Tracked(frame.T_odom_cam, 0, np.diag(LOST_SIGMA**2), None)

    def _extract(self, image, depth, camera):
        keypoints, descriptors = self._detector.detectAndCompute(
            cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None
        )
        pixels = np.array([keypoint.pt for keypoint in keypoints], float).reshape(-1, 2)
        x, y = np.rint(pixels).astype(int).T
        z = depth[y.clip(0, camera.height - 1), x.clip(0, camera.width - 1)]
        known = (z > NEAREST_M) & (z < FARTHEST_M)
        descriptors = np.zeros((0, 128), np.float32) if descriptors is None else descriptors
        return _Frame(
            camera, pixels, descriptors, camera.unproject(pixels, z)[known], descriptors[known]
        )

    def _motion(self, reference, frame):
        """(T_reference_frame (4, 4), inliers), or (None, 0) when too little agrees."""
        if min(len(reference.landmarks), len(frame.descriptors)) < LEAST_INLIERS:
            return None, 0
        pairs = [
            pair
            for pair in self._matcher.knnMatch(frame.descriptors, reference.landmarks, k=2)
            if len(pair) == 2
        ]
        good = [best for best, second in pairs if best.distance < RATIO * second.distance]
        if len(good) < LEAST_INLIERS:
            return None, 0
        points = reference.points[[match.trainIdx for match in good]]
        pixels = frame.pixels[[match.queryIdx for match in good]]
        matrix = frame.camera.matrix
        found, rotation, translation, inliers = cv2.solvePnPRansac(
            points,
            pixels,
            matrix,
            None,
            iterationsCount=300,
            confidence=0.999,
            reprojectionError=REPROJECTION_PX,
        )
        if not found or inliers is None or len(inliers) < LEAST_INLIERS:
            return None, 0
        agreeing = inliers[:, 0]
        rotation, translation = cv2.solvePnPRefineLM(
            points[agreeing], pixels[agreeing], matrix, None, rotation, translation
        )
        T_frame_reference = se3.from_rotation_translation(
            cv2.Rodrigues(rotation)[0], translation[:, 0]
        )
        return se3.inverse(T_frame_reference), len(agreeing)


@dataclass(eq=False)
class _Frame:
    """pixels (n, 2), descriptors (n, 128); points (m, 3) in the camera frame and landmarks (m,
    128) of those with depth.
    """

    camera: object
    pixels: np.ndarray
    descriptors: np.ndarray
    points: np.ndarray
    landmarks: np.ndarray
    T_odom_cam: np.ndarray | None = None
    chain: int | None = None
