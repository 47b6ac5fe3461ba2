"""Where was this image taken? Scene memory -> coarse pose without a hint -> nearest keyframes -> refined pose."""

import time
from dataclasses import dataclass, replace
from itertools import zip_longest

import cv2
import numpy as np
import poselib

from vggt3_ros.features.matching import guided
from vggt3_ros.features.subpixel import align_patches
from vggt3_ros.geometry import se3
from vggt3_ros.mapping.candidates import near_pose
from vggt3_ros.mapping.frame import encode_image
from vggt3_ros.memory.appearance import agreement, looked_for
from vggt3_ros.memory.keys import dense_keys
from vggt3_ros.memory.pose_refinement import refine

COARSE_SPREAD = 0.55  # share of the threshold; errors spread by chance have their median at 0.7
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
    """What a localization reads, swapped as one: a Snapshot, its SceneMemory and PlaceIndex (None without depth or keypoints), and
    frame(keyframe id) -> Frame."""

    snapshot: object
    memory: object
    places: object
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
        query = encode_image(image, camera, self.encoder)
        answer = self.verified(scene, query, hint) if verify else self.coarse(scene, query)
        return replace(answer, generation=scene.snapshot.generation, seconds=time.perf_counter() - started)

    def coarse(self, scene, query):
        """A Frame -> Localization by the scene memory alone: the most reliable cells are looked up, P3P RANSAC, weighted refinement."""
        config = self.config
        guess = self._guess(scene, query)
        needed = max(config.minimum_inliers, int(config.coarse_inlier_ratio * len(guess.pixels)))
        if guess.agreeing < needed:
            return Localization(NOT_LOCALIZED, f"the scene memory recognises {guess.agreeing} of {len(guess.pixels)} cells; {needed} "
                                "are needed: the image shows a place that was not mapped, or too little of it", inliers=guess.agreeing)
        refined = refine(se3.inverse(guess.T_map_cam), query.camera, guess.pixels, guess.points, guess.uncertainty, config.coarse_threshold)
        if refined.reprojection_px > COARSE_SPREAD * config.coarse_threshold:
            return Localization(NOT_LOCALIZED, f"the cells that agree lie {refined.reprojection_px:.1f} px from where they should on "
                                "average: too scattered for a place that was mapped", inliers=guess.agreeing)
        return Localization(OK, "", se3.inverse(refined.T_cam_map), refined.covariance, int(refined.inliers.sum()),
                            refined.reprojection_px)

    def _guess(self, scene, query):
        features = query.features
        cells = np.argsort(-features.reliability.reshape(-1))[:self.config.cells]
        pixels = features.cell_centres().reshape(-1, 2)[cells].astype(float)
        if scene.memory is None:
            return _Guess(None, 0, pixels, None, None)
        points, uncertainty = scene.memory.predict(dense_keys(features)[cells])
        points = points.astype(float)
        return _Guess(*_ransac(pixels, points, query.camera, self.config.coarse_threshold), pixels, points, uncertainty)

    def verified(self, scene, query, hint=None):
        """A Frame -> Localization from matches with the keyframes near where the memory places the image, and their depth.

        The coarse pose says where to look for each keypoint: twice the matches of LighterGlue in a tenth of its time. Where that fails,
        LighterGlue tries the keyframes near the coarse pose, near the hint, and those that look most alike, one by one.
        """
        guess = self._guess(scene, query)
        snapshot, config = scene.snapshot, self.config
        starts = [pose for pose in (guess.T_map_cam, hint) if pose is not None]
        best, unlike = 0, 0
        for pose in starts:
            refined, alike = self._tracked(scene, query, pose)
            if alike:
                return self._answer(refined)
            unlike = max(unlike, refined.inliers.sum() if refined else 0)
        proposals = [near_pose(snapshot.T_map_cam, pose, config.verify_keyframes, ()) for pose in starts]
        if scene.places is not None:
            proposals.append(scene.places.like(query.features, config.verify_keyframes))
        for index in dict.fromkeys(i for rank in zip_longest(*proposals) for i in rank if i is not None):
            frame = scene.frame(int(snapshot.keyframe_ids[index]))
            matches = self._matches(query, [(frame, snapshot.T_map_cam[index])],
                                    lambda frame, pose: self.matcher.lighterglue(query.features, frame.features)[0])
            pose, agreeing = _ransac(*matches, query.camera, config.verify_threshold)
            best = max(best, agreeing)
            if agreeing >= config.single_inliers:
                refined, alike = self._tracked(scene, query, pose)
                if alike:
                    return self._answer(refined)
                unlike = max(unlike, refined.inliers.sum() if refined else 0)
        if unlike:
            return Localization(NOT_LOCALIZED, f"{unlike} matches agree on a pose, but the rest of the image does not look as the map does "
                                "from there: something in it was mapped in another place", inliers=int(unlike))
        return Localization(NOT_LOCALIZED, f"at most {best} matches with any of {config.verify_keyframes} keyframes near the coarse pose "
                            "or looking alike agree on a pose: the image shows a place that was not mapped, or too little of it",
                            inliers=best)

    def _tracked(self, scene, query, T_map_cam):
        """The keyframes nearest to a pose, keypoints looked for where it expects them -> (RefinedPose or None where they are not,
        whether the whole image looks as the map does from there)."""
        snapshot, config, refined = scene.snapshot, self.config, None
        for share, radius in zip(config.agreeing_shares(), config.search_radii()):
            near = near_pose(snapshot.T_map_cam, T_map_cam, config.verify_keyframes, ())
            frames = [(scene.frame(int(snapshot.keyframe_ids[i])), snapshot.T_map_cam[i]) for i in near]
            pixels, points = self._guided(query, frames, T_map_cam, radius)
            if refined is None:  # a coarse pose is far enough off to be a poor place to start descending from
                T_map_cam, _ = _ransac(pixels, points, query.camera, config.verify_threshold)
            refined = self._refined(query.camera, T_map_cam, pixels, points, share)
            if refined is None:
                return None, False
            T_map_cam = se3.inverse(refined.T_cam_map)
        if refined.reprojection_px > config.scatter * config.verify_threshold:
            return None, False
        similarity, shown = agreement(looked_for(query, frames, T_map_cam))
        return refined, similarity >= config.similarity and shown >= config.shown

    def _guided(self, query, frames, T_map_cam, radius):
        def match(frame, pose):
            points = se3.transform_points(se3.inverse(T_map_cam) @ pose, _points(frame, slice(None)))
            visible = (frame.keypoint_depth > 0) & (points[:, 2] > 0.05)
            expected = np.where(visible[:, None], query.camera.project(points), np.nan)
            return guided(query.features, frame.features, expected, radius)[0]

        return self._matches(query, frames, match, aligned=radius < self.config.search_radius)

    def _matches(self, query, frames, match, aligned=False):
        """Matched pixels (M, 2) of the query and map points (M, 3) over all `frames`, (Frame, T_map_cam) each; `aligned`: moved onto
        the keyframes' image patches."""
        pixels, points = [], []
        for frame, pose in frames:
            matches = match(frame, pose)
            matches = matches[frame.keypoint_depth[matches[:, 1]] > 0]
            seen = query.features.keypoints[matches[:, 0]].astype(float)
            if aligned:
                seen = align_patches(frame.gray, query.gray, frame.features.keypoints[matches[:, 1]], seen)
            pixels.append(seen)
            points.append(se3.transform_points(pose, _points(frame, matches[:, 1])))
        return np.concatenate(pixels), np.concatenate(points)

    def _refined(self, camera, T_map_cam, pixels, points, share):
        """RefinedPose, or None when too few, or less than a `share`, of the matches agree on it."""
        config = self.config
        if len(pixels) < config.minimum_inliers:
            return None
        sigma = np.full(len(pixels), config.point_sigma)
        refined = refine(se3.inverse(T_map_cam), camera, pixels, points, sigma, config.verify_threshold)
        return refined if refined.inliers.sum() >= max(config.minimum_inliers, share * len(pixels)) else None

    @staticmethod
    def _answer(refined):
        return Localization(OK, "", se3.inverse(refined.T_cam_map), refined.covariance, int(refined.inliers.sum()),
                            refined.reprojection_px, verified=True)


