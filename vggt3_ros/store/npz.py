"""Arrays out of .npz files, which other programs leave behind and older versions of the store
wrote. They may be damaged or made to do harm: every size is checked before memory is taken, and
nothing is unpickled. What is written now, :mod:`vggt3_ros.store.arrays` reads.
"""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from math import prod
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

MAX_BYTES = 8 * 2**30  # of one file
DAMAGE = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
    RuntimeError,
    NotImplementedError,
    SyntaxError,
    MemoryError,
    OverflowError,
    # what zipfile and numpy raise, by what is wrong
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def load_npz(
    path: Path, names: Iterable[str], max_bytes: int = MAX_BYTES
) -> dict[str, np.ndarray]:
    """Return {name: array} of a file that np.savez wrote. ValueError when it lacks a name, is
    damaged, compressed or larger than it can be.
    """
    size = Path(path).stat().st_size
    if size > max_bytes:
        raise ValueError(f"{path} has {size} bytes, more than the {max_bytes} it may have")
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _read(archive, archive.getinfo(f"{name}.npy"), size) for name in names}
    except DAMAGE as error:
        raise ValueError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> np.ndarray:
    if (
        member.compress_type != zipfile.ZIP_STORED
        or member.flag_bits & 1
        or member.file_size > size
    ):
        raise ValueError(f"{member.filename} is compressed, or larger than the file")
    with archive.open(member) as file:
        version = npy.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{member.filename} has npy version {version}, 1.0 is read")
        shape, fortran_order, dtype = npy.read_array_header_1_0(file)
        expected = prod(shape) * dtype.itemsize
        if (
            dtype.hasobject
            or min(shape, default=0) < 0
            or expected != member.file_size - file.tell()
        ):
            raise ValueError(
                f"{member.filename} announces {shape} {dtype}, which is not what it holds"
            )
        # the byte that is not there: at the end the checksum is compared
        data = file.read(expected + 1)
        array = np.frombuffer(bytearray(data), dtype)
        return array.reshape(shape[::-1]).T if fortran_order else array.reshape(shape)
