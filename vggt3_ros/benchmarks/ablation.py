"""Measure the contribution of each part of the scene memory at true poses: the closed form, the
optimizer after it, a residual head, and the MLP used before.
"""

import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from vggt3_ros.benchmarks.mlp import MlpMemory
from vggt3_ros.benchmarks.progress import Progress, with_progress
from vggt3_ros.config import BackendConfig, LocalizerConfig
from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.evaluation.localization import score_localizations
from vggt3_ros.features.frame import Frame, encode_frame, encode_image
from vggt3_ros.features.xfeat import XFeatEncoder
from vggt3_ros.geometry import se3
from vggt3_ros.memory.distillation import trained
from vggt3_ros.memory.folding import Folding, folded
from vggt3_ros.memory.localizer import Localization
from vggt3_ros.memory.pairs import pairs_of
from vggt3_ros.memory.pose_refinement import ransac, refine
from vggt3_ros.memory.recall import Recall, recall, to_ask
from vggt3_ros.memory.scene_memory import SceneMemory

Row: TypeAlias = dict[str, Any]  # JSON values
CLOSED, ADAM, HEAD, MLP = "closed form", "+ Adam", "+ residual head", "MLP"
KINDS = CLOSED, ADAM, HEAD, MLP
MLP_STEPS = 1200  # as many as in a refinement of the versions that used it
HIDDEN, HEAD_RATE, HEAD_STEPS, HEAD_BATCH = 64, 2e-3, 400, 2048


def measure(
    sequence: Sequence,
    config: BackendConfig,
    steps: int,
    kinds: Items[str] = KINDS,
    progress: Progress = lambda text, fraction: None,
) -> Iterator[Row]:
    """Yield one row per kind of memory for a Sequence with truth and queries. steps: of Adam on
    the slots.
    """
    encoder = XFeatEncoder(config.features, "cpu")
    frames = [
        encode_frame(keyframe, encoder)
        for keyframe in with_progress(sequence.keyframes, progress, "features")
    ]
    asked = [
        query
        for query in sequence.queries
        if query.T_world_cam is not None and np.isfinite(query.T_world_cam).all()
    ]
    queries = [
        encode_image(query.image, sequence.camera, encoder)
        for query in with_progress(asked, progress, "queries")
    ]
    truth = [query.T_world_cam for query in asked]
    poses = sequence.groundtruth
    assert poses is not None
    started = time.perf_counter()
    closed = folded(frames, poses, config.memory)
    seconds, memory = time.perf_counter() - started, closed
    for kind in kinds:
        started, head = time.perf_counter(), None
        if kind == CLOSED:
            yield _row(
                sequence,
                kind,
                _answers(closed, queries, config.localizer, progress),
                truth,
                seconds,
                90 * len(closed),
            )
            continue
        tell = partial(progress, kind)
        if kind == MLP:
            mlp = MlpMemory(frames, poses, MLP_STEPS, tell)
            spent = time.perf_counter() - started
            answers = [_timed(partial(_of_mlp, mlp, query)) for query in queries]
            yield _row(sequence, kind, answers, truth, spent, mlp.nbytes)
            continue
        if kind == ADAM or memory is closed:
            keys, points = _pairs(frames, poses, config)
            memory = trained(
                closed,
                keys,
                points,
                config.memory,
                steps=steps,
                progress=tell,
                generator=torch.Generator().manual_seed(0),
            )
        if kind == HEAD:
            head = Head(memory, frames, poses, config, tell)
        spent = seconds + time.perf_counter() - started
        yield _row(
            sequence,
            kind,
            _answers(memory, queries, config.localizer, progress, head),
            truth,
            spent,
            90 * len(memory) + (head.nbytes if head else 0),
        )


