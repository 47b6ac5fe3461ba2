"""RGB-D visual odometry: SIFT features with depth are matched against a reference frame, and the
pose is solved by PnP (OpenCV).
"""

from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera, undistort
from vggt3_ros.geometry.se3 import Floats

FEATURES = 1500
NEAREST_M, FARTHEST_M = 0.2, 6.0  # range of depth accurate enough for a landmark
RATIO = 0.8  # Lowe's ratio test
REPROJECTION_PX = 3.0
MIN_INLIERS = 12  # fewer are not significant
NEW_REFERENCE_INLIERS = 150  # with fewer, this frame becomes the reference
WEAK_INLIERS = 60  # with fewer, the previous frame is tried as the reference, too
# standard deviations of the motion of a lost camera, metres and radians
LOST_SIGMA = np.array([0.5, 0.5, 0.5, 0.4, 0.4, 0.4])
REFERENCES = 10  # earlier references in which a lost camera is searched for
COASTING = 3  # consecutive frames for which a lost camera is assumed to keep its motion


@dataclass(frozen=True, eq=False)
class Tracked:
    """The pose of a tracked frame: T_odom_cam (4, 4).

    inliers: matches that agree with it, 0 if tracking is lost. covariance: (6, 6) as in
    Keyframe.odometry_covariance if the motion is a guess, None if it was measured. chain: between
    frames with the same number, the motion was measured throughout; None if lost.
    """

    T_odom_cam: np.ndarray
    inliers: int
    covariance: np.ndarray | None = None
    chain: int | None = 0


class RgbdOdometry:
    """Track a camera from frame to frame. The odometry frame is that of the first camera.

    Earlier references are searched only when tracking is lost, so the odometry drifts.
    """

    def __init__(self) -> None:
        self._detector, self._matcher = cv2.SIFT.create(FEATURES), cv2.BFMatcher(cv2.NORM_L2)
        self._reference: _Frame | None = None
        self._last: _Frame | None = None
        self._before: deque[_Frame] = deque(maxlen=REFERENCES)  # earlier references
        self._last_motion: Floats = np.eye(4)
        self._coasted = self._chains = 0

    def track(
        self,
        image: np.ndarray,
        depth: np.ndarray,
        camera: Camera,
        stamp_ns: int | None = None,
    ) -> Tracked:
        """Track an image (height, width, 3) uint8 RGB with depth (height, width), metres, 0 where
        unknown. Both are distorted images of `camera`. The stamp is not used.

        Tracking is lost if the frame matches neither the reference, the previous frame nor an
        earlier reference. The pose is then extrapolated for a few frames. Tracking resumes from a
        frame that is recognised, or else from the extrapolated pose, in a new chain.
        """
        frame = self._extract(
            undistort(image, camera), undistort(depth, camera, nearest=True), camera.undistorted()
        )
        if self._reference is None or self._last is None:
            self._reference = self._last = frame
            return Tracked(frame.T_odom_cam, len(frame.points))
        motion, inliers = self._motion(self._reference, frame)
        if inliers < WEAK_INLIERS and self._last is not self._reference:
            from_last = self._motion(self._last, frame)
            if from_last[1] > inliers:
                self._use(self._last, instead_of=self._reference)
                motion, inliers = from_last
        reference = self._reference
        if not inliers or reference.chain is None:
            reference, motion, inliers = self._recognised(frame, reference, motion, inliers)
        if not inliers:
            return self._guessed(frame, self._last)
        if reference.chain is None:  # only a guess connects it to earlier frames
            self._chains += 1
            reference.chain = self._chains
        frame.T_odom_cam = se3.orthonormalize(reference.T_odom_cam @ motion)
        frame.chain = reference.chain
        if self._last.chain == frame.chain:
            self._last_motion = se3.inverse(self._last.T_odom_cam) @ frame.T_odom_cam
        self._coasted = 0
        self._last = frame
        if inliers < NEW_REFERENCE_INLIERS:
            self._use(frame, instead_of=reference)
        return Tracked(frame.T_odom_cam, inliers, None, frame.chain)

    def _use(self, frame: "_Frame", instead_of: "_Frame") -> None:
        """Make `frame` the reference from now on."""
        if instead_of.chain is not None:
            self._before.append(instead_of)
        self._reference = frame

    def _recognised(
        self, frame: "_Frame", reference: "_Frame", motion: Floats, inliers: int
    ) -> tuple["_Frame", Floats, int]:
        """Return (reference, motion, inliers) of the latest earlier reference that matches `frame`
        well, or at all if the current one does not; the arguments if there is none.
        """
        for earlier in reversed(self._before):
            again, agreeing = self._motion(earlier, frame)
            if agreeing >= (WEAK_INLIERS if inliers else MIN_INLIERS):
                self._use(earlier, instead_of=reference)
                return earlier, again, agreeing
        return reference, motion, inliers

    def _guessed(self, frame: "_Frame", last: "_Frame") -> Tracked:
        """Extrapolate the pose of a frame in which tracking is lost."""
        self._coasted += 1
        steady = self._last_motion if self._coasted <= COASTING else np.eye(4)
        frame.T_odom_cam = se3.orthonormalize(last.T_odom_cam @ steady)
        frame.chain = None
        self._last = frame
        return Tracked(frame.T_odom_cam, 0, np.diag(LOST_SIGMA**2), None)

    def _extract(self, image: np.ndarray, depth: np.ndarray, camera: Camera) -> "_Frame":
        keypoints, found = self._detector.detectAndCompute(
            cv2.cvtColor(image, cv2.COLOR_RGB2GRAY),
            None,
        )
        pixels = np.array([keypoint.pt for keypoint in keypoints], float).reshape(-1, 2)
        x, y = np.rint(pixels).astype(int).T
        z = depth[y.clip(0, camera.height - 1), x.clip(0, camera.width - 1)]
        known = (z > NEAREST_M) & (z < FARTHEST_M)
        # None without keypoints
        descriptors = np.zeros((0, 128), np.float32) if found is None else np.asarray(found)
        return _Frame(
            camera, pixels, descriptors, camera.unproject(pixels, z)[known], descriptors[known]
        )

    def _motion(self, reference: "_Frame", frame: "_Frame") -> tuple[Floats, int]:
        """Return (T_reference_frame (4, 4), inliers); (identity, 0) if too few matches agree."""
        nothing = np.eye(4), 0
        if min(len(reference.landmarks), len(frame.descriptors)) < MIN_INLIERS:
            return nothing
        pairs = [
            pair
            for pair in self._matcher.knnMatch(frame.descriptors, reference.landmarks, k=2)
            if len(pair) == 2
        ]
        good = [best for best, second in pairs if best.distance < RATIO * second.distance]
        if len(good) < MIN_INLIERS:
            return nothing
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
        if not found or inliers is None or len(inliers) < MIN_INLIERS:
            return nothing
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
    """Features of a frame: pixels (n, 2) and descriptors (n, 128); points (m, 3) in the camera
    frame, metres, and descriptors `landmarks` (m, 128) of those with depth. T_odom_cam and chain:
    as in Tracked.
    """

    camera: Camera
    pixels: np.ndarray
    descriptors: np.ndarray
    points: np.ndarray
    landmarks: np.ndarray
    T_odom_cam: Floats = field(default_factory=lambda: np.eye(4))
    chain: int | None = 0
