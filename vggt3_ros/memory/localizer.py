"""Localize an image: scene memory, coarse pose without a hint, nearest keyframes, refined pose."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import cv2
import numpy as np

from vggt3_ros.config import LocalizerConfig
from vggt3_ros.features.frame import Frame, encode_image
from vggt3_ros.features.matching import Matcher, mutual_nearest
from vggt3_ros.features.xfeat import XFeatEncoder
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.overlap import near_pose
from vggt3_ros.memory.evidence import Evidence
from vggt3_ros.memory.pose_refinement import RefinedPose
from vggt3_ros.memory.recall import Recall, recall, resemblance, to_ask
from vggt3_ros.memory.scene_memory import SceneMemory
from vggt3_ros.memory.scenes import Scene
from vggt3_ros.memory.verification import Verification

CLOSER_LOOKS = 2  # keyframes matched with an image by LighterGlue
OK, NO_MAP, NOT_LOCALIZED, BAD_IMAGE = "ok", "no_map", "not_localized", "bad_image"


@dataclass(frozen=True, eq=False)
class Localization:
    """The answer to a localization request.

    code: ok, no_map, not_localized or bad_image; message gives the reason otherwise.
    T_map_cam (4, 4), camera (optical) to map, and covariance (6, 6) in map axes, x y z rotX rotY
    rotZ, metres and radians, are None unless code is ok. inliers: number of agreeing matches
    (verified) or slots (not verified). reprojection_error_px: their median error. generation: of
    the snapshot used. verified: whether the pose was refined against keyframes.
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


