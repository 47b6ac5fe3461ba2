"""Where was this image taken? Scene memory -> coarse pose without a hint -> nearest keyframes ->
refined pose.
"""

import time
from dataclasses import dataclass, replace
from itertools import chain

import cv2
import numpy as np

from vggt3_ros.features.frame import encode_image
from vggt3_ros.features.matching import mutual_nearest
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.overlap import near_pose
from vggt3_ros.memory.evidence import Evidence
from vggt3_ros.memory.recall import Recall, recall, resemblance, to_ask
from vggt3_ros.memory.verification import Verification

CLOSER_LOOKS = 2  # keyframes that LighterGlue compares with an image
OK, NO_MAP, NOT_LOCALIZED, BAD_IMAGE = "ok", "no_map", "not_localized", "bad_image"


@dataclass(frozen=True, eq=False)
class Localization:
    """code: ok, no_map, not_localized or bad_image; message says why not. T_map_cam (4, 4) camera
    (optical) to map and covariance (6, 6) in map axes, x y z rotX rotY rotZ, metres and radians,
    are None unless code is ok. inliers: agreeing matches (verified) or cells (not).
    reprojection_error_px: their median. generation: of the snapshot asked. verified: refined
    against keyframes.
    """

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
    """What a localization reads, swapped as one: a Snapshot, its SceneMemory and PlaceIndex (None
    without depth or keypoints), and frame(keyframe id) -> Frame, None for a map without images.
    """

    snapshot: object
    memory: object
    places: object
    frame: object


