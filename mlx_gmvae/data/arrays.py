"""NumPy's .npy and .npz files, read so that no header gets more memory than the file can fill.

Nothing is ever unpickled, and of an .npz only what is asked for is looked at. Damaged files raise a
dozen unrelated types; here they are all ValueErrors, and OSError says that a file cannot be read.
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
LARGEST_RATIO = 1032  # of what is deflated; no byte of it stands for more

Shapes = dict[str, tuple[tuple[int, ...], str]]  # (shape, dtype) by name


def array_shapes(path: Path) -> Shapes:
    """What the arrays of an .npz are, from the headers alone: nothing large is allocated.

    Raises OSError or ValueError.
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
    """The arrays of an .npz, all or those `names` that are there; that of an .npy is called "".

    Raises OSError or ValueError.
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
    """A file, and as an archive if it is one; whatever is wrong with it is a ValueError."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd about headers that can be read
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
    """What an archive holds, by the names of the arrays."""
    named = [(info.filename.removesuffix(".npy"), info) for info in archive.infolist()]
    for name, num in Counter(name for name, _ in named).items():
        if num > 1:
            raise ValueError(f"{num} arrays are called {name}")
    return dict(named)


def _size(member: zipfile.ZipInfo, path: Path) -> int:
    """How many bytes a member announces. Raises ValueError if it cannot hold so many."""
    if member.compress_type not in METHODS:
        raise ValueError("it is compressed in a way that NumPy does not write")
    ratio = 1 if member.compress_type == zipfile.ZIP_STORED else LARGEST_RATIO
    if member.file_size > ratio * min(member.compress_size, path.stat().st_size):
        raise ValueError(f"{member.filename} cannot hold what it announces")
    return member.file_size


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = HEADERS.get(version)
    if read is None:
        raise ValueError(f"version {version} of the array format")
    shape, _, dtype = read(file)
    if min(shape, default=0) < 0:
        raise ValueError(f"a shape of {shape}")
    return shape, dtype


def _array(file: IO[bytes], size: int, is_all: bool = False) -> np.ndarray:
    """The array in a file of so many bytes, of which it `is_all` there is or the beginning."""
    shape, dtype = _header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read")
    needed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if needed > there or (is_all and needed < there):
        raise ValueError(f"its header announces {needed} bytes, {there} are there")
    require_memory(needed)
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def require_memory(needed: int) -> None:
    """Raise InputError if so many bytes are more than this machine has."""
    if needed > memory_bytes():
        raise InputError(
            f"an array needs {needed / 1e9:.1f} GB of memory, this machine has "
            f"{memory_bytes() / 1e9:.1f} GB; a folder of image files needs less"
        )
