"""Where was this image taken? Scene memory -> coarse pose without a hint -> nearest keyframes -> refined pose."""

import time
from dataclasses import dataclass, replace

import cv2
import numpy as np
import poselib

from vggt3_ros.features.matching import guided
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import undistort
from vggt3_ros.mapping.candidates import near_pose
from vggt3_ros.memory.keys import dense_keys
from vggt3_ros.memory.pose_refinement import refine

OK, NO_MAP, NOT_LOCALIZED, BAD_IMAGE = "ok", "no_map", "not_localized", "bad_image"


@dataclass(frozen=True, eq=False)
class Localization:
    """code: ok, no_map, not_localized or bad_image; message says why not. T_map_cam (4, 4) camera (optical) to map and covariance
    (6, 6) in map axes, x y z rotX rotY rotZ, metres and radians, are None unless code is ok. inliers: agreeing matches (verified)
    or cells (not). reprojection_error_px: their median. generation: of the snapshot asked. verified: refined against keyframes."""

    code: str
    message: str = ""
    T_map_cam: np.ndarray | None = None
    covariance: np.ndarray | None = None
    inliers: int = 0
    reprojection_error_px: float = float("nan")
    generation: int = 0
    seconds: float = 0.0
    verified: bool = False


@dataclass(frozen=True, eq=False)
class Scene:
    """What a localization reads, swapped as one: a snapshot, its memory, and access to its keyframes' Frames."""

    snapshot: object
    memory: object
    frame: object


