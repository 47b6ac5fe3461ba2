"""Distil (key, point) pairs into a fixed number of slots: a closed-form initialization, then Adam.

VGG-T³ (arXiv 2602.23361) distils a scene's growing set of key-value pairs into a network of fixed
size at test time. Here the network is attention over learned key-value pairs (scene_memory.py).
Weighted means of pairs in one spatial cell initialize it well, which leaves little to optimize. It
is trained like scene-coordinate regression (ACE, Brachmann et al., CVPR 2023) with a contrastive
loss: cross-entropy over the slots near the true point.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from vggt3_ros.config import MemoryConfig
from vggt3_ros.geometry.local_frame import origin_near, shifted
from vggt3_ros.memory.scene_memory import SceneMemory

SLOTS = 8000
HELD_OUT = 16  # at most one pair in this many is held out for validation
VALIDATION_PAIRS = 4096
LEAST_EDGE_M = 0.01
SHARPNESS = 30.0  # initial softmax temperature, for keys of unit mean length
PULL = 0.2  # weight of the point error relative to the cross-entropy


def distil(
    keys: np.ndarray | torch.Tensor,
    points: np.ndarray | torch.Tensor,
    config: MemoryConfig | None = None,
    importance: np.ndarray | torch.Tensor | None = None,
    slots: int = SLOTS,
    initial: SceneMemory | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[float], object] | None = None,
    seed: int = 0,
) -> SceneMemory:
    """Distil (M, C) keys and (M, 3) points, metres, into a SceneMemory of at most `slots` slots.
    Works with any features.

    Keys are floats of any length, torch or numpy. memory.predict(keys) then returns the points of
    such keys and their uncertainty. config: supplies batch, learning_rate and the default for
    steps. importance (M,): weight of each pair in the means and its sampling probability (uniform
    by default). initial: a SceneMemory to continue from; its slots are kept. steps: optimizer
    steps after the closed form. seconds: time budget; the learning-rate schedule then follows the
    clock instead. progress(fraction) is called between steps; an exception raised there stops the
    distillation.

    memory.validation_error_m is the median error over held-out pairs. Raises ValueError for fewer
    than 64 pairs or unequal lengths.
    """
    config = config or MemoryConfig()
    if len(keys) != len(points) or len(keys) < 64:
        raise ValueError(
            "distillation needs at least 64 pairs and equally many keys and points, "
            f"got {len(keys)} keys, {len(points)} points"
        )
    origin = origin_near(np.asarray(torch.as_tensor(points).double().mean(0)))
    keys, points = (
        torch.as_tensor(keys).float(),
        (torch.as_tensor(points).double() - torch.from_numpy(origin)).float(),
    )
    initial = None if initial is None else _moved(initial, -origin)
    weight = torch.ones(len(keys)) if importance is None else torch.as_tensor(importance).float()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(keys), generator=generator)
    held_out, training = (
        order[: min(VALIDATION_PAIRS, len(keys) // HELD_OUT)],
        order[min(VALIDATION_PAIRS, len(keys) // HELD_OUT) :],
    )
    memory = (
        initial
        if initial is not None
        else _closed_form(keys[training], points[training], weight[training], slots, device)
    )
    steps = config.steps if steps is None else steps
    if steps or seconds:
        memory = trained(
            memory,
            keys[training],
            points[training],
            config,
            weight[training],
            steps,
            seconds,
            progress,
            generator,
        )
    return _moved(
        replace(
            memory, validation_error_m=validation_error(memory, keys[held_out], points[held_out])
        ),
        origin,
    )


def _moved(memory: SceneMemory, offset: np.ndarray) -> SceneMemory:
    return replace(
        memory,
        T_map_anchor=shifted(memory.T_map_anchor, offset),
        T_folded=shifted(memory.T_folded, offset),
    )


def validation_error(memory: SceneMemory, keys: torch.Tensor, points: torch.Tensor) -> float:
    """Return the median distance, metres, between `memory`'s predictions for `keys` (M, C) and
    `points` (M, 3).
    """
    predicted, _ = memory.predict(keys)
    return float(
        torch.linalg.vector_norm(
            torch.from_numpy(predicted) - torch.as_tensor(points), dim=1
        ).median()
    )


def trained(
    memory: SceneMemory,
    keys: torch.Tensor,
    points: torch.Tensor,
    config: MemoryConfig,
    weight: torch.Tensor | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    progress: Callable[[float], object] | None = None,
    generator: torch.Generator | None = None,
) -> SceneMemory:
    """Return the SceneMemory after `steps` optimizer steps (or `seconds`) of Adam on its keys,
    points and temperature.

    The other arguments are those of :func:`distil`.
    """
    device = memory.keys.device
    draw = _sampler(
        torch.ones(len(keys)) if weight is None else torch.as_tensor(weight), generator
    )
    slots = memory.keys.float().clone().requires_grad_(True)
    anchored = torch.from_numpy(memory.map_points).float().to(device)
    offsets = torch.zeros_like(anchored, requires_grad=True)
    sharpness = torch.tensor(math.log(memory.temperature), device=device, requires_grad=True)
    width = torch.from_numpy(memory.spread).to(device).median().clamp_min(LEAST_EDGE_M)
    optimizer = torch.optim.Adam(
        [
            {"params": [slots], "lr": config.learning_rate},
            {"params": [offsets], "lr": config.learning_rate * float(width)},
            {"params": [sharpness], "lr": config.learning_rate},
        ],
        betas=(0.9, 0.99),
    )
    rates, started, step = [group["lr"] for group in optimizer.param_groups], time.monotonic(), 0
    with torch.enable_grad():
        while True:
            done = (
                (time.monotonic() - started) / seconds
                if seconds
                else step / steps
                if steps
                else 1.0
            )
            if done >= 1:
                break
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * _schedule(done)
            batch = draw(config.batch)
            loss = _loss(
                keys[batch].to(device) - memory.centre,
                points[batch].to(device),
                slots,
                anchored + offsets,
                sharpness.exp(),
                width,
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
            if progress:
                progress(min(1.0, done))
    # Offsets are in map axes, points in the frames of their anchors.
    R = memory.T_map_anchor[memory.anchors][:, :3, :3]
    moved = np.einsum("sij,si->sj", R, offsets.detach().cpu().double().numpy())
    return replace(
        memory,
        keys=slots.detach().half(),
        points=(memory.points + moved).astype(np.float32),
        temperature=float(sharpness.detach().exp()),
        steps=memory.steps + step,
    )


def _closed_form(
    keys: torch.Tensor,
    points: torch.Tensor,
    weight: torch.Tensor,
    slots: int,
    device: torch.device | str,
) -> SceneMemory:
    """Return a memory of the weighted means of the pairs in each spatial cell.

    The cell size is the smallest tried that yields at most `slots` cells.
    """
    low, edge = points.min(0).values, LEAST_EDGE_M
    while True:
        cells, of = torch.unique(
            torch.floor((points - low) / edge).long(), dim=0, return_inverse=True
        )
        if len(cells) <= slots:
            break
        edge *= 1.25
    mass = torch.zeros(len(cells)).index_add_(0, of, weight).clamp_min(1e-12)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return (
            torch.zeros(len(cells), values.shape[1]).index_add_(0, of, values * weight[:, None])
            / mass[:, None]
        )

    middle, key = mean(points), mean(keys)
    spread = (
        torch.zeros(len(cells)).index_add_(0, of, weight * (points - middle[of]).square().sum(1))
        / mass
    ).sqrt() + 0.1 * edge
    centre = keys.mean(0)
    size = float((keys - centre).square().sum(1).mean().clamp_min(1e-12))
    none = np.zeros(1, np.int64)
    return SceneMemory(
        (key - centre).half().to(device),
        middle.numpy(),
        np.zeros(len(cells), np.int32),
        np.bincount(of.numpy(), minlength=len(cells)).astype(np.float32),
        spread.numpy(),
        none,
        np.eye(4)[None],
        np.eye(4)[None],
        np.zeros(1, bool),
        centre.to(device),
        temperature=SHARPNESS / size,
    )


def _loss(
    keys: torch.Tensor,
    points: torch.Tensor,
    slots: torch.Tensor,
    places: torch.Tensor,
    sharpness: torch.Tensor,
    width: torch.Tensor,
) -> torch.Tensor:
    """Return the cross-entropy over the slots near the true point, weighted by distance, plus the
    error of the predicted point.
    """
    logits = sharpness * (keys @ slots.T - 0.5 * slots.square().sum(1))
    with torch.no_grad():
        away = torch.cdist(points, places) / width
        nearest = away.amin(1, keepdim=True)
        wanted = torch.softmax(-0.5 * (away.square() - nearest.square()), dim=1)
    log_share = F.log_softmax(logits, dim=1)
    answer = log_share.exp() @ places
    return -(wanted * log_share).sum(1).mean() + PULL * (
        F.smooth_l1_loss(answer / width, points / width)
    )


def _sampler(
    weight: torch.Tensor, generator: torch.Generator | None
) -> Callable[[int], torch.Tensor]:
    """Return draw(count), which samples indices in proportion to the weights (M,)."""
    reach = torch.cumsum(weight.double(), 0)
    return lambda count: torch.searchsorted(
        reach, torch.rand(count, dtype=torch.double, generator=generator) * reach[-1]
    ).clamp_max(len(weight) - 1)


def _schedule(done: float) -> float:
    """Return the learning-rate factor: linear warm-up over 3 %, then a half cosine to zero."""
    return min(1.0, done / 0.03 + 0.05) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
