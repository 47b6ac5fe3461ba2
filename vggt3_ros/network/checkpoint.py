"""Loading and saving of network weights. licences.py lists the published ones that fit, and their
licences.
"""

import dataclasses
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from .checkpoint_files import CheckpointError, TensorSource, open_source
from .config import CONVOLUTION, ENCODERS, VGG_T3, VGGT_1B, GlobalAttention, NetworkConfig
from .licences import fitting, licence_of
from .vggt3 import Vggt3

log = logging.getLogger(__name__)

_IGNORED_PREFIX = "track_head."  # VGGT's tracker, unused here
_IGNORED = "aggregator.patch_embed.mask_token"  # from the pre-training of the encoder
_CONVOLUTIONAL = ("depth_head.", "point_head.")
_CONFIG_KEY = "vggt3_config"
_SHOWN = 20


@dataclass(frozen=True)
class KeyReport:
    """Differences between a checkpoint and the tensors of a configuration, by the network's names."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshaped: tuple[str, ...]  # "name: file has 1x2, network needs 1x3"

    @property
    def problems(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.misshaped)

    def __str__(self) -> str:
        parts = []
        for kind in ("missing", "unexpected", "misshaped"):
            names = getattr(self, kind)
            if names:
                rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                parts.append(f"{len(names)} {kind}: {', '.join(names[:_SHOWN])}{rest}")
        return "; ".join(parts) or "all tensors present"


class WrongCheckpoint(CheckpointError):
    """The file is readable, but its tensors do not match the network; ``report`` lists all
    differences.
    """

    def __init__(self, where: str, report: KeyReport):
        super().__init__(f"{where}: {report}")
        self.report = report


@dataclass(frozen=True)
class Inspection:
    """Contents of a checkpoint, found without loading it."""

    spec: str
    files: tuple[Path, ...]
    file_bytes: int
    config: NetworkConfig
    parameters: int
    dtypes: Mapping[str, int]  # number of tensors per dtype
    ignored: tuple[str, ...]  # tensors that the network does not use
    report: KeyReport

    @property
    def licence(self) -> str:
        """Licence by the name of the weights; if that is unknown, also which published weights
        have the same tensors.
        """
        found = licence_of(self.spec)
        fits = "; ".join(map(str, fitting(self.config.attention is GlobalAttention.SOFTMAX)))
        return f"{found}. The tensors match {fits}" if "unknown" in found else found


def inspect_checkpoint(spec: str | Path, cache_dir: Path | None = None) -> Inspection:
    """Read names, shapes and dtypes only. Raise CheckpointError if the file is unreadable."""
    source = open_source(spec, cache_dir)
    names, ignored = _network_names(source)
    config, report = _best_config(names, source)
    dtypes: dict[str, int] = {}
    for stored_name in names.values():
        key = str(source.stored[stored_name].dtype).removeprefix("torch.")
        dtypes[key] = dtypes.get(key, 0) + 1
    parameters = sum(math.prod(source.stored[name].shape) for name in names.values())
    files = tuple(source.files)
    size = sum(file.stat().st_size for file in files)
    return Inspection(str(spec), files, size, config, parameters, dtypes, ignored, report)


def load_checkpoint(
    spec: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    head_dtype: torch.dtype | None = None,
    cache_dir: Path | None = None,
) -> Vggt3:
    """Return a network with the weights of a file, a folder or a hub id
    (``owner/name[@revision]``; pin the revision in production).

    dtype: of the trunk (float32, bfloat16 or float16). head_dtype: of the camera, depth and point
    heads; float32 by default, as released. cache_dir: the hub's cache. If the file already has the
    requested dtype and the device is the CPU, the weights stay memory-mapped and use no memory of
    their own; otherwise they are converted one tensor at a time.

    Raise CheckpointError if the file is unreadable, or its subclass WrongCheckpoint if its tensors
    do not match the network.
    """
    source = open_source(spec, cache_dir)
    names, _ = _network_names(source)
    config, report = _best_config(names, source)
    if report.problems:
        raise WrongCheckpoint(str(spec), report)
    log.info("loading %s (%s): %s", spec, config.attention.name.lower(), licence_of(str(spec)))

    with torch.device("meta"):
        network = Vggt3(config)
    tensors = {}
    for name in network.state_dict():
        wanted = dtype if name.startswith("aggregator.") else head_dtype or torch.float32
        tensor = source.read(names[name]).to(device=device, dtype=wanted)
        if name.startswith(_CONVOLUTIONAL) and tensor.dim() == 4:
            # the layout of the tokens; otherwise reordered on every call
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        tensors[name] = tensor
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def save_checkpoint(network: Vggt3, path: Path) -> None:
    """Write the weights and the configuration to a .safetensors file for load_checkpoint."""
    fields = dataclasses.asdict(network.config)
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, path, metadata={_CONFIG_KEY: json.dumps(fields)})


def expected_tensors(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor of a configuration, without allocating any."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Vggt3(config).state_dict().items()}


def _network_names(source: TensorSource) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return {name in the network: name in the file}, and the file's unused names.

    A released VGG-T³ file contains the value convolution twice, as ``.conv`` and ``.conf``; either
    is accepted.
    """
    names, ignored = {}, []
    for name in source.stored:
        if name.startswith(_IGNORED_PREFIX) or name == _IGNORED:
            ignored.append(name)
            continue
        proper = name.replace(".short_conv_qkv.2.conf.", ".short_conv_qkv.2.conv.")
        if proper != name and proper in source.stored:
            ignored.append(name)
            continue
        names[proper] = name
    return names, tuple(ignored)


