"""How sure localization is of images of its place and of other places: the margin of the
thresholds in LocalizerConfig.

A map of every other keyframe at its true pose is asked about the keyframes between, and about
images of all other data sets. No threshold of LocalizerConfig is applied but those by which a pose
is found at all; what each would do can be read off.
"""

from dataclasses import replace

import numpy as np

from vggt3_ros.benchmarks.progress import told_of
from vggt3_ros.features.frame import encode_frame
from vggt3_ros.features.matching import Matcher
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.features.xfeat import XFeatEncoder
from vggt3_ros.geometry import se3
from vggt3_ros.memory.folding import folded
from vggt3_ros.memory.localizer import Localizer, Scene, remembered_evidence
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.surface.fusion import empty_map

RIGHT_M, RIGHT_RAD = 0.1, np.radians(10)
FALSE_M = 0.3  # between both, a pose counts for neither
STRANGERS = 20  # images of another data set, at most
SCORES = "agreeing", "share", "similarity", "shown"
WAYS = "memory", "verified"


def measure(sequences, config, progress=lambda text, fraction: None):
    """Sequences with truth, BackendConfig -> rows (dict), one for each map, kind of image and way
    of localizing.

    images: "its own" or "others"; way: "memory" or "verified"; asked; posed: how many were given a
    pose by any matches; right, false: of these; accepted: by the thresholds of `config`;
    accepted_false; of the right poses' scores (their own images) or the false ones' (others)
    "<score>": (least, 5 %, median, 95 %, greatest), None without any.
    """
    encoder, matcher = XFeatEncoder(config.features, "cpu"), Matcher("cpu")
    frames = [
        [
            replace(encode_frame(sequence.keyframes[i], encoder), id=i)
            for i in told_of(range(len(sequence)), progress, sequence.name)
        ]
        for sequence in sequences
    ]
    localizer = Localizer(config.localizer, encoder, matcher)
    for k, sequence in enumerate(sequences):
        scene = _scene(sequence, frames[k], config)
        own = [(frames[k][i], sequence.groundtruth[i]) for i in range(1, len(sequence), 2)]
        others = [
            (frames[m][i], None)
            for m in range(len(sequences))
            if m != k
            for i in np.unique(np.linspace(0, len(frames[m]) - 1, STRANGERS).astype(int))
        ]
        for images, queries in (("its own", own), ("others", others)):
            asked = [
                _asked(localizer, scene, query, truth)
                for query, truth in told_of(queries, progress, f"{sequence.name}: {images}")
            ]
            for way in WAYS:
                yield {
                    "map": sequence.name,
                    "images": images,
                    "way": way,
                    **_summary([answer[way] for answer in asked], images == "its own"),
                }


def _scene(sequence, frames, config):
    rows = np.arange(0, len(sequence), 2)
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
    seen = [frames[i] for i in rows]
    return Scene(
        snapshot,
        folded(seen, poses, config.memory),
        PlaceIndex.build([frame.features for frame in seen]),
        frames.__getitem__,
    )


def _asked(localizer, scene, query, truth):
    """{way: (Evidence or None, whether its pose is right (None: neither), None where refused, else
    whether the answer is not false)}
    """
    recalled = localizer.recalled(scene, query)
    seen = (
        remembered_evidence(scene.memory, query, recalled)
        if recalled.refined is not None
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


def _right(pose, truth):
    if pose is None or truth is None:
        return False
    off = se3.inverse(truth) @ pose
    metres = np.linalg.norm(off[:3, 3])
    if metres <= RIGHT_M and se3.rotation_angle(off) <= RIGHT_RAD:
        return True
    return False if metres > FALSE_M else None


def _summary(answers, own):
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
