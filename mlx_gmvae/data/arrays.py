"""Safe reading of NumPy's .npy and .npz files.

No header makes the reader allocate more memory than the file can fill. Nothing is unpickled, and
only the requested arrays of an .npz are read. NumPy and zipfile raise a dozen unrelated types for
damaged files. Here a damaged file is a ValueError, and a file that cannot be read is an OSError.
"""

import contextlib
import math
import warnings
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from ..device.backend import memory_bytes
from ..errors import InputError

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy writes
LARGEST_RATIO = 1032  # the largest compression ratio of deflate

Shapes = dict[str, tuple[tuple[int, ...], str]]  # (shape, dtype) by name


def array_shapes(path: Path) -> Shapes:
    """Return the shape and dtype of each array of an .npz, from the headers alone.

    Nothing large is allocated. Raises OSError or ValueError.
    """
    with _opened(path) as (_, archive):
        if archive is None:
            raise ValueError("not an .npz")
        shapes: Shapes = {}
        for name, member in _members(archive).items():
            with archive.open(member) as content:
                shape, dtype = _header(content)
            shapes[name] = (shape, dtype.str)
        return shapes


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz by name, or the array of an .npy under the name "".

    With `names`, only those arrays are read, and missing ones are left out. Raises OSError or
    ValueError.
    """
    with _opened(path) as (file, archive):
        if archive is None:
            return {"": _array(file, path.stat().st_size)}
        arrays = {}
        for name, member in _members(archive).items():
            if names is None or name in names:
                with archive.open(member) as content:
                    arrays[name] = _array(content, _size(member, path), is_all=True)
        return arrays


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], zipfile.ZipFile | None]]:
    """Open a file, also as an archive if it is one. Other errors become ValueErrors."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual headers that can be read
            if file.read(2) != b"PK":
                file.seek(0)
                yield file, None
                return
            with zipfile.ZipFile(file) as archive:
                yield file, archive
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from None


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the members of an archive by the names of their arrays."""
    named = [(info.filename.removesuffix(".npy"), info) for info in archive.infolist()]
    for name, num in Counter(name for name, _ in named).items():
        if num > 1:
            raise ValueError(f"{num} arrays are called {name}")
    return dict(named)


def _size(member: zipfile.ZipInfo, path: Path) -> int:
    """Return the uncompressed size of a member. Raises ValueError if the size is impossible."""
    if member.compress_type not in METHODS:
        raise ValueError("it uses a compression that NumPy does not write")
    ratio = 1 if member.compress_type == zipfile.ZIP_STORED else LARGEST_RATIO
    if member.file_size > ratio * min(member.compress_size, path.stat().st_size):
        raise ValueError(f"the size of {member.filename} is impossible")
    return member.file_size


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = HEADERS.get(version)
    if read is None:
        raise ValueError(f"version {version} of the array format is unknown")
    shape, _, dtype = read(file)
    if min(shape, default=0) < 0:
        raise ValueError(f"an array has the shape {shape}")
    return shape, dtype


def _array(file: IO[bytes], size: int, is_all: bool = False) -> np.ndarray:
    """Read the array in a file of `size` bytes; with `is_all`, it must fill the file."""
    shape, dtype = _header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not supported")
    needed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if needed > there or (is_all and needed < there):
        raise ValueError(f"its header announces {needed} bytes, but the file has {there}")
    require_memory(needed)
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def require_memory(needed: int) -> None:
    """Raise InputError if `needed` bytes are more than the memory of this machine."""
    if needed > memory_bytes():
        raise InputError(
            f"an array needs {needed / 1e9:.1f} GB of memory, this machine has "
            f"{memory_bytes() / 1e9:.1f} GB; a folder of image files needs less"
        )
