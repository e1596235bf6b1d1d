"""Arrays of images (N, H, W, C): validation, conversion to uint8, views of selected rows."""

import math
import zlib
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from ..errors import InputError
from .depth import bits_of

CHANNELS = (1, 2, 3, 4)  # grey and colour, without and with alpha
BLOCK_VALUES = 1 << 20  # values that are converted at a time
NARROW = 5  # an (a, b, c) array with a and b this many times c is likely one colour image


def as_uint8_images(images: np.ndarray, name: str, bits: int | None = None) -> np.ndarray:
    """Convert images (N, H, W) or (N, H, W, C) to uint8 (N, H, W, 1 or 3).

    They are uint8 or floats in [0, 1]. C is 1 or 3, or 2 or 4 with an alpha channel; transparent
    images are put on white, as image files are. uint16 images are scaled by the `bits` that they
    use, if these are known. Raises InputError; for channel-first images the message names the
    transpose to use.
    """
    require_unmasked(images, name)
    if images.ndim == 3:
        if images.shape[-1] in (3, 4) and min(images.shape[:2]) >= NARROW * images.shape[-1]:
            raise InputError(
                f"{name}: an array of shape {images.shape} looks like one colour image; "
                "give images (N, H, W, C)"
            )
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise InputError(
            f"{name}: images have shape {images.shape}; they must be (N, H, W) or (N, H, W, C)"
        )
    _require_channels(images.shape, name)
    images = _in_eight_bits(images, name, bits)
    return np.ascontiguousarray(images) if images.shape[-1] in (1, 3) else _on_white(images)


def require_unmasked(images: Any, name: str) -> None:
    """Raise InputError for a masked array, since NumPy would silently drop the mask."""
    if isinstance(images, np.ma.MaskedArray):
        raise InputError(
            f"{name}: a masked array is not supported, its masked values would be used as data; "
            f"fill it: {name}.filled(0)"
        )


def crc32(images: np.ndarray) -> int:
    """Return a checksum of the pixels, which identifies the images."""
    return zlib.crc32(np.ascontiguousarray(images).data)


def _require_channels(shape: tuple[int, ...], name: str) -> None:
    """Raise InputError unless the last axis of (N, H, W, C) has 1 to 4 channels."""
    if shape[-1] in CHANNELS:
        return
    if shape[1] in CHANNELS:
        raise InputError(
            f"{name}: images of shape {shape} look channel-first; save images.transpose(0, 2, 3, 1)"
        )
    raise InputError(
        f"{name}: images of shape {shape} have {shape[-1]} channels; they must have 1 (grey) or 3 "
        "(colour), or 2 or 4 with alpha"
    )


def _in_eight_bits(images: np.ndarray, name: str, bits: int | None) -> np.ndarray:
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind == "b":
        return images.astype(np.uint8) * 255
    if images.dtype.kind not in "fiu":
        raise InputError(f"{name}: images are of type {images.dtype}; use uint8 or floats")
    low, high = value_range(images, name)
    largest = 1.0 if images.dtype.kind == "f" else 255.0
    if images.dtype == np.uint16 and bits is not None:
        largest = 2.0**bits - 1
    if images.dtype.kind in "iu" and low >= 0 and largest < high < 2**16:
        known = bits_of(high)
        raise InputError(
            f"{name}: {images.dtype} images must lie in [0, {largest:g}], but these lie in "
            f"[{low:g}, {high:g}]; divide them by the largest value that they can have, such as "
            f"{2**known - 1} for {known}-bit images"
        )
    if not (low >= 0 and high <= largest):
        raise InputError(
            f"{name}: {images.dtype} images must lie in [0, {largest:g}], but these lie in "
            f"[{low:g}, {high:g}]; rescale them"
        )
    scaled = np.empty(images.shape, np.uint8)
    rows = max(1, BLOCK_VALUES // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(images), rows):  # in blocks, to limit the memory
        block = slice(start, start + rows)
        scaled[block] = np.rint(images[block] * (255 / largest)).astype(np.uint8)
    return scaled


def value_range(images: np.ndarray, name: str) -> tuple[float, float]:
    """Return the smallest and largest pixel.

    Raises InputError, which names the first image with NaN or infinite pixels.
    """
    with np.errstate(invalid="ignore"):  # checked below
        low, high = (float(images.min()), float(images.max())) if images.size else (0.0, 0.0)
    if not (math.isfinite(low) and math.isfinite(high)):
        first = next(row for row, image in enumerate(images) if not np.isfinite(image).all())
        raise InputError(
            f"{name}: image {first} (counted from 0) is the first with NaN or infinite pixels; "
            "correct or remove it"
        )
    return low, high


def _on_white(images: np.ndarray) -> np.ndarray:
    """Put uint8 (N, H, W, C + 1), whose last channel is alpha, on white: (N, H, W, C)."""
    flat = np.empty((*images.shape[:-1], images.shape[-1] - 1), np.uint8)
    for image, out in zip(images, flat, strict=True):  # one at a time, to limit the memory
        darkness = (255 - image[..., :-1]).astype(np.uint16) * image[..., -1:]
        out[...] = 255 - (darkness + 127) // 255
    return flat


def joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Concatenate two arrays: a view if they are adjacent in one array, otherwise a copy."""
    whole = first.base
    if (
        isinstance(whole, np.ndarray)
        and whole is second.base
        and whole.shape[1:] == first.shape[1:]
    ):
        row = (byte_bounds(first)[0] - byte_bounds(whole)[0]) // whole.strides[0]
        view = whole[row : row + len(first) + len(second)]
        parts = view[: len(first)], view[len(first) :]
        if [_place(part) for part in parts] == [_place(first), _place(second)]:
            return view
    return np.concatenate([first, second])


def _place(array: np.ndarray) -> tuple[Any, ...]:
    """Return a key that is equal for views of the same elements in the same order."""
    return byte_bounds(array), array.strides, array.shape


class Rows:
    """Lazy `images[rows]`: only the block that is indexed is copied."""

    def __init__(self, images: "Examples", rows: np.ndarray):
        self.images = images
        self.rows = rows
        self.shape: tuple[int, ...] = (len(rows), *images.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: Any) -> Any:
        return self.images[self.rows[chosen]]


class Featured:
    """Images (N, H, W, C) with their features (N, F) of a frozen encoder.

    Slicing and indexing work as for an array and select from both.
    """

    def __init__(self, images: "np.ndarray | Rows", features: np.ndarray):
        assert len(images) == len(features)
        self.images = images
        self.features = features
        self.shape = images.shape

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) + int(self.features.nbytes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, chosen: Any) -> "Featured":
        return Featured(self.images[chosen], self.features[chosen])


Images = np.ndarray | Rows  # can be read block by block
Examples = Images | Featured  # with or without features


def have_features(images: Examples) -> bool:
    """Return whether images have features."""
    return (
        have_features(images.images) if isinstance(images, Rows) else isinstance(images, Featured)
    )


def features_of(images: Examples) -> np.ndarray | None:
    """Return the features (N, F) of images, or None."""
    if isinstance(images, Rows):
        found = features_of(images.images)
        return None if found is None else found[images.rows]
    return images.features if isinstance(images, Featured) else None