class Localizer:
    """localize() may be called from any thread, while refinements run."""

    def __init__(self, config, encoder, matcher):
        self.encoder, self.matcher = encoder, matcher
        self.configure(config)

    def configure(self, config):
        """Use another LocalizerConfig from the next request on."""
        self.config, self.verification = config, Verification(config)

    def localize(self, scene, image, camera, hint=None, verify=True):
        """(height, width, 3) uint8 RGB and its Camera -> Localization in the scene's map.

        hint: T_map_cam believed near the truth, tried when the memory alone finds nothing.
        verify=False answers with the memory's pose: faster, and no keyframe is needed. So does a
        map without images.
        """
        started = time.perf_counter()
        problem = _unusable(image, camera)
        if problem:
            return Localization(BAD_IMAGE, problem)
        if scene is None:
            return Localization(
                NO_MAP, "there is no refined map yet: send keyframes and refine first"
            )
        query = encode_image(image, camera, self.encoder)
        look = self.verified if verify and scene.frame is not None else self.coarse
        answer = look(scene, query, hint)
        return replace(
            answer, generation=scene.snapshot.generation, seconds=time.perf_counter() - started
        )

    def coarse(self, scene, query, hint=None):
        """A Frame -> Localization by the scene memory alone: no keyframe is looked at."""
        return self.by_memory(scene, query, self.recalled(scene, query, hint))

    def by_memory(self, scene, query, found):
        """A Frame and what :meth:`recalled` said -> Localization by the scene memory alone."""
        config, refined = self.config, found.refined
        if refined is None or found.agreeing < config.memory_inliers:
            return Localization(
                NOT_LOCALIZED,
                f"{found.agreeing} of {found.tried} keypoints that the scene memory recognises agree on a pose; "
                f"{config.memory_inliers} are needed: the image shows a place that was not mapped, or too little of it",
                inliers=found.agreeing,
            )
        evidence = remembered_evidence(scene.memory, query, found)
        if not evidence.convinces(
            config.memory_inliers,
            config.memory_inlier_ratio,
            config.memory_similarity,
            config.shown,
        ):
            return Localization(
                NOT_LOCALIZED,
                f"{found.agreeing} of {found.tried} keypoints agree on a pose, but the rest of the image does not "
                "look as the scene memory expects it to from there: something in it was mapped in another place",
                inliers=found.agreeing,
            )
        return Localization(
            OK,
            "",
            found.T_map_cam,
            refined.uncertainty(query.camera),
            found.agreeing,
            refined.reprojection_px,
        )

    def recalled(self, scene, query, hint=None):
        """A Frame -> what the scene memory says, a recall.Recall."""
        memory = scene.memory
        if memory is None or not len(memory):
            return Recall(None, 0, 0)
        order = to_ask(memory, query, scene.places, scene.snapshot, self.config.slots_asked, hint)
        return recall(memory, query, order, self.config)

    def verified(self, scene, query, hint=None):
        """A Frame -> Localization from matches with the keyframes near where the memory places the
        image, and their depth.

        The coarse pose says where to look for each keypoint: twice the matches of LighterGlue in a
        tenth of its time. Where that fails, the keyframes near the coarse pose, near the hint, and
        those that look most alike are compared with the image. Where no keyframe says anything,
        the memory's own answer stands.
        """
        guess = self.recalled(scene, query, hint)
        starts = [pose for pose in (guess.T_map_cam, hint) if pose is not None]
        best, unlike = 0, 0
        for pose, agreeing in chain(
            ((pose, None) for pose in starts), self._compared(scene, query, starts)
        ):
            if agreeing is not None:
                best = max(best, agreeing)
                if agreeing < self.config.single_inliers:
                    continue
            refined, alike = self.verification.tracked(scene, query, pose)
            if alike:
                return self._answer(refined, query.camera)
            unlike = max(unlike, refined.inliers.sum() if refined else 0)
        if unlike:
            return Localization(
                NOT_LOCALIZED,
                f"{unlike} matches agree on a pose, but the rest of the image does not look as the map does "
                "from there: something in it was mapped in another place",
                inliers=int(unlike),
            )
        remembered = self.by_memory(scene, query, guess)
        if remembered.code == OK:
            return remembered
        return Localization(
            NOT_LOCALIZED,
            f"at most {best} matches with any of {self.config.verify_keyframes} keyframes near the coarse "
            "pose or looking alike agree on a pose: the image shows a place that was not mapped, or too little of it",
            inliers=best,
        )

    def _compared(self, scene, query, starts):
        """(T_map_cam, matches that agree on it) from one keyframe each, the likeliest first.

        Mutual nearest neighbours take a twentieth of LighterGlue's time and nearly always say
        which keyframe shows the same place (at least 29 agree with 95 % of those that LighterGlue
        matches, at most 27 with 99 % of the others; kitchen and apartment). So LighterGlue is left
        the few best where they do not find enough themselves.
        """
        snapshot, config = scene.snapshot, self.config
        proposals = [
            near_pose(snapshot.T_map_cam, pose, config.verify_keyframes, ()) for pose in starts
        ]
        if scene.places is not None:
            proposals.append(scene.places.like(query.features, config.verify_keyframes))
        compared = []
        for index in dict.fromkeys(chain(*proposals)):
            frame = scene.frame(int(snapshot.keyframe_ids[index]))
            compared.append(
                (
                    *self.verification.single(
                        query, frame, snapshot.T_map_cam[index], mutual_nearest
                    ),
                    index,
                    frame,
                )
            )
        compared.sort(key=lambda found: -found[1])
        for pose, agreeing, *_ in compared[:CLOSER_LOOKS]:
            yield pose, agreeing
        for *_, index, frame in compared[:CLOSER_LOOKS]:
            yield self.verification.single(
                query, frame, snapshot.T_map_cam[index], self.matcher.lighterglue
            )

    @staticmethod
    def _answer(refined, camera):
        return Localization(
            OK,
            "",
            se3.inverse(refined.T_cam_map),
            refined.uncertainty(camera),
            int(refined.inliers.sum()),
            refined.reprojection_px,
            verified=True,
        )


def remembered_evidence(memory, query, found):
    """Evidence for a Recall that has a refined pose."""
    return Evidence(
        found.agreeing, found.agreeing / found.tried, *resemblance(memory, query, found)
    )


def _unusable(image, camera):
    if image.dtype != np.uint8 or image.shape != (camera.height, camera.width, 3):
        return f"image must be uint8 RGB of {camera.width}x{camera.height} as its camera says, got {image.dtype} {image.shape}"
    if float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F).std()) < 1.0:
        return "image shows nothing: it is blank or wholly blurred"
    return ""
