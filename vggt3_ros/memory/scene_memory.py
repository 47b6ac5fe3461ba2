"""A scene as a network of slots: image feature in, map point and its uncertainty out.

VGG-T³ (arXiv 2602.23361) replaces a scene's growing key-value set by the weights of a small
network. Here that network is one hidden layer with learned keys as units, a softmax over them, and
learned points as output: attention (Vaswani et al., NeurIPS 2017) over a fixed number of key-value
pairs, as interpreted by Ramsauer et al. (Hopfield networks is all you need, ICLR 2021).
Scene-coordinate regression (ACE, Brachmann et al., CVPR 2023; GLACE, Wang et al., CVPR 2024;
R-SCoRe and ACE-G, 2025) solves the same task with an MLP.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import safetensors
import safetensors.torch
import torch

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.local_frame import origin_near

FORMAT = "3"  # 1 and 2 were MLPs
MAX_FILE_BYTES = 2**30
NEIGHBOURS = 8  # slots that contribute to an answer
NEAR = 3.0  # spreads within which two slots are taken for the same point
QUANTUM = 127  # key components are stored as signed eight-bit integers
ARRAYS: dict[str, tuple[torch.dtype, *tuple[str | int, ...]]] = {
    "keys": (torch.int8, "S", "C"),
    "norms": (torch.float32, "S"),
    "points": (torch.float32, "S", 3),
    "anchors": (torch.int32, "S"),
    "observed": (torch.float32, "S"),
    "spread": (torch.float32, "S"),
    "keyframe_ids": (torch.int64, "K"),
    "T_map_anchor": (torch.float64, "K", 4, 4),
    "T_folded": (torch.float64, "K", 4, 4),
    "held_out": (torch.bool, "K"),
    "centre": (torch.float32, "C"),
}


@dataclass(frozen=True, eq=False)
class SceneMemory:
    """An immutable distilled scene. Thread-safe.

    keys (S, C) float16 tensor: the key of each slot, in the scale of the query keys, minus
    `centre` (C,). points (S, 3) float32, metres in the frame of the slot's anchor; anchors (S,)
    int32: rows of keyframe_ids. observed (S,) float32: number of observations of a slot; spread
    (S,) float32, metres: standard deviation of its observations. keyframe_ids (K,) int64: the
    keyframes that it was built from. T_map_anchor (K, 4, 4): their current poses, which determine
    the slots' positions; T_folded (K, 4, 4): their poses when they were folded in. held_out (K,)
    bool: keyframes that nothing was learned from. temperature: of the softmax. validation_error_m:
    see keeper. steps: total number of optimizer steps.
    """

    keys: torch.Tensor
    points: np.ndarray
    anchors: np.ndarray
    observed: np.ndarray
    spread: np.ndarray
    keyframe_ids: np.ndarray
    T_map_anchor: np.ndarray
    T_folded: np.ndarray
    held_out: np.ndarray
    centre: torch.Tensor
    temperature: float = 30.0
    validation_error_m: float = float("inf")
    steps: int = 0

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def map_points(self) -> np.ndarray:
        """(S, 3) float64: the slots' points, metres in the map."""
        return _moved(self.T_map_anchor[self.anchors], self.points)

    @cached_property
    def biases(self) -> torch.Tensor:
        """(S,) float32 tensor that makes the nearest key answer, not the longest."""
        return -0.5 * self.keys.float().square().sum(1)

    def placed(self, T_map_cam_of: Mapping[int, np.ndarray]) -> Self:
        """Return the memory at the current poses of its keyframes. T_map_cam_of: {keyframe id: (4,
        4)}, for all of them.
        """
        return replace(
            self,
            T_map_anchor=np.array([T_map_cam_of[int(i)] for i in self.keyframe_ids]).reshape(
                -1, 4, 4
            ),
        )

    def renumbered(self, new_ids: Mapping[int, int]) -> Self:
        """Return the memory with other keyframe ids ({old: new}); ids that are not listed stay."""
        return replace(
            self,
            keyframe_ids=np.array(
                [new_ids.get(int(i), int(i)) for i in self.keyframe_ids], np.int64
            ),
        )

    def shared(self, other: "SceneMemory") -> float:
        """Return the share of its keys that another memory holds bit for bit, as saved.

        About 1 for memories built from the same keyframes, else about 0.
        """
        mine, theirs = (
            np.unique(quantized(memory.keys)[0].numpy(), axis=0) for memory in (self, other)
        )
        both = len(np.unique(np.concatenate([mine, theirs]), axis=0))
        return (len(mine) + len(theirs) - both) / max(1, len(mine))

    def only(self, slots: np.ndarray) -> Self:
        """Return the memory of these slots (mask or indices) alone."""
        index = torch.as_tensor(np.asarray(slots), device=self.keys.device)
        return replace(
            self,
            keys=self.keys[index],
            **{
                name: getattr(self, name)[slots]
                for name in ("points", "anchors", "observed", "spread")
            },
        )

    @torch.inference_mode()
    def predict(self, keys: np.ndarray | torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Predict map points from keys (B, C), floats.

        Returns points (B, 3), metres in map, float32 unless the map lies too far from its origin
        for that, and uncertainty (B,) float32, metres: the expected error.

        Applies a softmax over the best few slots. Slots near the likeliest one contribute to the
        point, the others to the uncertainty only.
        """
        keys = torch.as_tensor(keys, device=self.keys.device).float() - self.centre
        logits = keys @ self.keys.float().T + self.biases
        best, slots = logits.topk(min(NEIGHBOURS, len(self)), dim=1)
        weight = torch.softmax(self.temperature * best, dim=1)
        origin = origin_near(self.T_map_anchor[0, :3, 3])
        points = torch.from_numpy(self.map_points - origin).to(weight)[slots]
        spread = torch.from_numpy(self.spread).to(weight)[slots]
        away = torch.linalg.vector_norm(points - points[:, :1], dim=2)
        near = weight * (away <= NEAR * spread[:, :1] + 1e-6)
        near = near / near.sum(1, keepdim=True)
        point = (near[..., None] * points).sum(1)
        uncertainty = (
            weight * (torch.linalg.vector_norm(points - point[:, None], dim=2) + spread)
        ).sum(1)
        point = point.float().cpu().numpy()
        return point + origin if origin.any() else point, uncertainty.float().cpu().numpy()

    def save(self, path: Path) -> None:
        """Write to a safetensors file of about 90 bytes per slot."""
        keys, norms = quantized(self.keys)
        state = {"keys": keys, "norms": norms, "centre": self.centre.cpu()}
        state.update(
            {
                name: torch.from_numpy(np.ascontiguousarray(getattr(self, name)))
                for name in ARRAYS
                if name not in state
            }
        )
        metadata = {
            "format": FORMAT,
            "temperature": repr(float(self.temperature)),
            "validation_error_m": repr(float(self.validation_error_m)),
            "steps": str(self.steps),
        }
        safetensors.torch.save_file(state, path, metadata)

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> Self:
        """Read a file written by :meth:`save`. Raises ValueError naming the file if it is damaged
        or of another format.
        """
        try:
            with _opened(path) as file:
                metadata = file.metadata()
                state = {name: file.get_tensor(name) for name in ARRAYS}
            temperature, error, steps = (
                float(metadata["temperature"]),
                float(metadata["validation_error_m"]),
                int(metadata["steps"]),
            )
            _check(state, temperature)
            keys = (state.pop("keys").float() * state.pop("norms")[:, None]).half().to(device)
            centre = state.pop("centre").to(device)
            return cls(
                keys,
                **{name: tensor.numpy() for name, tensor in state.items()},
                centre=centre,
                temperature=temperature,
                validation_error_m=error,
                steps=steps,
            )
        except (
            OSError,
            safetensors.SafetensorError,
            KeyError,
            TypeError,
            OverflowError,
            ValueError,
            RuntimeError,
        ) as error:
            raise ValueError(f"{path} is not a readable scene memory: {error}") from error


def quantized(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize keys (S, C) to int8. Returns them and the (S,) float32 step sizes."""
    keys = keys.float().cpu()
    norms = keys.abs().amax(1).clamp_min(1e-12)
    return torch.round(keys / norms[:, None] * QUANTUM).to(torch.int8), norms / QUANTUM


def united(first: SceneMemory, second: SceneMemory) -> SceneMemory:
    """Merge two SceneMemories that share no keyframe and are in one map frame."""

    def both(name: str) -> np.ndarray:
        return np.concatenate([getattr(first, name), getattr(second, name)])

    anchors = np.concatenate([first.anchors, second.anchors + np.int32(len(first.keyframe_ids))])

    return replace(
        second,
        keys=torch.cat([first.keys.to(second.keys.device), second.keys]),
        anchors=anchors,
        points=both("points"),
        observed=both("observed"),
        spread=both("spread"),
        keyframe_ids=both("keyframe_ids"),
        T_map_anchor=both("T_map_anchor"),
        T_folded=both("T_folded"),
        held_out=both("held_out"),
    )


def _moved(transforms: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply (S, 4, 4) transforms to (S, 3) points, one each."""
    moved: np.ndarray = (
        np.einsum("sij,sj->si", transforms[:, :3, :3], points) + transforms[:, :3, 3]
    )
    return moved


def _opened(path: Path) -> safetensors.safe_open:
    """Open a safetensors file after checking its size and format."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{size} bytes, more than the {MAX_FILE_BYTES} allowed")
    opened = safetensors.safe_open(path, "pt")
    written = (opened.metadata() or {}).get("format")
    if written != FORMAT:
        raise ValueError(f"format {written}, but this version reads {FORMAT}")
    return opened


def _check(state: Mapping[str, torch.Tensor], temperature: float) -> None:
    """Raise ValueError if the tensors are not those of a valid memory."""
    sizes: dict[str, int] = {}
    for name, (dtype, *shape) in ARRAYS.items():
        tensor = state[name]
        fits = tensor.ndim == len(shape) and all(
            sizes.setdefault(want, have) == have if isinstance(want, str) else want == have
            for want, have in zip(shape, tensor.shape)
        )
        if tensor.dtype != dtype or not fits:
            raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} holds NaN or infinity")
    anchors = state["anchors"]
    if sizes["S"] and not 0 <= int(anchors.min()) <= int(anchors.max()) < sizes["K"]:
        raise ValueError("its anchors are not among its keyframes")
    if len(torch.unique(state["keyframe_ids"])) != sizes["K"]:
        raise ValueError("its keyframe ids are not unique")
    if not 0 < temperature < 1e6:
        raise ValueError(f"its temperature is {temperature}")
    for name in ("spread", "observed"):
        if bool((state[name] < 0).any()):
            raise ValueError(f"{name} is negative")
    for name in ("T_map_anchor", "T_folded"):
        for pose in state[name].numpy():
            se3.check(pose, name)