class Head(nn.Module):
    """Network from (key, slot) to the offset of the point from the slot's point, in spreads of the
    slot and map axes.

    It recovers detail that the average of a slot loses. Trained on construction.
    """

    def __init__(
        self,
        memory: SceneMemory,
        frames: Items[Frame],
        T_map_cam: np.ndarray,
        config: BackendConfig,
        progress: Callable[[float], object],
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        inner = nn.Linear(2 * memory.keys.shape[1], HIDDEN)
        outer = nn.Linear(HIDDEN, 3)
        self.layers = nn.Sequential(inner, nn.ReLU(), outer)
        nn.init.zeros_(outer.weight)
        keys_of, slots_of, points_of = [], [], []
        folding = Folding(memory, config.memory.max_depth)
        for frame, pose in zip(frames, T_map_cam):
            pairs = pairs_of(frame, config.memory.max_depth)
            seen, slot, _ = folding.association(pairs, frame.camera, pose)
            keys_of.append(pairs.keys[seen])
            slots_of.append(slot)
            points_of.append(se3.transform_points(pose, pairs.points[seen]))
        keys, slots, points = (
            torch.from_numpy(np.concatenate(keys_of)),
            np.concatenate(slots_of),
            np.concatenate(points_of),
        )
        wanted = torch.from_numpy(
            (points - memory.map_points[slots]) / memory.spread[slots, None]
        ).float()
        slot_keys, optimizer = (
            memory.keys[torch.from_numpy(slots)].float(),
            torch.optim.Adam(self.parameters(), HEAD_RATE),
        )
        with torch.enable_grad():
            for step in range(HEAD_STEPS):
                batch = torch.randint(len(keys), (HEAD_BATCH,))
                loss = nn.functional.smooth_l1_loss(
                    self(keys[batch], slot_keys[batch]), wanted[batch]
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                progress(step / HEAD_STEPS)

    def forward(self, keys: torch.Tensor, slot_keys: torch.Tensor) -> torch.Tensor:
        offsets: torch.Tensor = self.layers(torch.cat([keys - slot_keys, slot_keys], dim=1))
        return offsets

    @property
    def nbytes(self) -> int:
        return 4 * sum(parameter.numel() for parameter in self.parameters())


def _answers(
    memory: SceneMemory,
    queries: Items[Frame],
    config: LocalizerConfig,
    progress: Progress,
    head: Head | None = None,
) -> list[Localization]:
    """Localize the queries by the memory alone, with the head's correction if given."""

    def ask(query: Frame) -> np.ndarray | None:
        found = recall(
            memory, query, to_ask(memory, query, None, None, config.slots_asked), config
        )
        if found.refined is None:
            return None
        return found.T_map_cam if head is None else _corrected(memory, query, found, head)

    return [
        _timed(partial(ask, query)) for query in with_progress(queries, progress, "localization")
    ]


@torch.inference_mode()
def _corrected(memory: SceneMemory, query: Frame, found: Recall, head: Head) -> np.ndarray:
    """Return the pose from the same matches after moving each slot's point by the offset that the
    head predicts for the keypoint it matched.
    """
    assert found.T_map_cam is not None and found.slots is not None  # it has a refined pose
    seen = query.features.keypoints.astype(float)
    expected = query.camera.project(
        se3.transform_points(se3.inverse(found.T_map_cam), memory.map_points[found.slots])
    )
    match = np.linalg.norm(seen[None] - expected[:, None], axis=2).argmin(1)
    offset = head(
        torch.from_numpy(query.features.descriptors[match]).float(),
        memory.keys[torch.from_numpy(found.slots)].float(),
    ).numpy()
    points = memory.map_points[found.slots] + offset * memory.spread[found.slots, None]
    return se3.inverse(
        refine(
            se3.inverse(found.T_map_cam),
            query.camera,
            seen[match],
            points,
            memory.spread[found.slots],
            4.0,
        ).T_cam_map
    )


def _of_mlp(mlp: MlpMemory, query: Frame) -> np.ndarray | None:
    """Return the T_map_cam that the MLP's points agree on, None if too few agree."""
    pixels, points = mlp.recall(query)
    T_map_cam, agree = ransac(pixels, points, query.camera, 12.0)
    if agree.sum() < 0.12 * len(pixels):
        return None
    return se3.inverse(
        refine(
            se3.inverse(T_map_cam),
            query.camera,
            pixels[agree],
            points[agree],
            np.full(agree.sum(), 0.02),
            12.0,
        ).T_cam_map
    )


def _timed(ask: Callable[[], np.ndarray | None]) -> Localization:
    """Run ask() and return its pose and its seconds as a Localization."""
    started = time.perf_counter()
    T_map_cam = ask()
    return Localization(
        "ok" if T_map_cam is not None else "not_localized",
        T_map_cam=T_map_cam,
        seconds=time.perf_counter() - started,
    )


def _pairs(
    frames: Items[Frame], T_map_cam: np.ndarray, config: BackendConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the keys and map points of all frames."""
    each = [pairs_of(frame, config.memory.max_depth) for frame in frames]
    points = [se3.transform_points(pose, pairs.points) for pairs, pose in zip(each, T_map_cam)]
    return torch.from_numpy(np.concatenate([pairs.keys for pairs in each])), torch.from_numpy(
        np.concatenate(points)
    ).float()


def _row(
    sequence: Sequence,
    kind: str,
    answers: Items[Localization],
    truth: Items[np.ndarray],
    seconds: float,
    size: int,
) -> Row:
    """Return a row of the report. size: bytes of the memory."""
    score = score_localizations(answers, truth, np.eye(4)).as_dict()
    return {
        "sequence": sequence.name,
        "kind": kind,
        "seconds": seconds,
        "memory_mb": size / 1e6,
        **score,
    }
