"""Parity cases: stored reference outputs of the network, filled with weights that are a pure
function of their names.

A case is an .npz with ``images`` [S, 3, H, W] in 0..1, ``config`` (JSON) and reference outputs of
map() on all images. With fast weights it may also have ``map_pose_enc`` of a map of the first
images, and ``query_*`` of the following ones against that map. This proves the arithmetic without
licensed weights. test/data/README.md describes the origin of the cases, and what of it is not
recorded.
"""

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .config import GlobalAttention, NetworkConfig
from .values import Predictions, SceneState
from .vggt3 import DENSE_OUTPUTS, Vggt3

# Entry of a case's config -> field of NetworkConfig. Fields not given keep the published value.
_CONFIG_NAMES = {
    "kind": "attention",
    "patch_embed": "encoder",
    "embed_dim": "embed_dim",
    "depth": "depth",
    "num_heads": "num_heads",
    "mlp_ratio": "mlp_ratio",
    "num_register_tokens": "num_register_tokens",
    "img_size": "image_size",
    "patch_size": "patch_size",
    "layers": "tapped_layers",
    "rope_freq": "rope_base",
    "ttt_steps": "inner_steps",
    "muon_steps": "newton_schulz_steps",
    "base_lr": "base_rate",
    "inter_multi": "fast_hidden_ratio",
    "trunk_depth": "camera_depth",
    "camera_num_heads": "camera_heads",
    "num_iterations": "camera_iterations",
    "features": "dense_features",
    "out_channels": "dense_channels",
}
_TOKENS = re.compile(r"last_tokens(?:_every_(\d+)\w\w_token_and_(\d+)\w\w_channel)?")
_WEIGHTS = re.compile(r"map_all_layer(\d+)_w([012])(?:_heads_(\d+(?:_\d+)*))?")
_NORMS = ("norm1", "norm2", "norm", "q_norm", "k_norm", "token_norm", "trunk_norm")
_TOKEN_LEAVES = (
    "camera_token", "register_token", "register_tokens", "cls_token", "pos_embed", "empty_pose_tokens", "mask_token",
)  # fmt: skip


