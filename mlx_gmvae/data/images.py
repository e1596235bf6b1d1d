"""Arrays of images (N, H, W, C): as bytes, looked at through chosen rows."""

import math
import zlib
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from ..errors import InputError
from .depth import bits_of

CHANNELS = (1, 2, 3, 4)  # grey and colour, without and with alpha
BLOCK_VALUES = 1 << 20  # that are converted at a time
NARROW = 5  # times as high as wide: more likely the colours of one picture


def as_uint8_images(images: np.ndarray, name: str, bits: int | None = None) -> np.ndarray:
    """(N, H, W) or (N, H, W, C), uint8 or floats in [0, 1], as uint8 (N, H, W, 1 or 3).

    C is 1 or 3, or with an alpha channel 2 or 4: those are put on white, as image files are. uint16
    images are scaled by the `bits` that they use, if these are known.
    Raises InputError, which for channels before height and width names the transpose to use.
    """
    require_unmasked(images, name)
    if images.ndim == 3:
        if images.shape[-1] in (3, 4) and min(images.shape[:2]) >= NARROW * images.shape[-1]:
            raise InputError(
                f"{name}: an array of shape {images.shape} looks like one picture in colour; "
                "several are (N, H, W, C)"
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
    """Raise InputError for a masked array, of which NumPy would drop the mask silently."""
    if isinstance(images, np.ma.MaskedArray):
        raise InputError(
            f"{name}: a masked array, of which what is masked would be taken for data; fill it: "
            f"{name}.filled(0)"
        )


def crc32(images: np.ndarray) -> int:
    """A checksum of pixels, by which images are known again."""
    return zlib.crc32(np.ascontiguousarray(images).data)


def _require_channels(shape: tuple[int, ...], name: str) -> None:
    """Raise InputError unless (N, H, W, C) ends in a number of channels that pictures have."""
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
            f"{name}: {images.dtype} images must lie in [0, {largest:g}], these in "
            f"[{low:g}, {high:g}]; divide them by the largest value that they can have, for "
            f"{known} bits images / {2**known - 1}"
        )
    if not (low >= 0 and high <= largest):
        raise InputError(
            f"{name}: {images.dtype} images must lie in [0, {largest:g}], these in "
            f"[{low:g}, {high:g}]; rescale them"
        )
    scaled = np.empty(images.shape, np.uint8)
    rows = max(1, BLOCK_VALUES // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(images), rows):  # for the memory's sake
        block = slice(start, start + rows)
        scaled[block] = np.rint(images[block] * (255 / largest)).astype(np.uint8)
    return scaled


def value_range(images: np.ndarray, name: str) -> tuple[float, float]:
    """The lowest and the highest pixel. Raises InputError for NaN or infinity, naming the image."""
    with np.errstate(invalid="ignore"):  # seen here
        low, high = (float(images.min()), float(images.max())) if images.size else (0.0, 0.0)
    if not (math.isfinite(low) and math.isfinite(high)):
        first = next(row for row, image in enumerate(images) if not np.isfinite(image).all())
        raise InputError(
            f"{name}: image {first} (counted from 0) is the first with pixels that are NaN or "
            "infinite; mend or remove it"
        )
    return low, high


def _on_white(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, C + 1), the last channel alpha, on white as (N, H, W, C)."""
    flat = np.empty((*images.shape[:-1], images.shape[-1] - 1), np.uint8)
    for image, out in zip(images, flat, strict=True):  # one at a time, for the memory's sake
        darkness = (255 - image[..., :-1]).astype(np.uint16) * image[..., -1:]
        out[...] = 255 - (darkness + 127) // 255
    return flat


def joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """`first` followed by `second`: a view where they lie side by side in one array, or a copy."""
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
    """Equal for views of the same elements in the same order."""
    return byte_bounds(array), array.strides, array.shape


class Rows:
    """`images[rows]` for readers of one block after another: no copy of more than a block."""

    def __init__(self, images: "Examples", rows: np.ndarray):
        self.images = images
        self.rows = rows
        self.shape: tuple[int, ...] = (len(rows), *images.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: Any) -> Any:
        return self.images[self.rows[chosen]]


class Featured:
    """Images (N, H, W, C) and the features (N, F) that a frozen encoder has of each of them.

    It is sliced and indexed as an array of images is: both parts at once.
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


Images = np.ndarray | Rows  # what can be read block by block
Examples = Images | Featured  # the same, with features or without


def have_features(images: Examples) -> bool:
    """Return whether there are features beside images."""
    return (
        have_features(images.images) if isinstance(images, Rows) else isinstance(images, Featured)
    )


def features_of(images: Examples) -> np.ndarray | None:
    """Return the features (N, F) beside images, or None."""
    if isinstance(images, Rows):
        found = features_of(images.images)
        return None if found is None else found[images.rows]
    return images.features if isinstance(images, Featured) else None
