"""Estimate the depth of a keyframe without a depth camera: a plane sweep against posed neighbours,
coarse on features, fine on image patches.

Coarse: XFeat's dense maps (1/8 of the image) are compared on planes of constant depth (Collins,
CVPR 1996). Features tolerate misalignment, so the whole depth range can be searched. Fine: around
the coarse surface, 7x7 patches at half resolution are compared by zero-mean normalized
cross-correlation. Both volumes are regularised by semi-global matching (Hirschmuller, PAMI 2008)
and interpolated between planes by a parabola. Sharp: patches at full resolution that follow the
surface found so far correct it within a pixel. Everything is in inverse depth, in which errors are
uniform.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

PATCH = 7
FINE_STEPS = 12  # hypotheses on either side of the coarse surface
FINE_STEP_PX = 0.6  # between two hypotheses, in the neighbour with the largest parallax
# rounds, and as above, of the sharp comparison; in pixels of the full resolution
SHARP_ROUNDS, SHARP_STEPS, SHARP_STEP_PX = 2, 2, 0.5
# penalties of a change by one plane, and by more, in units of similarity
COARSE_PENALTIES = 0.03, 0.25
FINE_PENALTIES = 0.06, 0.4
TINY = 1e-6


@dataclass(frozen=True, eq=False)
class SweepView:
    """A posed image. camera: without distortion. gray (H, W) uint8. dense (C, h, w): features.
    T_map_cam (4, 4).
    """

    camera: Camera
    gray: np.ndarray
    dense: np.ndarray
    T_map_cam: np.ndarray


@dataclass(frozen=True, eq=False)
class InverseDepth:
    """The result of a sweep, at half resolution.

    inverse (H/2, W/2) float32: inverse depth, 1/m. similarity (H/2, W/2) float32: the mean over
    the better half of the neighbours, in [-1, 1]. step: the change of inverse depth, 1/m, that
    moves a point by one pixel of that resolution in the neighbour with the largest parallax.
    """

    inverse: np.ndarray
    similarity: np.ndarray
    step: float


@torch.inference_mode()
def sweep(
    reference: SweepView,
    neighbours: Sequence[SweepView],
    near: float,
    far: float,
    planes: int = 64,
    device: torch.device | str = "cpu",
) -> InverseDepth:
    """Estimate the inverse depth of `reference` between `near` and `far` metres. The neighbours
    must have a baseline.
    """
    device = torch.device(device)
    inverse = torch.linspace(1 / far, 1 / near, planes, device=device)
    coarse = _coarse(reference, neighbours, inverse, device)
    limits = 1 / far, 1 / near
    fine, step = _fine(reference, neighbours, coarse, limits, device)
    for _ in range(SHARP_ROUNDS):
        fine, similarity = _sharpened(reference, neighbours, fine, step, limits, device)
    return InverseDepth(fine.cpu().numpy(), similarity.cpu().numpy(), step)


def _coarse(
    reference: SweepView,
    neighbours: Sequence[SweepView],
    inverse: torch.Tensor,
    device: torch.device,
) -> torch.Tensor:
    """Return the inverse depth (h, w) at the resolution of the features, on planes `inverse`
    (D,).
    """
    dense = _unit(reference.dense, device)
    height, width = dense.shape[1:]
    volumes = []
    for view in neighbours:
        other = _unit(view.dense, device)
        rays, shift = _epipolar(reference, view, (width, height), other.shape[:0:-1], device)
        at = rays.reshape(3, -1, 1) + shift[:, None, None] * inverse  # (3, h w, D)
        # Correlating all pairs of cells and looking values up takes a tenth of the time of
        # sampling 64 features on every plane.
        similarity = _looked_up(
            dense.flatten(1).T @ other.flatten(1), at, other.shape[2], other.shape[1]
        )
        volumes.append(similarity.T.reshape(len(inverse), height, width))
    volume = _better_half(volumes)
    index, _ = _read_off(_semi_global(volume, *COARSE_PENALTIES))
    return inverse[0] + index * (inverse[1] - inverse[0])


def _fine(
    reference: SweepView,
    neighbours: Sequence[SweepView],
    coarse: torch.Tensor,
    limits: tuple[float, float],
    device: torch.device,
) -> tuple[torch.Tensor, float]:
    """Return the inverse depth (H/2, W/2), searched around the coarse one, and the `step` of
    InverseDepth.
    """
    gray = _half(reference.gray, device)
    height, width = gray.shape[-2:]
    start = F.interpolate(
        coarse[None, None], size=(height, width), mode="bilinear", align_corners=False
    )[0, 0]
    moved = []
    for view in neighbours:
        rays, shift = _epipolar(
            reference,
            view,
            (width, height),
            (view.gray.shape[1] // 2, view.gray.shape[0] // 2),
            device,
        )
        moved.append(
            (
                rays,
                shift,
                _pixels(rays + (start + 1e-3) * shift[:, None, None])
                - _pixels(rays + start * shift[:, None, None]),
            )
        )
    # parallax, in pixels per 1/m
    per_inverse = (
        max(float(torch.median(torch.linalg.vector_norm(d, dim=0))) for _, _, d in moved) / 1e-3
    )
    step = FINE_STEP_PX / max(per_inverse, TINY)
    offsets = torch.arange(-FINE_STEPS, FINE_STEPS + 1, device=device) * step
    inverse = (start + offsets[:, None, None]).clamp(*limits)
    volume = _better_half(
        [
            _correlation(gray, _half(view.gray, device), rays, shift, inverse)
            for view, (rays, shift, _) in zip(neighbours, moved)
        ]
    )
    index, _ = _read_off(_semi_global(volume, *FINE_PENALTIES))
    return (start + (index - FINE_STEPS) * step).clamp(*limits), step / FINE_STEP_PX


def _sharpened(
    reference: SweepView,
    neighbours: Sequence[SweepView],
    fine: torch.Tensor,
    step: float,
    limits: tuple[float, float],
    device: torch.device,
) -> list[torch.Tensor]:
    """Refine the fine surface, within a pixel, with patches at full resolution that follow it.

    step: as in InverseDepth, of the half resolution. Return inverse depth and similarity, both
    (H/2, W/2).
    """
    gray = _whole(reference.gray, device)
    height, width = gray.shape[-2:]
    # Patches must follow the surface, not its noise.
    smooth = torch.from_numpy(cv2.medianBlur(fine.cpu().numpy(), 5)).to(device)
    start = F.interpolate(
        smooth[None, None], size=(height, width), mode="bilinear", align_corners=False
    )[0, 0]
    offsets = torch.arange(-SHARP_STEPS, SHARP_STEPS + 1, device=device) * (
        SHARP_STEP_PX / 2 * step
    )
    inverse = (start + offsets[:, None, None]).clamp(*limits)
    volumes = []
    for view in neighbours:
        rays, shift = _epipolar(reference, view, (width, height), view.gray.shape[::-1], device)
        volumes.append(_correlation(gray, _whole(view.gray, device), rays, shift, inverse))
    volume = _better_half(volumes)
    index, similarity = _read_off(volume)
    sharp = start + (index - SHARP_STEPS) * (SHARP_STEP_PX / 2 * step)
    size = fine.shape
    return [
        F.interpolate(x[None, None], size=size, mode="area")[0, 0]
        for x in (sharp.clamp(*limits), similarity)
    ]


def _correlation(
    gray: torch.Tensor,
    other: torch.Tensor,
    rays: torch.Tensor,
    shift: torch.Tensor,
    inverse: torch.Tensor,
) -> torch.Tensor:
    """Return the zero-mean normalized cross-correlation (D, H, W) of patches of gray (1, 1, H, W)
    with those of `other` at inverse depths (D, H, W); NaN outside of `other`.
    """
    mean, variance = _patch_statistics(gray)
    # sampled: (D, 1, H, W)
    sampled, inside = _sample(other, rays[None] + inverse[:, None] * shift[:, None, None])
    other_mean, other_variance = _patch_statistics(sampled)
    covariance = _box(sampled * gray) - other_mean * mean
    # + 1.0: noise of one grey level
    similarity = covariance / torch.sqrt((variance + 1.0) * (other_variance + 1.0))
    return torch.where(inside, similarity[:, 0], torch.nan)


def _epipolar(
    reference: SweepView,
    view: SweepView,
    size: tuple[int, int],
    other_size: tuple[int, ...],
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rays (3, h, w) and shift (3,): a pixel x of the reference at inverse depth w appears
    at rays(x) + w shift, homogeneous, in the other image.

    size, other_size: (width, height) of the two images.
    """
    T_view_reference = se3.inverse(view.T_map_cam) @ reference.T_map_cam
    matrix, other = reference.camera.scaled(*size).matrix, view.camera.scaled(*other_size).matrix
    y, x = np.indices(size[::-1])
    pixels = np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    rays = other @ T_view_reference[:3, :3] @ np.linalg.inv(matrix) @ pixels
    shift = other @ T_view_reference[:3, 3]
    return (
        torch.tensor(rays.reshape(3, *size[::-1]), dtype=torch.float32, device=device),
        torch.tensor(shift, dtype=torch.float32, device=device),
    )


