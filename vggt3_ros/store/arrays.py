"""Named arrays in a safetensors file, each with a checksum. A file may be damaged or made to do
harm: its sizes are checked before memory is taken.
"""

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

MAX_BYTES = 8 * 2**30  # of one file
MAX_HEADER_BYTES = 2**20  # names, shapes and metadata; ours have a few hundred
DAMAGE = (
    safetensors.SafetensorError,
    OSError,
    KeyError,
    AttributeError,  # numpy has no type of that name
    TypeError,
    ValueError,
    OverflowError,
    MemoryError,
)
_CHECKSUM = "crc32 of "


def save_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write {name: array} and {name: text}. OSError when the disk does not take it."""
    arrays = _contiguous(arrays)
    sums = {_CHECKSUM + name: _checksum(array) for name, array in arrays.items()}
    with disk_errors(path):
        safetensors.numpy.save_file(arrays, path, {**(metadata or {}), **sums})


def load_arrays(
    path: Path, names: Iterable[str], max_bytes: int = MAX_BYTES
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return ({name: array}, {name: text}) of what :func:`save_arrays` wrote. ValueError, naming
    the file, when it lacks an array, is damaged, or is larger than `max_bytes`.
    """
    try:
        with open(path, "rb") as file:
            header, size = int.from_bytes(file.read(8), "little"), file.seek(0, 2)
        if size > max_bytes:
            raise ValueError(f"it has {size} bytes, more than the {max_bytes} it may have")
        if header > MAX_HEADER_BYTES:
            raise ValueError(f"it announces a header of {header} bytes")
        with safetensors.safe_open(path, "np") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in names}
        sums = {name: metadata.pop(_CHECKSUM + name, "") for name in arrays}
        wrong = [name for name in arrays if sums[name] != _checksum(arrays[name])]
        if wrong:
            raise ValueError(f"the checksum of {', '.join(wrong)} is wrong")
        return arrays, metadata
    except DAMAGE as error:
        raise ValueError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def to_bytes(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a safetensors file of {name: array} and {name: text}, without checksums: for blobs
    that a database or a message carries.
    """
    return safetensors.numpy.save(_contiguous(arrays), dict(metadata) if metadata else None)


def _contiguous(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What safetensors may be given: it writes an array's memory as it lies, whatever its strides."""
    return {name: np.asarray(array, order="C") for name, array in arrays.items()}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise the OSError of a file that safetensors could not write: it tells of a full disk as a
    SafetensorError, with the number in its text.
    """
    try:
        yield
    except safetensors.SafetensorError as error:
        found = re.search(r"I/O error: (.*?) \(os error (\d+)\)", str(error))
        if found is None:
            raise
        raise OSError(int(found[2]), found[1], str(path)) from error


def _checksum(array: np.ndarray) -> str:
    described = zlib.crc32(f"{array.dtype.str} {array.shape}".encode())
    values = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return f"{zlib.crc32(values.data, described):08x}"
