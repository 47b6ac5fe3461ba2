"""Run Meta's VGGT on a parity case's images and configuration: compare its outputs with the stored
ones, or store them as a new case.

    python test/data/reference_case.py MAP_ANYTHING CASE.npz [--encoder conv] [--out NEW.npz]

MAP_ANYTHING: a checkout of github.com/facebookresearch/map-anything, which holds VGGT's code
(mapanything/models/external/vggt, under VGGT's licence; nothing of it is part of this repository).
Needs torch, numpy and huggingface_hub, and this package on the path.
"""

import argparse
import importlib
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch

from vggt3_ros.network.parity import fill

PACKAGE = "mapanything.models.external.vggt"


def reference(checkout):
    """Modules of the reference, without what their packages' own __init__ import."""
    parts = PACKAGE.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        package = types.ModuleType(name)
        package.__path__ = [str(Path(checkout, *parts[:depth]))]
        sys.modules[name] = package
    modules = {name: importlib.import_module(f"{PACKAGE}.{name}") for name in (
        "layers", "layers.attention", "layers.block", "layers.swiglu_ffn", "models.aggregator", "heads.camera_head", "heads.dpt_head",
        "utils.pose_enc")}  # fmt: skip
    # the copy there lacks three names that its own encoder imports; plain attention computes the
    # same
    layers = modules["layers"]
    layers.MemEffAttention, layers.NestedTensorBlock = (
        modules["layers.attention"].Attention,
        modules["layers.block"].Block,
    )
    layers.SwiGLUFFNFused = modules["layers.swiglu_ffn"].SwiGLUFFNFused
    # the copy calls every encoder by the transformer's name
    layers.PatchEmbed.forward_features = layers.PatchEmbed.forward
    modules["encoder"] = importlib.import_module(f"{PACKAGE}.layers.vision_transformer")
    return modules


class Reference(torch.nn.Module):
    """VGGT of a case's configuration, its weights filled by their names."""

    def __init__(self, modules, entries, encoder):
        super().__init__()
        dim = entries["embed_dim"]
        self.aggregator = modules["models.aggregator"].Aggregator(
            img_size=518,
            patch_size=14,
            embed_dim=dim,
            depth=entries["depth"],
            num_heads=entries["num_heads"],
            patch_embed="conv",
        )
        if encoder != "conv":
            sizes = {
                "dinov2_vits14_reg": "vit_small",
                "dinov2_vitb14_reg": "vit_base",
                "dinov2_vitl14_reg": "vit_large",
            }
            self.aggregator.patch_embed = getattr(modules["encoder"], sizes[encoder])(
                img_size=518,
                patch_size=14,
                num_register_tokens=4,
                interpolate_antialias=True,
                interpolate_offset=0.0,
                block_chunks=0,
                init_values=1.0,
            )
        self.camera_head = modules["heads.camera_head"].CameraHead(dim_in=2 * dim)
        dense = {
            "dim_in": 2 * dim,
            "features": entries["features"],
            "out_channels": entries["out_channels"],
            "intermediate_layer_idx": entries["layers"],
            "conf_activation": "expp1",
        }
        self.depth_head = modules["heads.dpt_head"].DPTHead(
            output_dim=2, activation="exp", **dense
        )
        self.point_head = modules["heads.dpt_head"].DPTHead(
            output_dim=4, activation="inv_log", **dense
        )
        self._pose = modules["utils.pose_enc"].pose_encoding_to_extri_intri
        self.load_state_dict(
            {
                name: torch.from_numpy(np.asarray(fill(name, tuple(tensor.shape))))
                for name, tensor in self.state_dict().items()
            }
        )

    @torch.no_grad()
    def outputs(self, images):
        tokens, first_patch = self.aggregator(images[None])
        encoding = self.camera_head(tokens)[-1]
        extrinsic, intrinsic = self._pose(encoding, images.shape[-2:])
        depth, depth_conf = self.depth_head(
            tokens, images=images[None], patch_start_idx=first_patch
        )
        points, points_conf = self.point_head(
            tokens, images=images[None], patch_start_idx=first_patch
        )
        return {
            "pose_enc": encoding[0],
            "extrinsic": extrinsic[0],
            "intrinsic": intrinsic[0],
            "depth": depth[0],
            "depth_conf": depth_conf[0],
            "points": points[0],
            "points_conf": points_conf[0],
            "last_tokens_every_5th_token_and_4th_channel": tokens[-1][0][:, ::5, ::4],
        }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout")
    parser.add_argument("case")
    parser.add_argument("--encoder", help="instead of the case's own")
    parser.add_argument("--out", help="write what the reference gives here")
    arguments = parser.parse_args()
    with np.load(arguments.case, allow_pickle=False) as file:
        case = {name: file[name] for name in file.files}
    entries = json.loads(str(case.pop("config")))
    encoder = arguments.encoder or entries["patch_embed"]
    network, images = (
        Reference(reference(arguments.checkout), entries, encoder).eval(),
        torch.from_numpy(case["images"]),
    )
    outputs = {name: tensor.numpy() for name, tensor in network.outputs(images).items()}
    double = {
        name: tensor.numpy() for name, tensor in network.double().outputs(images.double()).items()
    }
    for name, values in outputs.items():
        known = np.isfinite(double[name])
        stored = case.get(name) if encoder == entries["patch_embed"] else None
        errors = [
            np.abs(other[known].astype(float) - double[name][known]).max()
            / np.abs(double[name][known]).max()
            for other in (values, stored)
            if other is not None
        ]
        print(
            f"{name}: float32 {errors[0]:.1e}"
            + (f", stored {errors[1]:.1e}" if len(errors) > 1 else "")
            + " from float64, relative"
        )
    if arguments.out:
        np.savez_compressed(
            arguments.out,
            images=case["images"],
            config=json.dumps({**entries, "patch_embed": encoder}),
            **outputs,
        )


if __name__ == "__main__":
    main()