class Localizer:
    """localize() may be called from any thread, while refinements run."""

    def __init__(self, config, encoder, matcher):
        self.config, self.encoder, self.matcher = config, encoder, matcher

    def localize(self, scene, image, camera, hint=None, verify=True):
        """(height, width, 3) uint8 RGB and its Camera -> Localization in the scene's map.

        hint: T_map_cam believed near the truth, tried when the memory alone finds nothing. verify=False answers with the memory's
        pose: three times faster and about twice the error.
        """
        started = time.perf_counter()
        problem = _unusable(image, camera)
        if problem:
            return Localization(BAD_IMAGE, problem)
        if scene is None:
            return Localization(NO_MAP, "there is no refined map yet: send keyframes and refine first")
        features = self.encoder.encode(undistort(image, camera))
        camera = camera.undistorted()
        coarse = self.coarse(scene, features, camera)
        answer = coarse
        if verify:
            pose = coarse.T_map_cam if coarse.code == OK else hint
            if pose is not None:
                answer = self.verified(scene, features, camera, pose)
        return replace(answer, generation=scene.snapshot.generation, seconds=time.perf_counter() - started)

    def coarse(self, scene, features, camera):
        """Pose by the scene memory alone: the most reliable cells are looked up, P3P RANSAC, weighted refinement."""
        config = self.config
        reliability = features.reliability.reshape(-1)
        cells = np.argsort(-reliability)[:config.cells]
        pixels = features.cell_centres().reshape(-1, 2)[cells].astype(float)
        points, uncertainty = scene.memory.predict(dense_keys(features)[cells])
        points = points.astype(float)
        found, agreeing = _ransac(pixels, points, camera, config.coarse_threshold)
        needed = max(config.minimum_inliers, int(config.coarse_inlier_ratio * len(cells)))
        if agreeing < needed:
            return Localization(NOT_LOCALIZED, f"the scene memory recognises {agreeing} of {len(cells)} cells; {needed} are needed: "
                                "the image shows a place that was not mapped, or too little of it", inliers=agreeing)
        refined = refine(se3.inverse(found), camera, pixels, points, uncertainty, config.coarse_threshold)
        return Localization(OK, "", se3.inverse(refined.T_cam_map), refined.covariance, int(refined.inliers.sum()),
                            refined.reprojection_px)

    def verified(self, scene, features, camera, coarse):
        """Pose from matches with the keyframes nearest to a coarse pose (T_map_cam) and their depth.

        The coarse pose says where to look for each keypoint: twice the matches of LighterGlue in a tenth of its time. Where that fails
        (a poor coarse pose), LighterGlue matches without it.
        """
        snapshot, config = scene.snapshot, self.config
        near = near_pose(snapshot.T_map_cam, coarse, config.verify_keyframes, ())
        frames = [(scene.frame(int(snapshot.keyframe_ids[i])), snapshot.T_map_cam[i]) for i in near]
        found = coarse
        for radius in config.search_radii():
            refined = self._refined(features, camera, found, self._guided(features, camera, frames, found, radius))
            if refined is None:
                break
            found = se3.inverse(refined.T_cam_map)
        else:
            return self._answer(refined)
        matches = self._matches(features, frames, lambda frame, pose: self.matcher.lighterglue(features, frame.features)[0])
        pose, agreeing = _ransac(*matches, camera, config.verify_threshold)
        if agreeing < config.minimum_inliers:
            return self._unverified(agreeing)
        refined = self._refined(features, camera, pose, matches)
        return self._answer(refined) if refined else self._unverified(agreeing)

    def _guided(self, features, camera, frames, T_map_cam, radius):
        def match(frame, pose):
            points = se3.transform_points(se3.inverse(T_map_cam) @ pose, _points(frame, slice(None)))
            visible = (frame.keypoint_depth > 0) & (points[:, 2] > 0.05)
            expected = np.where(visible[:, None], camera.project(points), np.nan)
            return guided(features, frame.features, expected, radius)[0]

        return self._matches(features, frames, match)

    def _matches(self, features, frames, match):
        """Matched pixels (M, 2) of the query and map points (M, 3) over all `frames`, (Frame, T_map_cam) each."""
        pixels, points = [], []
        for frame, pose in frames:
            matches = match(frame, pose)
            matches = matches[frame.keypoint_depth[matches[:, 1]] > 0]
            pixels.append(features.keypoints[matches[:, 0]].astype(float))
            points.append(se3.transform_points(pose, _points(frame, matches[:, 1])))
        return np.concatenate(pixels), np.concatenate(points)

    def _refined(self, features, camera, T_map_cam, matches):
        """RefinedPose, or None when too few, or too small a share, of the matches agree on it."""
        pixels, points = matches
        config = self.config
        if len(pixels) < config.minimum_inliers:
            return None
        sigma = np.full(len(pixels), config.point_sigma)
        refined = refine(se3.inverse(T_map_cam), camera, pixels, points, sigma, config.verify_threshold)
        enough = max(config.minimum_inliers, config.verify_inlier_ratio * len(pixels))
        return refined if refined.inliers.sum() >= enough else None

    @staticmethod
    def _answer(refined):
        return Localization(OK, "", se3.inverse(refined.T_cam_map), refined.covariance, int(refined.inliers.sum()),
                            refined.reprojection_px, verified=True)

    def _unverified(self, inliers):
        return Localization(NOT_LOCALIZED, f"{inliers} matches with the nearest keyframes agree on a pose; "
                            f"{self.config.minimum_inliers} are needed", inliers=int(inliers))


def _points(frame, which):
    """Keypoints with their depth -> (M, 3) in the frame's camera."""
    return frame.camera.unproject(frame.features.keypoints[which], frame.keypoint_depth[which])


def _ransac(pixels, points, camera, threshold):
    """P3P with local optimization -> (T_map_cam, how many agree within `threshold` px)."""
    if len(pixels) < 4:
        return np.eye(4), 0
    model = {"model": "PINHOLE", "width": camera.width, "height": camera.height,
             "params": [camera.fx, camera.fy, camera.cx, camera.cy]}
    options = {"max_reproj_error": threshold, "max_iterations": 1000, "min_iterations": 60, "seed": 0}
    pose, info = poselib.estimate_absolute_pose(pixels, points, model, options, {"loss_type": "CAUCHY", "loss_scale": threshold / 4})
    return se3.inverse(se3.from_rotation_translation(pose.R, pose.t)), int(info["num_inliers"])


def _unusable(image, camera):
    if image.dtype != np.uint8 or image.shape != (camera.height, camera.width, 3):
        return f"image must be uint8 RGB of {camera.width}x{camera.height} as its camera says, got {image.dtype} {image.shape}"
    if float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F).std()) < 1.0:
        return "image shows nothing: it is blank or wholly blurred"
    return ""