def _pixels(homogeneous: torch.Tensor) -> torch.Tensor:
    return homogeneous[:2] / homogeneous[2].clamp(min=TINY)


def _sample(image: torch.Tensor, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample image (1, C, h, w) at homogeneous pixels (D, 3, H, W). Return the samples (D, C, H,
    W) and the mask (D, H, W) of those inside the image.
    """
    height, width = image.shape[-2:]
    z = at[:, 2]
    x, y = at[:, 0] / z.clamp(min=TINY), at[:, 1] / z.clamp(min=TINY)
    inside = (z > TINY) & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    grid = torch.stack([x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1], -1)
    return F.grid_sample(
        image.expand(len(at), -1, -1, -1), grid, align_corners=True, padding_mode="border"
    ), inside


def _looked_up(
    similarity: torch.Tensor, at: torch.Tensor, width: int, height: int
) -> torch.Tensor:
    """Interpolate similarity (P, height width), of P cells with all cells of another image, at
    homogeneous positions (3, P, D) in that image. Return (P, D), NaN outside.
    """
    x, y = at[0] / at[2].clamp(min=TINY), at[1] / at[2].clamp(min=TINY)
    inside = (at[2] > TINY) & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = x.clamp(0, width - 1.001), y.clamp(0, height - 1.001)
    left, top = x.long(), y.long()
    right, down = x - left, y - top
    corner = top * width + left
    found = (
        similarity.gather(1, corner) * (1 - right) + similarity.gather(1, corner + 1) * right
    ) * (1 - down)
    found += (
        similarity.gather(1, corner + width) * (1 - right)
        + similarity.gather(1, corner + width + 1) * right
    ) * down
    return torch.where(inside, found, torch.nan)


def _better_half(volumes: Sequence[torch.Tensor]) -> torch.Tensor:
    """Average the better half of V similarity volumes (D, H, W) with NaN outside, so that a
    neighbour from which the surface is hidden does not matter. The result is 0 where no neighbour
    sees the surface.
    """
    ordered = [volume.nan_to_num(-2.0) for volume in volumes]
    # For a few large arrays this bubble sort takes a third of the time of torch.sort.
    for end in range(len(ordered) - 1, 0, -1):
        for i in range(end):
            ordered[i], ordered[i + 1] = (
                torch.maximum(ordered[i], ordered[i + 1]),
                torch.minimum(ordered[i], ordered[i + 1]),
            )
    count = sum(
        ((volume > -1.5).to(torch.int8) for volume in ordered),
        start=torch.zeros((), dtype=torch.int8),
    )
    half = (count + 1) // 2
    total = sum(
        (
            torch.where(half > rank, volume, 0)
            for rank, volume in enumerate(ordered[: (len(ordered) + 1) // 2])
        ),
        start=torch.zeros(()),
    )
    return total / half.clamp(min=1)


def _semi_global(similarity: torch.Tensor, small: float, large: float) -> torch.Tensor:
    """Sum the path similarities of (D, H, W) over four directions."""
    total = torch.zeros_like(similarity)
    for dim in (1, 2):
        line = similarity.movedim(dim, 0).transpose(1, 2).contiguous()  # (steps, across, D)
        for reverse in (False, True):
            total += (
                _path(line.flip(0) if reverse else line, small, large, reverse)
                .transpose(1, 2)
                .movedim(0, dim)
            )
    return total


def _path(line: torch.Tensor, small: float, large: float, reverse: bool) -> torch.Tensor:
    out = torch.empty_like(line)
    out[0] = line[0]
    for i in range(1, len(line)):
        before = out[i - 1]
        best = before.max(-1, keepdim=True).values
        reached = torch.maximum(before, best - large)
        reached[:, 1:] = torch.maximum(reached[:, 1:], before[:, :-1] - small)
        reached[:, :-1] = torch.maximum(reached[:, :-1], before[:, 1:] - small)
        torch.add(line[i], reached - best, out=out[i])
    return out.flip(0) if reverse else out


def _read_off(volume: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best index (H, W) of (D, H, W), interpolated between planes, and the value
    there.
    """
    best, index = volume.max(0)
    inner = index.clamp(1, len(volume) - 2)
    below, at, above = (volume.gather(0, (inner + k)[None])[0] for k in (-1, 0, 1))
    curvature = below - 2 * at + above
    offset = torch.where(curvature < -TINY, 0.5 * (below - above) / curvature, 0).clamp(-0.5, 0.5)
    return torch.where(index == inner, inner + offset, index.float()), best


def _patch_statistics(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean = _box(image)
    return mean, (_box(image * image) - mean * mean).clamp(min=0)


def _box(image: torch.Tensor) -> torch.Tensor:
    """Return the means of (D, 1, H, W) over PATCH x PATCH."""
    if image.device.type == "cpu":  # OpenCV takes a tenth of the time
        out = np.empty(image.shape, np.float32)
        for plane, mean in zip(image.numpy()[:, 0], out[:, 0]):
            cv2.boxFilter(plane, -1, (PATCH, PATCH), mean, borderType=cv2.BORDER_REPLICATE)
        return torch.from_numpy(out)
    rows = F.avg_pool2d(image, (1, PATCH), 1, (0, PATCH // 2), count_include_pad=False)
    return F.avg_pool2d(rows, (PATCH, 1), 1, (PATCH // 2, 0), count_include_pad=False)


def _whole(gray: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(gray)).to(device).float()[None, None]


def _half(gray: np.ndarray, device: torch.device) -> torch.Tensor:
    return F.avg_pool2d(_whole(gray, device), 2)


def _unit(dense: np.ndarray, device: torch.device) -> torch.Tensor:
    return F.normalize(torch.from_numpy(np.ascontiguousarray(dense)).to(device).float(), dim=0)
