"""IDX, the file format of MNIST: a magic number, big-endian sizes, then bytes."""

import gzip
import io
import math
import zlib
from pathlib import Path

import numpy as np

from ..errors import InputError
from .arrays import require_memory

UNSIGNED_BYTE = 0x08
LARGEST_HEADER_BYTES = 20
CHUNK_BYTES = 1 << 24
MOST_COMPRESSED = 20  # compression ratio; real images stay below it


def read_idx(path: Path) -> np.ndarray:
    """Return the uint8 array in an IDX file, plain or gzipped; see `parse_idx`."""
    content = read_raw(path)
    return parse_idx(gunzip(content, path) if path.suffix == ".gz" else content, str(path))


def read_raw(path: Path) -> bytes:
    """Return the bytes of a file. Raises InputError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def gunzip(content: bytes, path: Path) -> bytes:
    """Return the decompressed content of the IDX file `path`. Raises InputError.

    At most one byte more than its header announces is read, so that a small file cannot fill the
    memory.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            head = file.read(LARGEST_HEADER_BYTES)
            start, shape = _header(head, str(path))
            missing = start + math.prod(shape) + 1 - len(head)
            require_memory(missing)
            if missing > MOST_COMPRESSED * len(content):  # perhaps a bomb: first count the bytes
                _require_length(_length(content, start + math.prod(shape)), shape, start, str(path))
            # Read in chunks: the file may hold fewer bytes than its header announces.
            parts = [head]
            while missing > 0 and (part := file.read(min(missing, CHUNK_BYTES))):
                parts.append(part)
                missing -= len(part)
            return b"".join(parts)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"{path} is damaged or not gzip; download it again") from None


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """Return the array in the bytes of an IDX file; `name` is for messages.

    Raises InputError for a wrong magic number, another element type than unsigned byte, or
    a length that does not match the sizes in the header.
    """
    start, shape = _header(content, name)
    _require_length(len(content), shape, start, name)
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _length(content: bytes, most: int) -> int:
    """Return the decompressed length, at most `most` + 1, without keeping the bytes."""
    total = 0
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        while total <= most and (part := file.read(CHUNK_BYTES)):
            total += len(part)
    return min(total, most + 1)


def _require_length(length: int, shape: list[int], start: int, name: str) -> None:
    expected = math.prod(shape)
    if length - start != expected:
        raise InputError(
            f"{name} is truncated or too long: its header announces {expected} bytes, "
            f"but it has {max(0, length - start)}; download it again"
        )


def _header(content: bytes, name: str) -> tuple[int, list[int]]:
    """Return the offset of the data, and the shape. Raises InputError."""
    if len(content) < 4 or content[:2] != b"\0\0":
        raise InputError(f"{name} is not an IDX file (wrong magic number)")
    kind, rank = content[2], content[3]
    if kind != UNSIGNED_BYTE or not 1 <= rank <= 4:
        raise InputError(f"{name} is not an IDX file of 1 to 4 dimensions of unsigned bytes")
    start = 4 + 4 * rank
    return start, [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
