"""Sources of a checkpoint's tensors: a file, a folder or a hub id. Tensors are read lazily, and no
objects are unpickled.
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
MAX_BYTES = 64 * 2**30  # of a whole checkpoint; the published one has 4.8 GB
MAX_PICKLE_BYTES = 64 * 2**20  # of the description of the tensors in a .pt file
MAX_INDEX_BYTES = 64 * 2**20


class CheckpointError(ValueError):
    """The checkpoint cannot be used; the message says which part and why."""


@dataclass(frozen=True)
class StoredTensor:
    """Shape and dtype of a tensor in a file, known before it is read."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class TensorSource(Protocol):
    """Named tensors. ``stored`` is available at once; ``read`` maps or loads one tensor on the
    CPU.
    """

    @property
    def stored(self) -> Mapping[str, StoredTensor]: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    @property
    def files(self) -> Sequence[Path]: ...

    def read(self, name: str) -> Tensor: ...


class SafetensorsSource:
    """One or more memory-mapped .safetensors files; reading a tensor returns a view of the file."""

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
                for name in file.keys():  # noqa: SIM118 (not iterable itself)
                    part = file.get_slice(name)
                    dtype = _SAFETENSORS_DTYPES.get(part.get_dtype(), torch.uint8)
                    self.stored[name] = StoredTensor(tuple(part.get_shape()), dtype)
                    self._where[name] = file
            except (SafetensorError, OSError, ValueError, RuntimeError) as error:
                raise CheckpointError(
                    f"{path} is not a complete .safetensors file: {error}"
                ) from error

    def read(self, name: str) -> Tensor:
        tensor: Tensor = self._where[name].get_tensor(name)
        return tensor


_SAFETENSORS_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
}  # fmt: skip


class TorchSource:
    """A memory-mapped .pt file, restricted to tensors (weights_only)."""

    def __init__(self, path: Path):
        self.files = (path,)
        self.metadata: dict[str, str] = {}
        _check_size(self.files)
        _check_archive(path)
        try:
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        except Exception as error:
            # depending on the fault, torch raises RuntimeError, UnpicklingError, ValueError, ...
            text = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(
                f"{path} is not a .pt file that contains only tensors: {text}"
            ) from error
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
            f"{files[0]}: {size} bytes exceed the limit of {MAX_BYTES} for a checkpoint"
        )


def _check_archive(path: Path) -> None:
    """Raise CheckpointError unless the file is a zip of uncompressed members; others could unpack
    to any size.
    """
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError) as error:
        raise CheckpointError(
            f"{path} is not a .pt file that contains only tensors: {error}"
        ) from error
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size > size:
            raise CheckpointError(
                f"{path}: {member.filename} is compressed or larger than the file"
            )
        if member.filename.endswith(".pkl") and member.file_size > MAX_PICKLE_BYTES:
            raise CheckpointError(
                f"{path}: {member.filename} has {member.file_size} bytes, the limit is {MAX_PICKLE_BYTES}"
            )


def _check_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError unless all are plain tensors whose data the file holds in full; a view
    may declare any size.
    """
    size = path.stat().st_size
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise CheckpointError(f"{path}: {name[:200]} is not a plain tensor")
        if math.prod(tensor.shape) * tensor.element_size() > size:
            raise CheckpointError(f"{path}: {name[:200]} declares more values than the file holds")


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a saved object, which may be nested once ({"model": ...}) and prefixed
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
    raise CheckpointError(f"{path} contains no tensors")


def open_source(spec: str | Path, cache_dir: Path | None = None) -> TensorSource:
    """Open a path (file or folder) or a hub id ``owner/name[@revision]``.

    ``cache_dir``: the hub's cache, by default huggingface_hub's own. Raise CheckpointError.
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
            raise CheckpointError(f"{folder} lacks {', '.join(missing)}, which {index.name} lists")
        return SafetensorsSource(files)
    for suffixes in ((".safetensors",), _TORCH_SUFFIXES):
        files = sorted(file for file in folder.iterdir() if file.suffix in suffixes)
        preferred = [file for file in files if file.stem == "model"] or files
        if len(preferred) == 1:
            return open_source(preferred[0])
        if preferred:
            raise CheckpointError(
                f"{folder} contains several checkpoints: {', '.join(file.name for file in files)}; name one of them"
            )
    raise CheckpointError(f"{folder} contains no .safetensors, .pt or .pth file")


def _indexed(index: Path) -> list[str]:
    """Return the file names listed in a model.safetensors.index.json. Only the last component of
    each is used, so that no entry can point outside the folder.
    """
    try:
        if index.stat().st_size > MAX_INDEX_BYTES:
            raise ValueError(f"more than {MAX_INDEX_BYTES} bytes")
        names = {Path(name).name for name in json.loads(index.read_text())["weight_map"].values()}
        if not names or "" in names:
            raise ValueError("it lists no files")
        return sorted(names)
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{index} cannot be read: {type(error).__name__}: {error}"
        ) from error


def _hub_snapshot(repository: str, revision: str | None, cache_dir: Path | None) -> Path:
    """Return the local folder of a hub repository: the cached one if there is any, else
    downloaded. A cached revision is never updated.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise CheckpointError(
            f"{repository}: hub ids need huggingface_hub; install it with pip install 'vggt3_ros[hub]'"
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
            "HF_TOKEN), then restart; or name a downloaded file"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{repository}@{revision or 'main'} is not in the local cache and the download failed: "
            f"{str(error).strip().splitlines()[0]}"
        ) from error
