"""A scene in a network of slots: image feature -> point in the map, with its uncertainty.

VGG-T³ (arXiv 2602.23361) replaces a scene's growing key-value set by the weights of a small
network. Here that network is one hidden layer whose units are learned keys, a softmax over them,
and learned points as output: attention (Vaswani et al., NeurIPS 2017) over a fixed number of
key-value pairs, as Ramsauer et al. (Hopfield networks is all you need, ICLR 2021) read it.
Scene-coordinate regression (ACE, Brachmann et al., CVPR 2023; GLACE, Wang et al., CVPR 2024;
R-SCoRe and ACE-G, 2025) asks an MLP the same question.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import safetensors
import safetensors.torch
import torch

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.local_frame import origin_near

FORMAT = "3"  # 1 and 2 were MLPs
MAX_FILE_BYTES = 2**30
NEIGHBOURS = 8  # slots that share an answer
NEAR = 3.0  # spreads within which two slots say the same thing
QUANTUM = 127  # a component of a key is kept in eight bits
ARRAYS = {
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
    """An immutable distilled scene; its methods may be called from any thread.

    keys (S, C) float16 tensor: what each slot answers to, in the scale of the keys asked with,
    less `centre` (C,). points (S, 3) float32 metres in the frame of the slot's anchor; anchors
    (S,) int32 rows of keyframe_ids. observed (S,) float32: how often a slot was seen; spread (S,)
    float32 metres: how far its observations lie apart. keyframe_ids (K,) int64: the keyframes it
    was made of. T_map_anchor (K, 4, 4): where they are, so where their slots are; T_folded (K, 4,
    4): where they were when they were folded in. held_out (K,) bool: keyframes that nothing was
    learned from. temperature: of the softmax. validation_error_m: see keeper. steps: optimizer
    steps it has had in all.
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

    def __len__(self):
        return len(self.points)

    @cached_property
    def map_points(self):
        """(S, 3) float64 metres in the map."""
        return _moved(self.T_map_anchor[self.anchors], self.points)

    @cached_property
    def biases(self):
        """(S,) float32 tensor: with them the nearest key, not the longest, answers."""
        return -0.5 * self.keys.float().square().sum(1)

    def placed(self, T_map_cam_of):
        """The memory where its keyframes are now. T_map_cam_of: {keyframe id: (4, 4)}, all of
        them.
        """
        return replace(
            self,
            T_map_anchor=np.array([T_map_cam_of[int(i)] for i in self.keyframe_ids]).reshape(
                -1, 4, 4
            ),
        )

    def renumbered(self, new_ids):
        """The same under other keyframe ids ({old: new}; those not named stay)."""
        return replace(
            self,
            keyframe_ids=np.array(
                [new_ids.get(int(i), int(i)) for i in self.keyframe_ids], np.int64
            ),
        )

    def shared(self, other):
        """Share of its keys that another memory has to the bit, as they are saved: about 1 when
        made of the same keyframes, else about 0.
        """
        mine, theirs = (
            np.unique(quantized(memory.keys)[0].numpy(), axis=0) for memory in (self, other)
        )
        both = len(np.unique(np.concatenate([mine, theirs]), axis=0))
        return (len(mine) + len(theirs) - both) / max(1, len(mine))

    def only(self, slots):
        """The memory with these slots (mask or indices) alone."""
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
    def predict(self, keys):
        """(B, C) float keys -> points (B, 3) metres in map, float32 unless that lies far from its
        origin, uncertainty (B,) float32 metres (mean error expected).

        A softmax over the best few slots; those that lie near the likeliest share in the answer,
        the others in its uncertainty.
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

    def save(self, path):
        """Write it: about 90 bytes a slot."""
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
    def load(cls, path, device="cpu"):
        """Read what :meth:`save` wrote; ValueError naming the file when it is damaged or of
        another format.
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


def quantized(keys):
    """(S, C) -> (S, C) int8 and the (S,) float32 steps that give them back."""
    keys = keys.float().cpu()
    norms = keys.abs().amax(1).clamp_min(1e-12)
    return torch.round(keys / norms[:, None] * QUANTUM).to(torch.int8), norms / QUANTUM


def united(first, second):
    """One SceneMemory of two that share no keyframe, in one map's frame."""
    both = lambda name: np.concatenate([getattr(first, name), getattr(second, name)])
    anchors = np.concatenate([first.anchors, second.anchors + np.int32(len(first.keyframe_ids))])
    rows = {
        name: both(name)
        for name in (
            "points",
            "observed",
            "spread",
            "keyframe_ids",
            "T_map_anchor",
            "T_folded",
            "held_out",
        )
    }
    return replace(
        second,
        keys=torch.cat([first.keys.to(second.keys.device), second.keys]),
        anchors=anchors,
        **rows,
    )


def _moved(transforms, points):
    """(S, 4, 4) applied to (S, 3), one each."""
    return np.einsum("sij,sj->si", transforms[:, :3, :3], points) + transforms[:, :3, 3]


def _opened(path):
    """A safetensors file of the right size and format."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{size} bytes, more than a memory can have")
    file = safetensors.safe_open(path, "pt")
    written = (file.metadata() or {}).get("format")
    if written != FORMAT:
        raise ValueError(f"format {written}, this version reads {FORMAT}")
    return file


def _check(state, temperature):
    """ValueError where tensors are not what a memory consists of."""
    sizes = {}
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
        raise ValueError("its anchors are no keyframes of its own")
    if len(torch.unique(state["keyframe_ids"])) != sizes["K"]:
        raise ValueError("its keyframes are not unique")
    if (
        not 0 < temperature < 1e6
        or min(
            map(
                float,
                (
                    state["spread"].min() if sizes["S"] else 0,
                    state["observed"].min() if sizes["S"] else 0,
                ),
            )
        )
        < 0
    ):
        raise ValueError("its numbers make no sense")
    for name in ("T_map_anchor", "T_folded"):
        for pose in state[name].numpy():
            se3.check(pose, name)