@dataclass(frozen=True, eq=False)
class _Guess:
    """The memory's coarse pose (None without a memory), how many cells agree with it, and the cells: pixels, points, uncertainty."""

    T_map_cam: np.ndarray | None
    agreeing: int
    pixels: np.ndarray
    points: np.ndarray | None
    uncertainty: np.ndarray | None


def _points(frame, which):
    """Keypoints with their depth -> (M, 3) in the frame's camera."""
    return frame.camera.unproject(frame.features.keypoints[which], frame.keypoint_depth[which])


def _ransac(pixels, points, camera, threshold):
    """P3P with local optimization -> (T_map_cam, how many agree within `threshold` px)."""
    if len(pixels) < 4:
        return np.eye(4), 0
    options = {"max_reproj_error": threshold, "max_iterations": 1000, "min_iterations": 60, "seed": 0}
    pose, info = poselib.estimate_absolute_pose(pixels, points, camera.pinhole, options, {"loss_type": "CAUCHY", "loss_scale": threshold / 4})
    return se3.inverse(se3.from_rotation_translation(pose.R, pose.t)), int(info["num_inliers"])


def _unusable(image, camera):
    if image.dtype != np.uint8 or image.shape != (camera.height, camera.width, 3):
        return f"image must be uint8 RGB of {camera.width}x{camera.height} as its camera says, got {image.dtype} {image.shape}"
    if float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F).std()) < 1.0:
        return "image shows nothing: it is blank or wholly blurred"
    return ""