class ParityError(ValueError):
    """The file is not a parity case, or its configuration is not valid for this network."""


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return float32 weights of a state-dict entry: standard normals seeded by its name, scaled by
    the kind of entry.
    """
    normal = (
        np.random.RandomState(zlib.crc32(name.encode()))
        .standard_normal(tuple(shape))
        .astype(np.float32)
    )
    *path, leaf = name.split(".")
    parent = path[-1] if path else ""
    if leaf in ("w0", "w1", "w2"):
        return normal * np.float32(np.sqrt(2.0 / shape[1]))
    if leaf == "gamma":
        return np.float32(0.3) + np.float32(0.05) * normal
    if "norm" in parent or parent in _NORMS:
        return np.float32(leaf == "weight") + np.float32(0.1) * normal
    if leaf in _TOKEN_LEAVES:
        return np.float32(0.5) * normal
    if leaf == "bias":
        return np.float32(0.02) * normal
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else int(shape[0])
    return normal / np.float32(np.sqrt(fan_in))


def fill_network(network: Vggt3) -> Vggt3:
    """Set every entry of the state dict to its filled weights, in place."""
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    weights = {
        name: torch.from_numpy(np.asarray(fill(name, shape))) for name, shape in shapes.items()
    }
    network.load_state_dict(weights, strict=True)
    return network


@dataclass(frozen=True)
class ParityResult:
    """Largest relative error of every output, and the parts of the case that have no counterpart
    here.
    """

    relative_error: Mapping[str, float]
    not_compared: tuple[str, ...]  # reference outputs that this network does not have
    unknown_config: tuple[str, ...]  # config entries that were ignored


def case_config(entries: Mapping[str, object]) -> NetworkConfig:
    """Return the configuration of a case; unknown entries are ignored. Raise ParityError on an
    invalid value.
    """
    # JSON values of any type: NetworkConfig checks them
    fields: dict[str, Any] = {
        _CONFIG_NAMES[name]: tuple(value) if isinstance(value, list) else value
        for name, value in entries.items()
        if name in _CONFIG_NAMES
    }
    try:
        fields["attention"] = GlobalAttention(fields.get("attention", "ttt"))
        return NetworkConfig(**fields)
    except (TypeError, ValueError) as error:
        raise ParityError(str(error)) from error


def relative_error(ours: np.ndarray, reference: np.ndarray) -> float:
    """Return max |ours - reference| / max |reference| over the finite values, or infinity if the
    non-finite values differ.
    """
    if ours.shape != reference.shape:
        raise ParityError(f"shape {ours.shape}, reference {reference.shape}")
    finite = np.isfinite(reference)
    if (
        not np.array_equal(ours[~finite], reference[~finite], equal_nan=True)
        or not np.isfinite(ours[finite]).all()
    ):
        return float("inf")
    if not finite.any():
        return 0.0
    difference = np.abs(ours[finite].astype(np.float64) - reference[finite]).max()
    return float(difference / max(np.abs(reference[finite]).max(), np.finfo(np.float32).tiny))


def run_case(
    path: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> ParityResult:
    """Run a case with the trunk in ``dtype``. Raise ParityError if the file is not a case."""
    try:
        with np.load(path, allow_pickle=False) as file:
            case = {name: file[name] for name in file.files}
        entries = json.loads(str(case.pop("config")))
        config = case_config(entries)
        images = torch.from_numpy(case.pop("images")).to(torch.float32)
    except (KeyError, OSError, ValueError) as error:
        raise (
            error
            if isinstance(error, ParityError)
            else ParityError(f"{path} is not a parity case: {error}")
        ) from error
    network = fill_network(Vggt3(config)).to(device)
    network.aggregator.to(dtype)
    errors = {}
    for name, ours in _outputs(network, images, case):
        try:
            errors[name] = relative_error(ours.double().cpu().numpy(), case[name])
        except ParityError as error:
            raise ParityError(f"{path}: {name}: {error}") from error
    return ParityResult(
        errors,
        tuple(sorted(set(case) - set(errors))),
        tuple(sorted(set(entries) - set(_CONFIG_NAMES))),
    )


def _outputs(
    network: Vggt3, images: Tensor, case: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, Tensor]]:
    """Yield our value of every known output of the case."""
    last: list[Tensor] = []

    def keep_last(layer: int, part: slice, frame: Tensor, joined: Tensor) -> None:
        if layer == network.config.depth - 1:
            last.append(torch.cat((frame, joined), dim=-1))

    predictions, scene = network.map(
        images, observers=[keep_last], depth_frames=range(len(images)), dense=DENSE_OUTPUTS
    )
    known = _named(predictions)
    tokens = torch.cat(last)
    for name in case:
        if name in known:
            yield name, known[name]()
        elif match := _TOKENS.fullmatch(name):
            token_step, channel_step = (int(step or 1) for step in match.groups())
            yield name, tokens[:, ::token_step, ::channel_step]
        elif scene is not None and (match := _WEIGHTS.fullmatch(name)):
            yield name, _fast_weight(scene, *match.groups())
    mapped_names = [name for name in case if name.startswith("map_") and name[4:] in known]
    asked = [name for name in case if name.startswith("query_") and name[6:] in known]
    if not mapped_names and not asked:
        return
    # Without outputs of the smaller map, it consists of the images that are not queries.
    mapped = len(case[mapped_names[0]]) if mapped_names else len(images) - len(case[asked[0]])
    if not 0 < mapped <= len(images):
        raise ParityError(f"the case maps {mapped} of its {len(images)} images")
    predictions, scene = network.map(
        images[:mapped], depth_frames=range(mapped), dense=DENSE_OUTPUTS
    )
    known = _named(predictions)
    yield from ((name, known[name[4:]]()) for name in mapped_names)
    if asked and scene is not None:
        queries = images[mapped : mapped + len(case[asked[0]])]
        answers = network.query(
            queries, scene, depth_frames=range(len(queries)), dense=DENSE_OUTPUTS
        )
        known = _named(answers)
        yield from ((name, known[name[6:]]()) for name in asked)


def _named(predictions: Predictions) -> dict[str, Callable[[], Tensor]]:
    """Return functions that compute our outputs, by the reference's names."""
    depth, points = predictions.depth, predictions.points
    assert depth is not None and points is not None
    return {
        "pose_enc": lambda: predictions.pose_encoding,
        "extrinsic": lambda: predictions.T_camera_world[:, :3],
        "intrinsic": lambda: predictions.intrinsics,
        "depth": lambda: depth.values[..., None],
        "depth_conf": lambda: depth.confidence,
        "points": lambda: points.values,
        "points_conf": lambda: points.confidence,
    }


def _fast_weight(scene: SceneState, layer: str, matrix: str, heads: str | None) -> Tensor:
    """Return one matrix of a layer's fast weights, or some of its heads ("0_3_7")."""
    weight = scene.layer(int(layer))[int(matrix)]
    return weight if heads is None else weight[[int(head) for head in heads.split("_")]]
