"""Images of 16 bits a channel and their effective depth; cameras often use 10, 12 or 14 bits."""

import sys

import numpy as np
from PIL import Image

DEPTHS = (8, 10, 12, 14, 16)
LARGEST = 2 ** DEPTHS[-1] - 1
SCALED = ("PPM", "JPEG2000")  # formats that store their depth: Pillow scales them to 16 bits
IN_COLOUR = ("RGB;16", "RGBA;16", "RGBX;16")  # Pillow keeps their upper 8 bits
SWAPPED = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}  # bytes of a pixel


def bits_of(largest: float) -> int:
    """Return the smallest of the DEPTHS that holds a value.

    >>> bits_of(255), bits_of(3000), bits_of(65535)
    (8, 12, 16)
    """
    return next(bits for bits in DEPTHS if largest < 2**bits or bits == DEPTHS[-1])


def describe(source: str, bits: int) -> str:
    """Return a note about 16-bit images that use fewer bits."""
    return (
        f"{source}: values of {bits} bits in images of 16 bits, scaled by {2**bits - 1} "
        "(--bits N if they can have more)"
    )


def is_deep(image: Image.Image) -> bool:
    """Return whether an image, not loaded yet, has 16 bits a channel of unknown effective depth."""
    return image.format not in SCALED and (image.mode.startswith("I") or is_deep_in_colour(image))


def is_deep_in_colour(image: Image.Image) -> bool:
    return any(_raw_mode(tile.args).startswith(IN_COLOUR) for tile in _tiles(image))


def largest_value(image: Image.Image) -> float:
    """Return the largest pixel of an image that `is_deep`."""
    if is_deep_in_colour(image):
        return 256 * int(np.asarray(image).max()) + 255
    return float(np.asarray(image).max())


def swap_bytes(image: Image.Image) -> None:
    """Make a colour image, not loaded yet, return its lower 8 bits instead of its upper 8."""
    swapped = []
    for tile in _tiles(image):
        mode = _raw_mode(tile.args)
        mode = mode[:-1] + SWAPPED[mode[-1]]
        swapped.append(
            tile._replace(args=mode if isinstance(tile.args, str) else (mode, *tile.args[1:]))
        )
    image.tile = swapped  # type: ignore[attr-defined]


def join_bytes(upper: Image.Image, lower: Image.Image, bits: int) -> Image.Image:
    """Combine the upper and lower 8 bits to 16 and scale them to an 8-bit image."""
    pairs = zip(np.asarray(upper), np.asarray(lower), strict=True)
    rows = [_scaled(256.0 * high + low, 2**bits - 1) for high, low in pairs]
    return Image.fromarray(np.stack(rows))


def in_eight_bits(image: Image.Image, bits: int) -> Image.Image:
    """Convert an image of 8 or `bits` bits a channel, or of floats in [0, 1], to 8 bits."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    largest = 1.0 if image.mode == "F" else 2.0**bits - 1
    if not (values.min() >= 0 and values.max() <= largest):  # also false for NaN
        raise ValueError(f"its pixels are not in [0, {largest:g}]")
    bytes_ = np.empty(values.shape, np.uint8)
    for row, out in zip(values, bytes_, strict=True):  # one row at a time, to limit the memory
        out[...] = _scaled(row.astype(np.float64), largest)
    return Image.fromarray(bytes_)


def _scaled(values: np.ndarray, largest: float) -> np.ndarray:
    return np.rint(values * (255 / largest)).astype(np.uint8)


def _tiles(image: Image.Image) -> list:  # type: ignore[type-arg]
    return getattr(image, "tile", [])


def _raw_mode(arguments: object) -> str:
    """Return Pillow's name for the pixel layout in the file, such as RGB;16B."""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""
