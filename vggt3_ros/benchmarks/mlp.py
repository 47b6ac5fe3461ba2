"""The former scene memory: an MLP that regresses scene coordinates from dense features. Kept for
comparison only.

Residual ReLU blocks; softmax over anchors plus an offset (the decoder of GLACE, Wang et al., CVPR
2024); Laplace likelihood with predicted scale (Kendall and Gal, NeurIPS 2017); keys with context
from their surroundings.
"""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vggt3_ros.features.frame import Frame
from vggt3_ros.features.xfeat import Features
from vggt3_ros.geometry import se3

WINDOWS = (5, 13)  # cells; averages over these windows are appended to a cell's descriptor
WIDTH, BLOCKS, ANCHORS, BATCH, RATE, KEY_NOISE = 512, 3, 64, 512, 6e-3, 0.3
MOST_PAIRS, MAX_DEPTH_M = 600_000, 6.0


class Mlp(nn.Module):
    """Maps standardised keys (B, 192) to (B, 4): the point in units of the scene, and the log of
    its scale.
    """

    def __init__(self, inputs: int, anchors: torch.Tensor) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(inputs, WIDTH), nn.Linear(WIDTH, 4 + len(anchors))
        self.inner = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(BLOCKS))
        self.outer = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(BLOCKS))
        self.anchors: torch.Tensor
        self.register_buffer("anchors", anchors)

    def forward(self, keys: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(self.enter(keys))
        for inner, outer in zip(self.inner, self.outer):
            hidden = F.relu(hidden + outer(F.relu(inner(hidden))))
        out = self.leave(hidden)
        return torch.cat(
            [torch.softmax(out[:, 4:], dim=1) @ self.anchors + out[:, :3], out[:, 3:4]], dim=1
        )


class MlpMemory:
    """Trained on frames at T_map_cam (N, 4, 4) in `steps` of Adam on construction.
    progress(fraction).
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        T_map_cam: np.ndarray,
        steps: int,
        progress: Callable[[float], object],
    ) -> None:
        keys, points = map(torch.from_numpy, _pairs(frames, T_map_cam))
        self.mean, self.scale = (
            keys[:50_000].float().mean(0),
            1 / keys[:50_000].float().std(0).clamp_min(1e-6),
        )
        self.centre, self.size = points.mean(0), points.std(0).max().clamp_min(1e-3)
        cv2.setRNGSeed(0)
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 15, 1e-3)
        sample = np.ascontiguousarray(
            ((points - self.centre) / self.size)[torch.randperm(len(points))[:20_000]].numpy()
        )
        best = np.zeros((len(sample), 1), np.int32)  # labels; not used as input
        anchors = cv2.kmeans(sample, ANCHORS, best, criteria, 1, cv2.KMEANS_PP_CENTERS)[2]
        torch.manual_seed(0)
        self.network = Mlp(keys.shape[1], torch.from_numpy(anchors))
        self._learn(keys, points, steps, progress)

    def _learn(
        self,
        keys: torch.Tensor,
        points: torch.Tensor,
        steps: int,
        progress: Callable[[float], object],
    ) -> None:
        """Train with a one-cycle learning rate and noise on the keys."""
        optimizer = torch.optim.AdamW(
            self.network.parameters(), RATE, betas=(0.9, 0.99), weight_decay=1e-4, fused=True
        )
        with torch.enable_grad():
            for step in range(steps):
                done = step / steps
                optimizer.param_groups[0]["lr"] = (
                    RATE * min(1.0, done / 0.03 + 0.05) * 0.5 * (1 + math.cos(math.pi * done))
                )
                batch = torch.randint(len(keys), (BATCH,))
                out = self.network(
                    (keys[batch].float() - self.mean) * self.scale
                    + KEY_NOISE * torch.randn(BATCH, keys.shape[1])
                )
                error = torch.sqrt(
                    ((out[:, :3] - (points[batch] - self.centre) / self.size) ** 2).sum(1) + 1e-6
                )
                log_scale = out[:, 3].clamp(-7.0, 2.0)
                optimizer.zero_grad(set_to_none=True)
                (error * torch.exp(-log_scale) + log_scale).mean().backward()
                nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                optimizer.step()
                progress(done)

    @torch.inference_mode()
    def recall(self, query: Frame, cells: int = 2400) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixels (M, 2) of a Frame's most reliable cells and their predicted points (M,
        3), metres in map.
        """
        order = np.argsort(-query.features.reliability.reshape(-1))[:cells]
        out = self.network(
            (torch.from_numpy(_keys(query.features)[order]) - self.mean) * self.scale
        )
        return query.features.cell_centres().reshape(-1, 2)[order].astype(float), (
            out[:, :3] * self.size + self.centre
        ).double().numpy()

    @property
    def nbytes(self) -> int:
        return 4 * sum(parameter.numel() for parameter in self.network.parameters())


def _pairs(frames: Sequence[Frame], T_map_cam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys (M, 192) float16 and map points (M, 3) float32 of random cells with depth."""
    rng, keys, points = np.random.default_rng(0), [], []
    for frame, pose in zip(frames, T_map_cam):
        depth = frame.cell_depth.reshape(-1)
        known = np.flatnonzero((depth > 0) & (depth <= MAX_DEPTH_M))
        known = rng.permutation(known)[: MOST_PAIRS // len(T_map_cam)]
        pixels = frame.features.cell_centres().reshape(-1, 2)[known]
        keys.append(_keys(frame.features)[known].astype(np.float16))
        points.append(
            se3.transform_points(pose, frame.camera.unproject(pixels, depth[known])).astype(
                np.float32
            )
        )
    return np.concatenate(keys), np.concatenate(points)


def _keys(features: Features) -> np.ndarray:
    """Return (h * w, 192) float32: each cell's descriptor and its averages over 5x5 and 13x13
    cells.
    """
    dense = np.ascontiguousarray(np.moveaxis(features.dense, 0, -1).astype(np.float32))
    ones = np.ones(dense.shape[:2], np.float32)
    parts: list[np.ndarray] = [dense]
    for window in WINDOWS:
        total, count = (
            cv2.boxFilter(a, -1, (window, window), normalize=False, borderType=cv2.BORDER_CONSTANT)
            for a in (dense, ones)
        )
        parts.append(total / count[..., None])
    return np.concatenate(parts, axis=-1).reshape(len(dense) * dense.shape[1], -1)
