"""Decoding of image files to uint8, for any format, depth, palette, alpha or orientation."""

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base as Tag
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from ..system.processors import available_processors
from ..system.progress_bar import progress
from . import depth
from .fitting import Size, fit

GREY_MODES = ("1", "L", "LA", "La", "I", "F")
DRAFT_FACTOR = 4  # a JPEG is decoded at no less than this multiple of the wanted size
PIXELS_AT_ONCE = 1 << 20
AHEAD = 4  # images in the queue for each thread

Item = TypeVar("Item")
Result = TypeVar("Result")


class Header(NamedTuple):
    """Contents of a file's header; height and width are those of the upright image."""

    height: int
    width: int
    is_grey: bool
    is_deep: bool = False  # 16 bits a channel, of unknown effective depth
    pages: int = 1  # of a TIFF


def read_header(path: str) -> Header:
    """Return the header of an image file. Raises any exception if the file is not readable."""
    with open(path, "rb") as file, _opened(file) as image:
        width, height = image.size
        is_grey, is_deep, pages = _is_grey(image), depth.is_deep(image), 1
        if isinstance(image, TiffImageFile):  # only some releases of Pillow rotate its size
            width, height = (image.tag_v2[tag] for tag in (Tag.ImageWidth, Tag.ImageLength))
        if _orientation(image) >= 5:  # a quarter turn
            width, height = height, width
        image.draft(None, (1, 1))  # a large JPEG can be decoded at an eighth of its size
        _require_few_pixels(image)
        if isinstance(image, TiffImageFile):
            with contextlib.suppress(Exception):  # damaged later pages must not reject the first
                pages = image.n_frames
        return Header(height, width, is_grey, is_deep, pages)


def read_largest(path: str) -> float:
    """Return the largest pixel of a 16-bit image file. Raises any exception if it is damaged."""
    with open(path, "rb") as file, _opened(file) as image:
        _require_few_pixels(image)
        return depth.largest_value(image)


def decode(path: str, channels: int, size: Size, how: str, bits: int = 16) -> np.ndarray:
    """Return the first frame of an image file as uint8 (*size, channels).

    The image is upright, on white where it is transparent, and brought to `size` by `how`, one of
    the `FITS`. `bits` is how many of 16 bits a channel are used. Raises any exception if the file
    is damaged.
    """
    image = picture(path, "L" if channels == 1 else "RGB", DRAFT_FACTOR * max(size), bits)
    return np.asarray(fit(image, size, how)).reshape(*size, channels)


def picture(path: str, mode: str, least: int, bits: int = 16) -> Image.Image:
    """Return the first frame of an image file in `mode` L or RGB, upright and on white.

    A JPEG is decoded at a half, a quarter or an eighth of its size if height and width remain at
    least `least` pixels. `bits` is as in `decode`. Raises any exception if the file is damaged.
    """
    # Given a path, Pillow maps an uncompressed TIFF into memory, and garbles it if it is rotated.
    with open(path, "rb") as file, _opened(file) as opened:
        has_lower = bits < 16 and depth.is_deep_in_colour(opened)
        bits = bits if depth.is_deep(opened) else 16
        opened.draft(None, (least, least))
        _require_few_pixels(opened)
        image = _upright(opened)
        if has_lower:
            with open(path, "rb") as again, _opened(again) as lower:
                depth.swap_bytes(lower)
                image = depth.join_bytes(image, _upright(lower), bits)
        image = depth.in_eight_bits(image, bits)
        if image.has_transparency_data:
            return _on_white(image, mode)
        return image if image.mode == mode else image.convert(mode)


def upright_on_white(image: Image.Image, mode: str | None = None) -> Image.Image:
    """Return an open image in `mode` L or RGB, upright and on white; by default L if it is grey."""
    with contextlib.suppress(Exception):  # damaged EXIF must not reject the image
        image = ImageOps.exif_transpose(image)
    image = depth.in_eight_bits(image, 16)
    mode = mode or ("L" if _is_grey(image) else "RGB")
    if image.has_transparency_data:
        return _on_white(image, mode)
    return image if image.mode == mode else image.convert(mode)