class Localizer:
    """Localizes images in a Scene. Thread-safe, also during refinements."""

    def __init__(self, config: LocalizerConfig, encoder: XFeatEncoder, matcher: Matcher) -> None:
        self.encoder, self.matcher = encoder, matcher
        self.configure(config)

    def configure(self, config: LocalizerConfig) -> None:
        """Use another LocalizerConfig from the next request on."""
        self.config, self.verification = config, Verification(config)

    def localize(
        self,
        scene: Scene | None,
        image: np.ndarray,
        camera: Camera,
        hint: np.ndarray | None = None,
        verify: bool = True,
    ) -> Localization:
        """Localize an image (height, width, 3) uint8 RGB of `camera` in the map of a scene.

        hint: T_map_cam believed to be near the truth, tried if the memory alone finds nothing.
        verify=False returns the memory's pose: faster, and no keyframe is read. A map without
        images is always answered that way. A scene of None gives no_map.
        """
        started = time.perf_counter()
        problem = _unusable(image, camera)
        if problem:
            return Localization(BAD_IMAGE, problem)
        if scene is None:
            return Localization(NO_MAP, "no refined map yet: send keyframes and refine first")
        query = encode_image(image, camera, self.encoder)
        look = self.verified if verify and scene.frame is not None else self.coarse
        answer = look(scene, query, hint)
        return replace(
            answer, generation=scene.snapshot.generation, seconds=time.perf_counter() - started
        )

    def coarse(self, scene: Scene, query: Frame, hint: np.ndarray | None = None) -> Localization:
        """Localize a Frame by the scene memory alone, without reading a keyframe."""
        return self.by_memory(scene, query, self.recalled(scene, query, hint))

    def by_memory(self, scene: Scene, query: Frame, found: Recall) -> Localization:
        """Turn the result of :meth:`recalled` into a Localization."""
        config, refined, memory = self.config, found.refined, scene.memory
        if memory is None or refined is None or found.agreeing < config.memory_inliers:
            return Localization(
                NOT_LOCALIZED,
                f"{found.agreeing} of {found.tried} keypoints recognised by the scene memory agree on a pose, "
                f"at least {config.memory_inliers} are required: the image shows an unmapped place, or too little of a mapped one",
                inliers=found.agreeing,
            )
        evidence = remembered_evidence(memory, query, found)
        if not evidence.convinces(
            config.memory_inliers,
            config.memory_inlier_ratio,
            config.memory_similarity,
            config.shown,
        ):
            return Localization(
                NOT_LOCALIZED,
                f"{found.agreeing} of {found.tried} keypoints agree on a pose, but the rest of the image does not "
                "match the scene memory from there: it shows an object that was mapped in another place",
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

    def recalled(self, scene: Scene, query: Frame, hint: np.ndarray | None = None) -> Recall:
        """Ask the scene memory for the pose of a Frame."""
        memory = scene.memory
        if memory is None or not len(memory):
            return Recall(None, 0, 0)
        order = to_ask(memory, query, scene.places, scene.snapshot, self.config.slots_asked, hint)
        return recall(memory, query, order, self.config)

    def verified(self, scene: Scene, query: Frame, hint: np.ndarray | None = None) -> Localization:
        """Localize a Frame by matches with the keyframes near the memory's pose, and their depth.

        The coarse pose predicts where each keypoint should appear; this guided search finds twice
        the matches of LighterGlue in a tenth of its time. If it fails, the keyframes near the
        coarse pose, near the hint, and most similar in appearance are matched with the image. If
        no keyframe gives a pose, the memory's own answer stands.
        """
        guess = self.recalled(scene, query, hint)
        starts = [pose for pose in (guess.T_map_cam, hint) if pose is not None]
        best, unlike = 0, 0
        candidates: Iterator[tuple[np.ndarray, int | None]] = chain(
            ((pose, None) for pose in starts), self._compared(scene, query, starts)
        )
        for pose, agreeing in candidates:
            if agreeing is not None:
                best = max(best, agreeing)
                if agreeing < self.config.single_inliers:
                    continue
            refined, alike = self.verification.tracked(scene, query, pose)
            if alike and refined is not None:
                return self._answer(refined, query.camera)
            unlike = max(unlike, int(refined.inliers.sum()) if refined else 0)
        if unlike:
            return Localization(
                NOT_LOCALIZED,
                f"{unlike} matches agree on a pose, but the rest of the image does not match the map from there: "
                "it shows an object that was mapped in another place",
                inliers=int(unlike),
            )
        remembered = self.by_memory(scene, query, guess)
        if remembered.code == OK:
            return remembered
        return Localization(
            NOT_LOCALIZED,
            f"at most {best} matches with any of {self.config.verify_keyframes} keyframes near the coarse "
            "pose or of similar appearance agree on a pose: the image shows an unmapped place, or too little of a mapped one",
            inliers=best,
        )

    def _compared(
        self, scene: Scene, query: Frame, starts: Sequence[np.ndarray]
    ) -> Iterator[tuple[np.ndarray, int]]:
        """Yield (T_map_cam, number of agreeing matches) from one keyframe each, the likeliest
        first.

        Mutual nearest neighbours take a twentieth of LighterGlue's time and nearly always tell
        which keyframe shows the same place: at least 29 agree for 95 % of the keyframes that
        LighterGlue matches, at most 27 for 99 % of the others (kitchen and apartment). LighterGlue
        is used only on the few best, if they do not suffice.
        """
        snapshot, config = scene.snapshot, self.config
        if scene.frame is None:
            return
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
    def _answer(refined: RefinedPose, camera: Camera) -> Localization:
        return Localization(
            OK,
            "",
            se3.inverse(refined.T_cam_map),
            refined.uncertainty(camera),
            int(refined.inliers.sum()),
            refined.reprojection_px,
            verified=True,
        )


def remembered_evidence(memory: SceneMemory, query: Frame, found: Recall) -> Evidence:
    """Return the Evidence for a Recall that has a refined pose."""
    return Evidence(
        found.agreeing, found.agreeing / found.tried, *resemblance(memory, query, found)
    )


def _unusable(image: np.ndarray, camera: Camera) -> str:
    """Return why an image cannot be localized; an empty string if it can."""
    if image.dtype != np.uint8 or image.shape != (camera.height, camera.width, 3):
        return f"image must be uint8 RGB of {camera.width}x{camera.height}, the size of its camera; got {image.dtype} {image.shape}"
    if float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F).std()) < 1.0:
        return "image shows nothing: it is blank or completely blurred"
    return ""
