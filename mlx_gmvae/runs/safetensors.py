"""Models as .safetensors files: the arrays, and the same JSON as in an .npz, as metadata.

The header is read by itself first, so that a damaged or hostile file allocates nothing large.
"""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..errors import InputError

SUFFIX = ".safetensors"
KEY = "mlx_gmvae"  # of the JSON among the metadata
LARGEST_HEADER_BYTES = 1 << 26
TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}  # as NumPy calls them

Shapes = dict[str, tuple[tuple[int, ...], str]]


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
            content = json.loads(file.read(length))
        metadata = content.pop("__metadata__", {})
        shapes = {name: _described(entry) for name, entry in content.items()}
        found = metadata.get(KEY)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
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


def _described(entry: dict[str, Any]) -> tuple[tuple[int, ...], str]:
    kind = str(entry["dtype"])
    return tuple(int(side) for side in entry["shape"]), TYPES.get(kind, kind)