def _opened(file: IO[bytes]) -> Image.Image:
    """Open an image, also a JPEG above Pillow's pixel limit, which can be decoded smaller."""
    try:
        return Image.open(file)
    except Image.DecompressionBombError:
        file.seek(0)
        try:
            return JpegImageFile(file)
        except SyntaxError:  # another format
            raise _too_many_pixels(is_jpeg=False) from None


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    with contextlib.suppress(Exception):  # damaged EXIF must not reject the image
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _require_few_pixels(image: Image.Image) -> None:
    """Raise DecompressionBombError above Pillow's pixel limit, where Pillow itself only warns."""
    if math.prod(image.size) > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise _too_many_pixels(isinstance(image, JpegImageFile))


def _too_many_pixels(is_jpeg: bool) -> Image.DecompressionBombError:
    remedy = "use a smaller --image_size"
    if not is_jpeg:
        most = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        remedy = f"save it as a JPEG, or with at most {most} million"
    return Image.DecompressionBombError(f"too many pixels: {remedy}")


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], total: int, what: str
) -> Iterator[Result | str]:
    """Yield `function(item)` for each item in order, or the reason why it cannot be read.

    Items are processed in threads, with a progress bar. Only a few results are in memory at a time.
    """
    threads = available_processors()
    waiting: deque[Future[Result | str]] = deque()

    def attempt(item: Item) -> Result | str:
        try:
            return function(item)
        except Exception as error:  # damaged images raise a dozen unrelated types
            return _reason(error, str(item))

    with (
        ThreadPoolExecutor(threads) as pool,
        progress(total=total, desc=what, unit="im") as bar,
    ):
        for item in items:
            waiting.append(pool.submit(attempt, item))
            if len(waiting) >= AHEAD * threads:
                yield waiting.popleft().result()
                bar.update()
        while waiting:
            yield waiting.popleft().result()
            bar.update()


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # getexif would decode the image
    try:
        return int(image.getexif().get(Tag.Orientation, 1))
    except Exception:  # damaged EXIF raises a dozen unrelated types
        return 1


def _is_grey(image: Image.Image) -> bool:
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB") or [], np.int64).reshape(-1, 3)
        return bool((np.ptp(palette, axis=1) == 0).all())
    return image.mode in GREY_MODES or image.mode.startswith("I;16")


def _on_white(image: Image.Image, mode: str) -> Image.Image:
    """Return a transparent image on a white background, in blocks, which limits the memory."""
    whole, (width, height) = Image.new(mode, image.size), image.size
    columns = min(width, PIXELS_AT_ONCE)
    rows = max(1, PIXELS_AT_ONCE // columns)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            box = (left, top, min(left + columns, width), min(top + rows, height))
            part = image.crop(box).convert("RGBA")
            part = Image.alpha_composite(Image.new("RGBA", part.size, "white"), part)
            whole.paste(part.convert(mode), box)
    return whole


def _reason(error: Exception, path: str) -> str:
    if isinstance(error, UnidentifiedImageError):
        with contextlib.suppress(OSError):
            if Path(path).stat().st_size == 0:
                return "empty"
        return "not an image"
    strerror = error.strerror if isinstance(error, OSError) else None
    return " ".join((strerror or str(error) or type(error).__name__).split())


def common_bits(paths: list[str], least: int | None = None) -> int | None:
    """Return how many bits 16-bit image files use together, at least `least`; None without files.

    Files that cannot be read are ignored.
    """
    if not paths:
        return None
    values = in_threads(read_largest, paths, len(paths), "reading depths")
    found = [value for value in values if not isinstance(value, str) and value <= depth.LARGEST]
    return max(depth.bits_of(max(found, default=depth.LARGEST)), least or 0)
