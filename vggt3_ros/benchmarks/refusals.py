"""Measure the margin of the thresholds in LocalizerConfig: the evidence for images of the mapped
place and of other places.

A map of every other keyframe at its true pose is queried with the keyframes in between, and with
images of all other data sets. Only the thresholds that are needed to find a pose at all are
applied. So the report shows the effect that each of the others would have.
"""

from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from vggt3_ros.benchmarks.progress import Progress, with_progress
from vggt3_ros.config import BackendConfig
from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.features.frame import Frame, encode_frame
from vggt3_ros.features.matching import Matcher
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.features.xfeat import XFeatEncoder
from vggt3_ros.geometry import se3
from vggt3_ros.memory.evidence import Evidence
from vggt3_ros.memory.folding import folded
from vggt3_ros.memory.localizer import Localizer, remembered_evidence
from vggt3_ros.memory.scenes import Scene
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.surface.fusion import empty_map

RIGHT_M, RIGHT_RAD = 0.1, np.radians(10)
FALSE_M = 0.3  # errors between RIGHT_M and this count as neither right nor false
STRANGERS = 20  # most images of each other data set
# (Evidence or None, whether its pose is right (None: neither), whether the answer is not false
# (None: refused))
Answer: TypeAlias = tuple[Evidence | None, bool | None, bool | None]
SCORES = "agreeing", "share", "similarity", "shown"
WAYS = "memory", "verified"


def measure(
    sequences: Items[Sequence],
    config: BackendConfig,
    progress: Progress = lambda text, fraction: None,
) -> Iterator[dict[str, Any]]:
    """Yield a row (dict) for each map, kind of image and way of localizing, for Sequences with
    truth.

    images: "its own" or "others". way: "memory" or "verified". asked: number of images. posed: how
    many received a pose from any matches; right, false: how many of these poses are. accepted: how
    many pass the thresholds of `config`; accepted_false: how many of them wrongly. "<score>":
    (minimum, 5 %, median, 95 %, maximum) over the right poses (own images) or the false ones
    (others), None if there are none.
    """
    encoder, matcher = XFeatEncoder(config.features, "cpu"), Matcher("cpu")
    frames = [
        [
            replace(encode_frame(sequence.keyframes[i], encoder), id=i)
            for i in with_progress(range(len(sequence)), progress, sequence.name)
        ]
        for sequence in sequences
    ]
    localizer = Localizer(config.localizer, encoder, matcher)
    for k, sequence in enumerate(sequences):
        scene = _scene(sequence, frames[k], config)
        assert sequence.groundtruth is not None
        queries_of: dict[str, list[tuple[Frame, np.ndarray | None]]] = {
            "its own": [
                (frames[k][i], sequence.groundtruth[i]) for i in range(1, len(sequence), 2)
            ]
        }
        queries_of["others"] = [
            (frames[m][i], None)
            for m in range(len(sequences))
            if m != k
            for i in np.unique(np.linspace(0, len(frames[m]) - 1, STRANGERS).astype(int))
        ]
        for images, queries in queries_of.items():
            asked = [
                _asked(localizer, scene, query, truth)
                for query, truth in with_progress(queries, progress, f"{sequence.name}: {images}")
            ]
            for way in WAYS:
                yield {
                    "map": sequence.name,
                    "images": images,
                    "way": way,
                    **_summary([answer[way] for answer in asked], images == "its own"),
                }


def _scene(sequence: Sequence, frames: Items[Frame], config: BackendConfig) -> Scene:
    """Return the Scene of every other keyframe at its true pose."""
    rows = np.arange(0, len(sequence), 2)
    assert sequence.groundtruth is not None
    poses = sequence.groundtruth[rows]
    snapshot = Snapshot(
        1,
        rows,
        sequence.stamps_ns[rows],
        poses,
        poses,
        np.tile(np.eye(6) * 1e-6, (len(rows), 1, 1)),
        (),
        empty_map(),
    )
    seen = [frames[int(i)] for i in rows]
    return Scene(
        snapshot,
        folded(seen, poses, config.memory),
        PlaceIndex.build([frame.features for frame in seen]),
        frames.__getitem__,
    )


def _asked(
    localizer: Localizer, scene: Scene, query: Frame, truth: np.ndarray | None
) -> dict[str, Answer]:
    """Return {way: Answer} for a query. truth: its pose, None if it shows another place."""
    recalled = localizer.recalled(scene, query)
    seen = (
        remembered_evidence(scene.memory, query, recalled)
        if scene.memory is not None and recalled.refined is not None
        else None
    )
    refined, verified = (
        (None, None)
        if recalled.T_map_cam is None
        else localizer.verification.evidence(scene, query, recalled.T_map_cam)
    )
    poses = recalled.T_map_cam, None if refined is None else se3.inverse(refined.T_cam_map)
    answers = (
        localizer.by_memory(scene, query, recalled).T_map_cam,
        localizer.verified(scene, query).T_map_cam,
    )
    return {
        way: (
            evidence,
            _right(pose, truth),
            None if answer is None else _right(answer, truth) is not False,
        )
        for way, evidence, pose, answer in zip(WAYS, (seen, verified), poses, answers)
    }


def _right(pose: np.ndarray | None, truth: np.ndarray | None) -> bool | None:
    """Return whether a pose is right; None if it is neither right nor false."""
    if pose is None or truth is None:
        return False
    off = se3.inverse(truth) @ pose
    metres = np.linalg.norm(off[:3, 3])
    if metres <= RIGHT_M and se3.rotation_angle(off) <= RIGHT_RAD:
        return True
    return False if metres > FALSE_M else None


def _summary(answers: Items[Answer], own: bool) -> dict[str, Any]:
    """Count the answers and summarize their evidence."""
    judged = [evidence for evidence, right, _ in answers if evidence is not None and right is own]
    scores = {
        name: [
            float(v)
            for v in np.percentile([getattr(e, name) for e in judged], (0, 5, 50, 95, 100))
        ]
        if judged
        else None
        for name in SCORES
    }
    return {
        "asked": len(answers),
        "posed": sum(evidence is not None for evidence, *_ in answers),
        "right": sum(right is True for evidence, right, _ in answers if evidence),
        "false": sum(right is False for evidence, right, _ in answers if evidence),
        "accepted": sum(ok is not None for *_, ok in answers),
        "accepted_false": sum(ok is False for *_, ok in answers),
        **scores,
    }