def _compare(config: NetworkConfig, names: Mapping[str, str], source: TensorSource) -> KeyReport:
    """Return the differences between the file's tensors and those of a configuration."""
    expected = expected_tensors(config)
    misshaped = []
    for name, shape in expected.items():
        if name not in names:
            continue
        stored = source.stored[names[name]]
        if stored.shape != shape:
            misshaped.append(f"{name}: file has {_by(stored.shape)}, network needs {_by(shape)}")
        elif not stored.dtype.is_floating_point:
            misshaped.append(f"{name}: file has {stored.dtype}, network needs floating point")
    return KeyReport(
        tuple(name for name in expected if name not in names),
        tuple(stored for name, stored in names.items() if name not in expected),
        tuple(misshaped),
    )


def _best_config(
    names: Mapping[str, str], source: TensorSource
) -> tuple[NetworkConfig, KeyReport]:
    """Return the configuration that fits the tensors best: the one derived from the file, or a
    published one if the file is incomplete.
    """
    candidates = list(_published_like(names))
    shapes = {name: source.stored[stored].shape for name, stored in names.items()}
    try:
        candidates.insert(0, _declared_config(source) or _suggested_config(shapes))
    except (
        KeyError,
        IndexError,
        ValueError,
        TypeError,
        ZeroDivisionError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        log.debug("no configuration can be derived from the checkpoint: %s", error)
    reports = [(config, _compare(config, names, source)) for config in candidates]
    return min(reports, key=lambda pair: pair[1].problems)


def _published_like(names: Mapping[str, str]) -> tuple[NetworkConfig, ...]:
    """Return the published configurations whose attention matches the tensor names."""
    attention = [
        name.rsplit(".attn.", 1)[1]
        for name in names
        if ".global_blocks." in name and ".attn." in name
    ]
    if any(part.startswith(("lr_fc", "short_conv_qkv", "w0", "w1", "w2")) for part in attention):
        return (VGG_T3,)
    if any(part.startswith(("q_norm", "k_norm")) for part in attention):
        return (VGGT_1B,)
    return (VGG_T3, VGGT_1B)


def _declared_config(source: TensorSource) -> NetworkConfig | None:
    """Return the configuration that save_checkpoint stored in the file, or None."""
    text = source.metadata.get(_CONFIG_KEY)
    if text is None:
        return None
    # JSON values of any type: NetworkConfig checks them
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in json.loads(text).items()
    }
    fields["attention"] = GlobalAttention(fields["attention"])
    return NetworkConfig(**fields)


def _suggested_config(shapes: Mapping[str, tuple[int, ...]]) -> NetworkConfig:
    """Return the configuration implied by the shapes. Raise KeyError, IndexError or ValueError if
    they imply none.

    What shapes do not determine (tapped layers, camera heads) takes the published value.
    """
    width = shapes["aggregator.camera_token"][-1]
    head_dim = shapes["aggregator.frame_blocks.0.attn.q_norm.weight"][0]
    convolution = "aggregator.patch_embed.proj.weight" in shapes
    patch = shapes[
        "aggregator.patch_embed.proj.weight"
        if convolution
        else "aggregator.patch_embed.patch_embed.proj.weight"
    ][-1]
    transformer = next(
        (name for name, shape in ENCODERS.items() if shape.embed_dim == width), f"{width} wide"
    )
    fast = shapes.get("aggregator.global_blocks.0.attn.w0")
    return NetworkConfig(
        attention=GlobalAttention.FAST_WEIGHTS if fast else GlobalAttention.SOFTMAX,
        encoder=CONVOLUTION if convolution else transformer,
        embed_dim=width,
        depth=_count(shapes, "aggregator.frame_blocks."),
        num_heads=width // head_dim,
        mlp_ratio=shapes["aggregator.frame_blocks.0.mlp.fc1.weight"][0] / width,
        num_register_tokens=shapes["aggregator.register_token"][2],
        image_size=VGG_T3.image_size
        if convolution
        else patch * math.isqrt(shapes["aggregator.patch_embed.pos_embed"][1] - 1),
        patch_size=patch,
        fast_hidden_ratio=fast[2] // fast[1] if fast else VGG_T3.fast_hidden_ratio,
        camera_depth=_count(shapes, "camera_head.trunk."),
        dense_features=shapes["depth_head.scratch.layer1_rn.weight"][0],
        dense_channels=tuple(
            shapes[f"depth_head.projects.{level}.weight"][0] for level in range(4)
        ),
    )


def _count(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    """Return the number of modules whose names are ``prefix`` and an index."""
    return 1 + max(
        int(name[len(prefix) :].split(".")[0]) for name in shapes if name.startswith(prefix)
    )


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single value"
