"""Training a scene memory: a few hundred Adam steps on (key, point) pairs, warm-started where a memory exists."""

import copy
import math
import time

import cv2
import numpy as np
import torch
import torch._dynamo  # the first optimizer imports it, for a second in which an image to localize would wait

from vggt3_ros.config import MemoryConfig
from vggt3_ros.memory.scene_memory import MemoryNetwork, SceneMemory

VALIDATION_PAIRS = 4096
WARM_RATE = 0.4  # a warm start learns at this share of the full rate: enough to follow a corrected map, too little to forget it
LOG_SCALE_RANGE = (-7.0, 2.0)  # of the predicted uncertainty, in units of the scene


def distil(keys, points, config=MemoryConfig(), importance=None, initial=None, steps=None, seconds=None, device="cpu", progress=None,
           seed=0, key_noise=0.0):
    """(M, C) keys and (M, 3) points in metres -> SceneMemory; one call, any features.

    config: MemoryConfig. importance (M,): a pair is drawn in proportion to it (all alike by default). initial: a SceneMemory to go on
    from (its standardisation is kept). steps: optimizer steps, config.steps by default;
    seconds: stop in time, with the learning rate schedule following the clock instead. progress(fraction) is called between steps; what
    it raises ends the distillation.

    key_noise: keys are disturbed by so much of their own deviation, where what is asked later lies between those learned.

    Loss: the Laplace likelihood |error| / s + log s with the scale s predicted (Kendall and Gal, NeurIPS 2017), which tells sure
    cells from unsure ones. Raises ValueError for fewer than 64 pairs or unequal lengths.
    """
    if len(keys) != len(points) or len(keys) < 64:
        raise ValueError(f"distillation needs at least 64 pairs and as many keys as points, got {len(keys)} keys, {len(points)} points")
    keys, points = torch.as_tensor(keys), torch.as_tensor(points, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(keys), generator=generator)
    held_out, training = order[:min(VALIDATION_PAIRS, len(keys) // 16)], order[min(VALIDATION_PAIRS, len(keys) // 16):]
    memory = _start(keys[training[:50_000]], points[training[:50_000]], config, initial, device, seed)
    draw = _sampler(training, importance, generator)
    network, rate = memory.network, config.learning_rate * (WARM_RATE if initial is not None else 1.0)
    optimizer = torch.optim.AdamW(network.parameters(), rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    steps, started, step = steps or config.steps, time.monotonic(), 0
    with torch.enable_grad():
        while True:
            done = (time.monotonic() - started) / seconds if seconds else step / steps
            if done >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = rate * _schedule(done)
            batch = draw(config.batch)
            noise = key_noise * torch.randn((config.batch, keys.shape[1]), generator=generator)
            loss = _loss(memory, keys[batch].to(device), points[batch].to(device), noise.to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            step += 1
            if progress and step % 8 == 0:
                progress(min(1.0, done))
    network.requires_grad_(False)
    error = validation_error(memory, keys[held_out], points[held_out])
    return SceneMemory(network, memory.key_mean, memory.key_scale, memory.centre, memory.scale, error, memory.steps + step)


def validation_error(memory, keys, points):
    """Median distance in metres between what `memory` says of `keys` (M, C) and `points` (M, 3)."""
    predicted, _ = memory.predict(keys)
    return float(torch.linalg.vector_norm(torch.from_numpy(predicted) - points, dim=1).median())


def _start(keys, points, config, initial, device, seed):
    if initial is not None:
        network = copy.deepcopy(initial.network).to(device).requires_grad_(True)
        parts = (t.to(device) for t in (initial.key_mean, initial.key_scale, initial.centre, initial.scale))
        return SceneMemory(network, *parts, initial.validation_error_m, initial.steps)
    keys = keys.float()
    spread = keys.std(0).clamp_min(1e-6)
    centre, scale = points.mean(0), points.std(0).max().clamp_min(1e-3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        anchors = _spread_over((points - centre) / scale, config.anchors, seed)
        network = MemoryNetwork(keys.shape[1], config.width, config.blocks, anchors).to(device)
    parts = (keys.mean(0), 1 / spread, centre, scale)
    return SceneMemory(network, *(t.to(device) for t in parts), float("inf"), 0)


def _sampler(training, importance, generator):
    """draw(count) -> indices out of `training` (M,), in proportion to their importance."""
    if importance is None:
        return lambda count: training[torch.randint(len(training), (count,), generator=generator)]
    reach = torch.cumsum(torch.as_tensor(importance)[training].double(), 0)
    return lambda count: training[torch.searchsorted(reach, torch.rand(count, dtype=torch.double, generator=generator) * reach[-1])
                                  .clamp_max(len(training) - 1)]


def _spread_over(points, count, seed):
    """(count, 3) k-means centres of (M, 3)."""
    sample = np.ascontiguousarray(points[:20_000].numpy(), np.float32)
    cv2.setRNGSeed(seed)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 15, 1e-3)
    return torch.from_numpy(cv2.kmeans(sample, min(count, len(sample) // 4), None, criteria, 1, cv2.KMEANS_PP_CENTERS)[2])


def _schedule(done):
    """Linear warm-up over 3 %, then a half cosine to zero."""
    return min(1.0, done / 0.03 + 0.05) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _loss(memory, keys, points, noise):
    out = memory.network((keys.float() - memory.key_mean) * memory.key_scale + noise)
    error = torch.sqrt(((out[:, :3] - (points - memory.centre) / memory.scale) ** 2).sum(1) + 1e-6)
    log_scale = out[:, 3].clamp(*LOG_SCALE_RANGE)
    return (error * torch.exp(-log_scale) + log_scale).mean()
