"""Conversion and validation of arrays that users pass to the Python API."""

import os
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from PIL import Image

from ..errors import InputError
from .images import require_unmasked, value_range
from .pictures import as_one_array, is_picture

IMAGES = "images (n, H, W) or (n, H, W, C)"
OF_PILLOW = ("1", "L", "LA", "RGB", "RGBA", "I", "I;16", "F")  # modes whose arrays are their pixels


def as_array(
    given: Any,
    name: str,
    wanted: str = IMAGES,
    shape: tuple[int, int, int] | None = None,
) -> Any:
    """Return `given` as a NumPy array; data frames and other libraries' tables are not converted.

    Lists of arrays of one size become one array, and so do lists of paths and of Pillow images,
    which are resized to one size if they differ, or to `shape` if it is given. Raises InputError if
    that is impossible. The message calls the argument `name` and names what is `wanted`.
    """
    _require_arrays(given, name, wanted)
    require_unmasked(given, name)
    if isinstance(given, (list, tuple)):
        given = _stacked(given, name, wanted, shape)
    elif isinstance(given, mx.array):
        is_half = given.dtype == mx.bfloat16  # NumPy has no such type
        given = np.array(given.astype(mx.float32) if is_half else given)
    elif not hasattr(given, "ndim") and not hasattr(given, "shape"):
        given = np.asarray(given)
    shape, kind = tuple(np.shape(given)), getattr(getattr(given, "dtype", None), "kind", "")
    if kind in ("U", "S"):
        raise InputError(f"{name} has text instead of numbers; give {wanted}")
    if kind == "c":
        raise InputError(f"Complex data not supported: {name} is complex; give {name}.real")
    if len(shape) > 4 or not shape or (len(shape) == 1 and kind == "O"):
        raise InputError(f"{name} has shape {shape} and type {given.dtype}; give {wanted}")
    return given


def _require_arrays(given: Any, name: str, wanted: str) -> None:
    """Raise InputError for what is neither an array nor a list of arrays."""
    is_array = hasattr(given, "__array__") or hasattr(given, "shape")
    if is_array or (isinstance(given, (list, tuple)) and not hasattr(given, "_fields")):
        return
    remedy = f"give {wanted}"
    if isinstance(given, (str, os.PathLike)):
        remedy += "; mlx_gmvae.load_dataset(path) reads them from files"
    elif isinstance(given, Image.Image):
        remedy = "give a list of such images"
    elif hasattr(given, "images"):
        remedy = f"give its images, {name}.images"
    elif hasattr(given, "train"):
        remedy = f"give the images of one split, {name}.train.images"
    kind = "None" if given is None else f"of type {type(given).__name__}"
    raise InputError(f"{name} is {kind}; {remedy}")


def _stacked(
    items: list[Any] | tuple[Any, ...],
    name: str,
    wanted: str,
    shape: tuple[int, int, int] | None,
) -> np.ndarray:
    """Return a list of images, or of rows, as one array."""
    if items and IMAGES in wanted and is_picture(items[0]) and not _fit_together(items, shape):
        return as_one_array(items, name, shape)
    if items and _is_image(items[0]):
        arrays = [_image(item, name, row) for row, item in enumerate(items)]
        for row, array in enumerate(arrays):
            if array.shape != arrays[0].shape:
                raise InputError(
                    f"{name} has images of different shapes: {arrays[0].shape} and, at {row}, "
                    f"{array.shape}; bring them to one size and number of channels"
                )
        return np.stack(arrays)
    try:
        return np.asarray(items)
    except ValueError:
        raise InputError(f"{name} has rows of different lengths; give {wanted}") from None


def _fit_together(items: Sequence[Any], shape: tuple[int, int, int] | None) -> bool:
    """Return whether items are Pillow images of one size and mode, and of `shape` if it is given.

    Their pixels are then used as they are, also those of 16 bits and floats.
    """
    if not all(isinstance(item, Image.Image) for item in items):
        return False
    if len({(item.size, item.mode) for item in items}) > 1:
        return False
    channels = len(items[0].getbands())
    return shape is None or (items[0].height, items[0].width, channels) == shape


def _is_image(item: Any) -> bool:
    if isinstance(item, (list, tuple)):
        return bool(item) and isinstance(item[0], (list, tuple, np.ndarray))
    return isinstance(item, Image.Image) or getattr(item, "ndim", 0) > 1


def _image(item: Any, name: str, row: int) -> np.ndarray:
    if isinstance(item, Image.Image) and item.mode not in OF_PILLOW:
        item = item.convert("RGBA" if item.has_transparency_data else "RGB")
    try:
        return np.asarray(item)
    except ValueError:
        raise InputError(f"{name} has lists of different lengths at {row}, not an image") from None


def as_images_of(given: Any, wanted: tuple[int, int, int]) -> np.ndarray:
    """Return images of the shape `wanted` as an array (N, H, W, C), uint8 or float32 in [0, 1].

    Raises InputError for other images.
    """
    images = array = np.asarray(as_array(given, "images", shape=wanted))
    if array.ndim == 3 and wanted[-1] == 1:
        array = array[..., None]
    if array.ndim != 4 or array.shape[1:] != wanted:
        shape = " x ".join(map(str, wanted))
        raise InputError(f"images have shape {images.shape}; they must be N x {shape}")
    if array.dtype == np.uint8:
        return array
    is_real = array.dtype.kind == "f"
    low, high = value_range(array, "images") if is_real else (0.0, 0.0)
    if not (is_real and low >= 0 and high <= 1):
        raise InputError(
            f"images are {array.dtype}"
            + (f" in [{low:g}, {high:g}]" if is_real else "")
            + "; give uint8, or floats in [0, 1]"
        )
    return array.astype(np.float32)


def as_latents(given: Any, name: str, dims: int) -> np.ndarray:
    """Return latents (N, `dims`) as float32. Raises InputError for another shape or type."""
    array = np.asarray(as_array(given, name, f"latents (N, {dims})"))
    if array.ndim != 2 or array.shape[1] != dims or not len(array):
        raise InputError(f"latents have shape {array.shape}; they must be (N, {dims})")
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise InputError(
            f"{name} must be finite numbers; correct those that are NaN, infinite or not numbers"
        )
    return array.astype(np.float32)
