"""Safe reading of the headers of .safetensors files.

The header is checked before any array is read, so a damaged or malicious file allocates no large
array.
"""

import json
import math
from pathlib import Path
from typing import Any

from ..errors import InputError
from .arrays import Shapes

LARGEST_HEADER_BYTES = 1 << 26
TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}  # NumPy's names
BYTES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}


def read_header(path: Path) -> tuple[Shapes, dict[str, Any]]:
    """Return (shape, dtype) of every array, and the metadata. Raises InputError.

    A dtype that NumPy does not have keeps its name from the file.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(LARGEST_HEADER_BYTES, path.stat().st_size - 8):
                raise ValueError("a header of impossible length")
            content = json.loads(file.read(length), object_pairs_hook=_without_repetition)
        metadata = content.pop("__metadata__", None) or {}
        room = path.stat().st_size - 8 - length
        shapes = {name: _described(entry, room) for name, entry in content.items()}
        return shapes, dict(metadata)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        raise InputError(f"{path} is damaged or not a .safetensors file") from None


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name occurs twice")
    return dict(pairs)


def _described(entry: dict[str, Any], room: int) -> tuple[tuple[int, ...], str]:
    """Return (shape, dtype) of a header entry, whose data must lie within `room` bytes."""
    kind, shape = str(entry["dtype"]), tuple(int(side) for side in entry["shape"])
    start, end = (int(offset) for offset in entry["data_offsets"])
    if min(shape, default=0) < 0 or not 0 <= start <= end <= room:
        raise ValueError("an array lies outside the file")
    dtype = TYPES.get(kind, kind)  # other types are rejected when compared with the model
    if kind in BYTES and math.prod(shape) * BYTES[kind] != end - start:
        raise ValueError("the size of an array does not match its offsets")
    return shape, dtype
