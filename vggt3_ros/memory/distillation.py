"""Pairs of keys and points into a network of slots of fixed size: in closed form at first, then by
Adam on what still gains.

VGG-T³ (arXiv 2602.23361) distils the growing key-value pairs of a scene into a network of fixed
size at test time. Here that network is attention over learned key-value pairs (scene_memory.py),
for which the weighted means of what falls together are a good start; so the optimizer has little
left to do. It learns as scene-coordinate regression does (ACE, Brachmann et al., CVPR 2023), its
loss is a contrastive one (cross-entropy to the slots near the true point).
"""

import math
import time
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from vggt3_ros.config import MemoryConfig
from vggt3_ros.geometry.local_frame import origin_near, shifted
from vggt3_ros.memory.scene_memory import SceneMemory

SLOTS = 8000
HELD_OUT = 16  # of so many pairs one judges, at most
VALIDATION_PAIRS = 4096
LEAST_EDGE_M = 0.01
SHARPNESS = 30.0  # of the softmax at first, where keys have unit length on average
PULL = 0.2  # weight of the distance from the true point beside the cross-entropy


def distil(
    keys,
    points,
    config=MemoryConfig(),
    importance=None,
    slots=SLOTS,
    initial=None,
    steps=None,
    seconds=None,
    device="cpu",
    progress=None,
    seed=0,
):
    """(M, C) keys and (M, 3) points in metres -> SceneMemory of at most `slots` slots; one call,
    any features.

    Keys are floats of any length, torch or numpy; memory.predict(keys) then says where such keys
    lie and how sure that is. config: its batch, learning_rate and, by default, steps. importance
    (M,): a pair weighs and is drawn in proportion to it (all alike by default). initial: a
    SceneMemory to go on from, whose slots are kept. steps: of the optimizer after the closed form;
    seconds: stop in time, with the learning rate schedule following the clock instead.
    progress(fraction) is called between steps; what it raises ends the distillation.

    memory.validation_error_m: median error on pairs that were held out. Raises ValueError for
    fewer than 64 pairs or unequal lengths.
    """
    if len(keys) != len(points) or len(keys) < 64:
        raise ValueError(
            f"distillation needs at least 64 pairs and as many keys as points, got {len(keys)} keys, {len(points)} points"
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


def _moved(memory, offset):
    return replace(
        memory,
        T_map_anchor=shifted(memory.T_map_anchor, offset),
        T_folded=shifted(memory.T_folded, offset),
    )


def validation_error(memory, keys, points):
    """Median distance in metres between what `memory` says of `keys` (M, C) and `points` (M,
    3).
    """
    predicted, _ = memory.predict(keys)
    return float(
        torch.linalg.vector_norm(
            torch.from_numpy(predicted) - torch.as_tensor(points), dim=1
        ).median()
    )


def trained(
    memory,
    keys,
    points,
    config,
    weight=None,
    steps=None,
    seconds=None,
    progress=None,
    generator=None,
):
    """The SceneMemory after `steps` of Adam, or `seconds`, on its keys, points and temperature;
    other arguments as for :func:`distil`.
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
            done = (time.monotonic() - started) / seconds if seconds else step / steps
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
    # Offsets are in the map's axes, points in their anchors'.
    R = memory.T_map_anchor[memory.anchors][:, :3, :3]
    moved = np.einsum("sij,si->sj", R, offsets.detach().cpu().double().numpy())
    return replace(
        memory,
        keys=slots.detach().half(),
        points=(memory.points + moved).astype(np.float32),
        temperature=float(sharpness.detach().exp()),
        steps=memory.steps + step,
    )


def _closed_form(keys, points, weight, slots, device):
    """Weighted means of the pairs that fall into one cell of space, cells as small as so many
    slots allow.
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
    mean = lambda values: (
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


def _loss(keys, points, slots, places, sharpness, width):
    """Cross-entropy to the slots around the true point, which share it by their distance, and how
    far the answer lies from it.
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


def _sampler(weight, generator):
    """draw(count) -> indices in proportion to the weights (M,)."""
    reach = torch.cumsum(weight.double(), 0)
    return lambda count: torch.searchsorted(
        reach, torch.rand(count, dtype=torch.double, generator=generator) * reach[-1]
    ).clamp_max(len(weight) - 1)


def _schedule(done):
    """Linear warm-up over 3 %, then a half cosine to zero."""
    return min(1.0, done / 0.03 + 0.05) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
