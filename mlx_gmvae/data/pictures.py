"""Lists of image files and of Pillow images as one array."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError
from .arrays import require_memory
from .decode import Header, common_bits, decode, in_threads, read_header, upright_on_white
from .fitting import fit, proposed_size

HOW = "crop"  # as train.py fits images by default


def is_picture(item: Any) -> bool:
    """Return whether an item of a list is a path of an image file or a Pillow image."""
    return isinstance(item, (str, os.PathLike, Image.Image))


def as_one_array(
    items: Sequence[Any], name: str, shape: tuple[int, int, int] | None = None
) -> np.ndarray:
    """Return paths and Pillow images of any sizes as one uint8 array (N, H, W, C).

    Images are upright, on white where they are transparent, and cropped and resized to the height
    and width of `shape`, or else to one size for all, as `train.py --dataset FOLDER` does. They are
    grey if `shape` has one channel, or else if all of them are. Raises InputError for a file that
    cannot be read; the message calls the list `name`.
    """
    heads: list[Header] = []
    for row, head in enumerate(in_threads(_head, items, len(items), "headers")):
        if isinstance(head, str):
            raise InputError(f"{name}: {_label(items[row], row)} cannot be read ({head})")
        heads.append(head)
    sizes = [(head.height, head.width) for head in heads]
    is_grey = all(head.is_grey for head in heads)
    bits = common_bits(
        [os.fspath(path) for path, head in zip(items, heads, strict=True) if head.is_deep]
    )
    height, width, channels = shape or (*proposed_size(sizes), 1 if is_grey else 3)

    def pixels(item: Any) -> np.ndarray:
        if isinstance(item, Image.Image):
            upright = upright_on_white(item, "L" if channels == 1 else "RGB")
            fitted = np.asarray(fit(upright, (height, width), HOW))
            return fitted.reshape(height, width, channels)
        return decode(os.fspath(item), channels, (height, width), HOW, bits or 16)

    require_memory(len(items) * height * width * channels)
    array = np.empty((len(items), height, width, channels), np.uint8)
    for row, found in enumerate(in_threads(pixels, items, len(items), "images")):
        if isinstance(found, str):
            raise InputError(f"{name}: {_label(items[row], row)} cannot be read ({found})")
        array[row] = found
    return array


def _head(item: Any) -> Header:
    if isinstance(item, Image.Image):
        image = upright_on_white(item)
        return Header(image.height, image.width, image.mode == "L")
    if not is_picture(item):
        raise TypeError(f"a {type(item).__name__} among paths and images")
    return read_header(os.fspath(item))


def _label(item: Any, row: int) -> str:
    return os.fspath(item) if isinstance(item, (str, os.PathLike)) else f"image {row}"
