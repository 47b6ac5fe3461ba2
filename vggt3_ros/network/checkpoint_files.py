"""Where a checkpoint's tensors come from: a file, a folder or a hub id, read lazily and without
unpickling objects.
"""

import json
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

_HUB_ID = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_TORCH_SUFFIXES = (".pt", ".pth")
MAX_BYTES = 64 * 2**30  # of a checkpoint; the published one has 4.8 GB
MAX_PICKLE_BYTES = 64 * 2**20  # of what a .pt file says of its tensors
MAX_INDEX_BYTES = 64 * 2**20


class CheckpointError(ValueError):
    """The checkpoint cannot be used; the message says which part of it and why."""


@dataclass(frozen=True)
class StoredTensor:
    """What a file says of a tensor before any of it is read."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class TensorSource(Protocol):
    """Named tensors; ``stored`` is known at once, ``read`` maps or loads one tensor on the CPU."""

    stored: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]
    files: Sequence[Path]

    def read(self, name: str) -> Tensor: ...


class SafetensorsSource:
    """One or more .safetensors files, memory-mapped: reading a tensor makes a view of the file."""

    def __init__(self, files: Sequence[Path]):
        self.files = tuple(files)
        self.metadata: dict[str, str] = {}
        self.stored: dict[str, StoredTensor] = {}
        self._where = {}
        self._stack = ExitStack()
        _check_size(files)
        for path in files:
            try:
                file = self._stack.enter_context(safe_open(path, framework="pt"))
                self.metadata.update(file.metadata() or {})
                for name in file.keys():  # noqa: SIM118 (no dict)
                    part = file.get_slice(name)
                    dtype = _SAFETENSORS_DTYPES.get(part.get_dtype(), torch.uint8)
                    self.stored[name] = StoredTensor(tuple(part.get_shape()), dtype)
                    self._where[name] = file
            except (SafetensorError, OSError, ValueError, RuntimeError) as error:
                raise CheckpointError(
                    f"{path} is not a complete .safetensors file: {error}"
                ) from error

    def read(self, name: str) -> Tensor:
        return self._where[name].get_tensor(name)


_SAFETENSORS_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
}  # fmt: skip


class TorchSource:
    """A .pt file, memory-mapped and restricted to tensors (weights_only)."""

    def __init__(self, path: Path):
        self.files = (path,)
        self.metadata: dict[str, str] = {}
        _check_size(self.files)
        _check_archive(path)
        try:
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        except Exception as error:
            # torch raises RuntimeError, UnpicklingError, ValueError and more, by what is wrong
            text = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"{path} is not a .pt file of tensors alone: {text}") from error
        self._tensors = _state_dict(content, path)
        _check_tensors(self._tensors, path)
        self.stored = {
            name: StoredTensor(tuple(t.shape), t.dtype) for name, t in self._tensors.items()
        }

    def read(self, name: str) -> Tensor:
        return self._tensors[name]


def _check_size(files: Sequence[Path]) -> None:
    size = sum(file.stat().st_size for file in files)
    if size > MAX_BYTES:
        raise CheckpointError(
            f"{files[0]}: {size} bytes are more than the {MAX_BYTES} that a checkpoint may have"
        )


def _check_archive(path: Path) -> None:
    """A .pt file is a zip of stored members: compressed ones could unpack to any size."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError) as error:
        raise CheckpointError(f"{path} is not a .pt file of tensors alone: {error}") from error
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size > size:
            raise CheckpointError(
                f"{path}: {member.filename} is compressed, or larger than the file"
            )
        if member.filename.endswith(".pkl") and member.file_size > MAX_PICKLE_BYTES:
            raise CheckpointError(
                f"{path}: {member.filename} has {member.file_size} bytes, more than the {MAX_PICKLE_BYTES} it may have"
            )


