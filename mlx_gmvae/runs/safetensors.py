"""Models as .safetensors files: the arrays, and the same JSON as in an .npz, as metadata.

The header is read by itself first, so that a damaged or hostile file allocates nothing large.
"""

import json
import math
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..data.arrays import Shapes
from ..errors import InputError

SUFFIX = ".safetensors"
KEY = "mlx_gmvae"  # of the JSON among the metadata
LARGEST_HEADER_BYTES = 1 << 26
TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}  # as NumPy calls them


def save(path: Path, arrays: dict[str, mx.array], info: str) -> None:
    """Write arrays, and JSON as metadata."""
    mx.save_safetensors(str(path), arrays, {KEY: info})


def header(path: Path) -> tuple[Shapes, str | None]:
    """(shape, dtype) of every array, and our JSON if there is one. Raises InputError."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(LARGEST_HEADER_BYTES, path.stat().st_size - 8):
                raise ValueError("a header of impossible length")
            content = json.loads(file.read(length), object_pairs_hook=_without_repetition)
        metadata = content.pop("__metadata__", {})
        room = path.stat().st_size - 8 - length
        shapes = {name: _described(entry, room) for name, entry in content.items()}
        found = metadata.get(KEY)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        raise InputError(f"{path} is damaged or not a .safetensors file") from None
    if found is not None and not isinstance(found, str):
        raise InputError(f"{path} has no readable configuration; it is not an mlx_gmvae file")
    return shapes, found


def load(path: Path) -> dict[str, mx.array]:
    """Every array in the file. Raises InputError if it is damaged."""
    try:
        arrays: Any = mx.load(str(path))
        mx.eval(arrays)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); copy or train it again") from None
    return arrays  # type: ignore[no-any-return]


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)


def _described(entry: dict[str, Any], room: int) -> tuple[tuple[int, ...], str]:
    """(shape, dtype) of an entry of the header, before as many bytes as there is `room` for."""
    kind, shape = str(entry["dtype"]), tuple(int(side) for side in entry["shape"])
    start, end = (int(offset) for offset in entry["data_offsets"])
    if min(shape, default=0) < 0 or not 0 <= start <= end <= room:
        raise ValueError("an array that lies outside of the file")
    if kind not in TYPES:
        return shape, kind  # refused where it is compared with the model's
    if math.prod(shape) * np.dtype(TYPES[kind]).itemsize != end - start:
        raise ValueError("an array of another size than its place")
    return shape, TYPES[kind]
