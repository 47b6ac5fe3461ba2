"""Where was this image taken? Scene memory -> coarse pose without a hint -> nearest keyframes -> refined pose."""

import time
from dataclasses import dataclass, replace

import cv2
import numpy as np
import poselib

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
        model = {"model": "PINHOLE", "width": camera.width, "height": camera.height,
                 "params": [camera.fx, camera.fy, camera.cx, camera.cy]}
        options = {"max_reproj_error": config.coarse_threshold, "max_iterations": 1000, "min_iterations": 60, "seed": 0}
        found, info = poselib.estimate_absolute_pose(pixels, points, model, options, {"loss_type": "CAUCHY", "loss_scale": 3.0})
        needed = int(config.coarse_inlier_ratio * len(cells))
        if info["num_inliers"] < max(needed, config.minimum_inliers):
            return Localization(NOT_LOCALIZED, f"the scene memory recognises {info['num_inliers']} of {len(cells)} cells; "
                                f"{needed} are needed: the image shows a place that was not mapped, or too little of it")
        T_cam_map = se3.from_rotation_translation(found.R, found.t)
        refined = refine(T_cam_map, camera, pixels, points, uncertainty, config.coarse_threshold)
        return Localization(OK, "", se3.inverse(refined.T_cam_map), refined.covariance, int(refined.inliers.sum()),
                            refined.reprojection_px)

    def verified(self, scene, features, camera, pose):
        """Pose from matches with the keyframes nearest to `pose` (T_map_cam) and their depth."""
        snapshot, config = scene.snapshot, self.config
        pixels, points = [], []
        for index in near_pose(snapshot.T_map_cam, pose, config.verify_keyframes, ()):
            frame = scene.frame(int(snapshot.keyframe_ids[index]))
            matches, _ = self.matcher.lighterglue(features, frame.features)
            matches = matches[frame.keypoint_depth[matches[:, 1]] > 0]
            seen = frame.camera.unproject(frame.features.keypoints[matches[:, 1]], frame.keypoint_depth[matches[:, 1]])
            pixels.append(features.keypoints[matches[:, 0]].astype(float))
            points.append(se3.transform_points(snapshot.T_map_cam[index], seen))
        pixels, points = np.concatenate(pixels), np.concatenate(points)
        if len(pixels) < config.minimum_inliers:
            return self._unverified(len(pixels))
        model = {"model": "PINHOLE", "width": camera.width, "height": camera.height,
                 "params": [camera.fx, camera.fy, camera.cx, camera.cy]}
        options = {"max_reproj_error": config.verify_threshold, "max_iterations": 2000, "min_iterations": 60, "seed": 0}
        found, info = poselib.estimate_absolute_pose(pixels, points, model, options, {"loss_type": "CAUCHY", "loss_scale": 1.0})
        if info["num_inliers"] < config.minimum_inliers:
            return self._unverified(info["num_inliers"])
        T_cam_map = se3.from_rotation_translation(found.R, found.t)
        refined = refine(T_cam_map, camera, pixels, points, np.full(len(pixels), config.point_sigma), config.verify_threshold)
        if refined.inliers.sum() < config.minimum_inliers:
            return self._unverified(int(refined.inliers.sum()))
        return Localization(OK, "", se3.inverse(refined.T_cam_map), refined.covariance, int(refined.inliers.sum()),
                            refined.reprojection_px, verified=True)

    def _unverified(self, inliers):
        return Localization(NOT_LOCALIZED, f"{inliers} matches with the nearest keyframes agree on a pose; "
                            f"{self.config.minimum_inliers} are needed", inliers=int(inliers))


def _unusable(image, camera):
    if image.dtype != np.uint8 or image.shape != (camera.height, camera.width, 3):
        return f"image must be uint8 RGB of {camera.width}x{camera.height} as its camera says, got {image.dtype} {image.shape}"
    if float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F).std()) < 1.0:
        return "image shows nothing: it is blank or wholly blurred"
    return ""