def _check_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Plain tensors that the file holds in full: a view may announce any size."""
    size = path.stat().st_size
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise CheckpointError(f"{path}: {name[:200]} is no plain tensor")
        if math.prod(tensor.shape) * tensor.element_size() > size:
            raise CheckpointError(
                f"{path}: {name[:200]} announces more values than the file holds"
            )


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    """The tensors of a saved object, which may wrap them once ({"model": ...}) and prefix them all
    with "module.".
    """
    candidates = [content, *(content.values() if isinstance(content, Mapping) else ())]
    for candidate in candidates:
        if isinstance(candidate, Mapping) and any(
            isinstance(value, Tensor) for value in candidate.values()
        ):
            tensors = {
                str(name): value for name, value in candidate.items() if isinstance(value, Tensor)
            }
            if all(name.startswith("module.") for name in tensors):
                return {name.removeprefix("module."): value for name, value in tensors.items()}
            return tensors
    raise CheckpointError(f"{path} holds no tensors")


def open_source(spec: str | Path, cache_dir: Path | None = None) -> TensorSource:
    """Open a path (file or folder) or a hub id ``owner/name[@revision]``.

    ``cache_dir``: the hub's cache, by default huggingface_hub's own. Raises CheckpointError.
    """
    path = Path(spec).expanduser()
    if not path.exists():
        hub_id = _HUB_ID.fullmatch(str(spec))
        if hub_id is None:
            raise CheckpointError(
                f"{spec}: no such file or folder, and not a hub id (owner/name or owner/name@revision)"
            )
        path = _hub_snapshot(hub_id["repository"], hub_id["revision"], cache_dir)
    if path.is_dir():
        return _open_folder(path)
    if path.suffix == ".safetensors":
        return SafetensorsSource([path])
    if path.suffix in _TORCH_SUFFIXES:
        return TorchSource(path)
    raise CheckpointError(f"{path}: expected .safetensors, .pt or .pth")


def _open_folder(folder: Path) -> TensorSource:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = [folder / name for name in _indexed(index)]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise CheckpointError(f"{folder} lacks {', '.join(missing)}, named in {index.name}")
        return SafetensorsSource(files)
    for suffixes in ((".safetensors",), _TORCH_SUFFIXES):
        files = sorted(file for file in folder.iterdir() if file.suffix in suffixes)
        preferred = [file for file in files if file.stem == "model"] or files
        if len(preferred) == 1:
            return open_source(preferred[0])
        if preferred:
            raise CheckpointError(
                f"{folder} holds several checkpoints: {', '.join(file.name for file in files)}; name one"
            )
    raise CheckpointError(f"{folder} holds no .safetensors, .pt or .pth file")


def _indexed(index: Path) -> list[str]:
    """File names that a model.safetensors.index.json lists; one that points outside the folder
    stays inside it.
    """
    try:
        if index.stat().st_size > MAX_INDEX_BYTES:
            raise ValueError(f"more than {MAX_INDEX_BYTES} bytes")
        names = {Path(name).name for name in json.loads(index.read_text())["weight_map"].values()}
        if not names or "" in names:
            raise ValueError("it names no files")
        return sorted(names)
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{index} is not readable: {type(error).__name__}: {error}"
        ) from error


def _hub_snapshot(repository: str, revision: str | None, cache_dir: Path | None) -> Path:
    """Local folder of a hub repository: what is cached already, else downloaded; never a newer one
    than the cached.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise CheckpointError(
            f"{repository}: hub ids need huggingface_hub: pip install 'vggt3_ros[hub]'"
        ) from error

    def snapshot(patterns: list[str], offline: bool) -> Path:
        folder = snapshot_download(
            repository,
            revision=revision,
            cache_dir=cache_dir,
            allow_patterns=patterns,
            local_files_only=offline,
        )
        return Path(folder)

    safetensors = ["*.safetensors", "*.safetensors.index.json"]
    pickled = [f"*{suffix}" for suffix in _TORCH_SUFFIXES]
    try:
        return snapshot(safetensors + pickled, offline=True)
    except LocalEntryNotFoundError:
        pass
    try:
        folder = snapshot(safetensors, offline=False)
        if not any(folder.glob("*.safetensors")):
            folder = snapshot(pickled, offline=False)
        return folder
    except GatedRepoError as error:
        raise CheckpointError(
            f"{repository} is gated: accept its conditions at https://huggingface.co/{repository} and log in with `hf auth login` (or set "
            "HF_TOKEN), then start again; or name a downloaded file"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{repository}@{revision or 'main'} is not in the local cache and cannot be downloaded: "
            f"{str(error).strip().splitlines()[0]}"
        ) from error
