"""Models as .safetensors files: the arrays, with the JSON of the .npz format as metadata."""

from pathlib import Path
from typing import Any

import mlx.core as mx

from ..data.arrays import Shapes
from ..data.safetensors import read_header
from ..errors import InputError

SUFFIX = ".safetensors"
KEY = "mlx_gmvae"  # of the JSON in the metadata


def save(path: Path, arrays: dict[str, mx.array], info: str) -> None:
    """Write arrays, and JSON as metadata."""
    mx.save_safetensors(str(path), arrays, {KEY: info})


def header(path: Path) -> tuple[Shapes, str | None]:
    """Return (shape, dtype) of every array, and the JSON if there is any. Raises InputError."""
    shapes, metadata = read_header(path)
    found = metadata.get(KEY)
    if found is not None and not isinstance(found, str):
        raise InputError(f"{path} has no readable configuration; it is not an mlx_gmvae file")
    return shapes, found


def load(path: Path) -> dict[str, mx.array]:
    """Return every array in the file. Raises InputError if it is damaged."""
    try:
        arrays: Any = mx.load(str(path))
        mx.eval(arrays)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); copy or train it again") from None
    return arrays  # type: ignore[no-any-return]
