"""Resizing of images to one height, width and number of channels."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from .arrays import require_memory

FITS = ("crop", "pad", "stretch")
LARGEST_PROPOSED = 64
SIZES_SHOWN = 3

Size = tuple[int, int]  # height, width


def fit(image: Image.Image, size: Size, how: str) -> Image.Image:
    """Resize an image to `size`, bicubic with antialiasing, by one of `FITS`.

    "crop" keeps the centre, "pad" keeps the whole image and pads it with the median colour of its
    border, and "stretch" ignores the aspect ratio.
    """
    height, width = size
    if image.size == (width, height):
        return image
    method = Image.Resampling.BICUBIC
    if how == "crop":
        return ImageOps.fit(image, (width, height), method)
    if how == "pad":
        return ImageOps.pad(image, (width, height), method, color=_border_colour(image))
    return image.resize((width, height), method)


def _border_colour(image: Image.Image) -> int | tuple[int, ...]:
    """Return the median of each channel along the four sides."""
    width, height = image.size
    sides = [(0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height),
             (width - 1, 0, width, height)]  # fmt: skip
    counts = sum(np.array(image.crop(side).histogram()).reshape(-1, 256) for side in sides)
    up_to = np.cumsum(counts, axis=1)
    middles = [(num - 1) // 2 for num in (up_to[0, -1], up_to[0, -1] + 1)]
    colour = [sum(np.searchsorted(row, middles, side="right").tolist()) // 2 for row in up_to]
    return colour[0] if len(colour) == 1 else tuple(colour)


def fit_images(images: np.ndarray, size: Size, how: str) -> np.ndarray:
    """Resize uint8 images (N, H, W, C) with `fit` to (N, *size, C)."""
    if images.shape[1:3] == tuple(size):
        return images
    channels = images.shape[-1]
    require_memory(len(images) * math.prod(size) * channels)
    fitted = np.empty((len(images), *size, channels), np.uint8)
    for image, out in zip(images, fitted, strict=True):
        picture = Image.fromarray(image[..., 0] if channels == 1 else image)
        out[...] = np.asarray(fit(picture, size, how)).reshape(out.shape)
    return fitted


def with_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Convert images between 1 and 3 channels; the grey value of a colour is its luma."""
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return images.repeat(3, axis=-1)
    greys = np.empty((*images.shape[:-1], 1), np.uint8)
    for image, out in zip(images, greys, strict=True):
        out[..., 0] = np.asarray(Image.fromarray(image).convert("L"))
    return greys


class Sizes(NamedTuple):
    """Sizes of images before they are resized: how many different ones, and the commonest."""

    num: int
    commonest: list[list[int]]  # height, width, number of images

    @classmethod
    def of(cls, sizes: Iterable[Size]) -> "Sizes":
        counts = Counter(sizes)
        return cls(len(counts), [[*size, num] for size, num in counts.most_common(SIZES_SHOWN)])

    def describe(self) -> str:
        """Return a phrase such as "images of 640 x 427" (width x height), or with several sizes."""
        if self.num == 1:
            ((height, width, _),) = self.commonest
            return f"images of {width} x {height}"
        shown = ", ".join(f"{w} x {h} in {num:,}" for h, w, num in self.commonest)
        if self.num > len(self.commonest):
            shown += f" and {self.num - len(self.commonest):,} others"
        return f"images of {self.num:,} sizes ({shown})"

    def differ_from(self, size: Size) -> bool:
        """Return whether any image has another size."""
        return self.num > 1 or self.commonest[0][:2] != list(size)


def proposed_size(sizes: Sequence[Size]) -> Size:
    """Return a height and width for images of `sizes`.

    If all have the same size and it is not above Pillow's limit, that size. Otherwise the median
    height and width, reduced to at most 64 pixels and rounded to multiples of 4.

    >>> proposed_size([(28, 20), (28, 20)]), proposed_size([(3000, 4000), (1500, 2000), (30, 40)])
    ((28, 20), (48, 64))
    """
    different = set(sizes)
    if len(different) == 1 and math.prod(sizes[0]) <= (Image.MAX_IMAGE_PIXELS or math.inf):
        return sizes[0]
    height, width = np.median(list(sizes), axis=0)
    scale = min(1.0, LARGEST_PROPOSED / max(height, width))
    rows, columns = (max(4, 4 * round(side * scale / 4)) for side in (height, width))
    return rows, columns


DONE = {
    "crop": "the middle of each is cropped and resized to",
    "pad": "each is resized and padded to",
    "stretch": "each is stretched to",
}


def note(source: str, sizes: Sizes, size: Size, how: str, chosen: bool) -> str:
    """Return a note about resized images; `chosen` says whether the user gave `size`."""
    height, width = size
    line = f"{source}: {sizes.describe()}; {DONE[how]} {width} x {height} (width x height"
    return f"{line})" if chosen else f"{line}; --image_size H W chooses another size)"
