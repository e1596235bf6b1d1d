"""Pictures of images: grids, single files, and an animation of the training."""

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..errors import InputError
from ..system.files import atomic_write

MARGIN = 2
SMALLEST_SIDE = 56
SHOWN_SIDE = 96  # largest side of an image among many, in pixels
CAPTION_HEIGHT = 16
FRAME_MILLISECONDS = 400
LAST_FRAME_MILLISECONDS = 2000
MOST_FRAMES, LEAST_FRAMES = 100, 10  # in an animation
ANIMATED_PIXELS = 1 << 26  # pixels of all frames together, one byte each in memory


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Convert pixels in [0, 1] to uint8; uint8 pixels stay as they are."""
    if images.dtype == np.uint8:
        return images
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def tile(images: np.ndarray, columns: int, margin: int = MARGIN) -> np.ndarray:
    """Arrange (N, H, W, C) images in rows of `columns` on white, as a uint8 (H', W', C) picture.

    >>> tile(np.zeros((5, 8, 8, 1), np.uint8), columns=3, margin=1).shape
    (19, 28, 1)
    """
    images = to_uint8(images)
    num, height, width, channels = images.shape
    rows = math.ceil(num / columns)
    cell_height, cell_width = height + margin, width + margin
    canvas = np.full(
        (rows * cell_height + margin, columns * cell_width + margin, channels), 255, np.uint8
    )
    for position, image in enumerate(images):
        top = margin + position // columns * cell_height
        left = margin + position % columns * cell_width
        canvas[top : top + height, left : left + width] = image
    return canvas


def save_grid(
    path: Path, images: np.ndarray, columns: int, smallest_side: int = SMALLEST_SIDE
) -> None:
    """Write images in rows of `columns`, and enlarge small ones by an integer factor."""
    save_image(path, grid(images, columns, smallest_side))


def grid(images: np.ndarray, columns: int, smallest_side: int = SMALLEST_SIDE) -> np.ndarray:
    """Arrange images in rows of `columns`, with small ones enlarged by an integer factor."""
    factor = max(1, round(smallest_side / max(images.shape[1:3])))
    return tile(images.repeat(factor, axis=1).repeat(factor, axis=2), columns)


def shrunk(images: np.ndarray, longest_side: int) -> np.ndarray:
    """Reduce images (N, H, W, C) to a longer side of at most `longest_side`, as uint8."""
    images = to_uint8(images)
    scale = longest_side / max(images.shape[1:3])
    if scale >= 1:
        return images
    height, width = (max(1, round(side * scale)) for side in images.shape[1:3])
    small = [np.array(as_pillow(image).resize((width, height))) for image in images]
    return np.stack(small).reshape(len(images), height, width, -1)


def can_write(path: Path) -> bool:
    """Return whether the file extension is that of an image format."""
    return path.suffix.lower() in Image.registered_extensions()


def save_image(path: Path, image: np.ndarray, durable: bool = True) -> None:
    """Write one (H, W, C) image with 1, 3 or 4 channels; other numbers of channels are averaged.

    One of many files need not be `durable` (see `system.files.atomic_write`).
    """
    with atomic_write(path, durable) as written:
        try:
            as_pillow(image).save(written)
        except ValueError as error:  # e.g. an image larger than the format allows
            raise InputError(f"cannot write {path} ({error}); choose .png") from None


def as_pillow(image: np.ndarray) -> Image.Image:
    """Convert one (H, W, C) image to Pillow; other than 1, 3 or 4 channels are averaged."""
    image = to_uint8(image)
    if image.shape[-1] not in (1, 3, 4):
        image = np.rint(image.mean(axis=-1, keepdims=True)).astype(np.uint8)
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def as_png(image: np.ndarray) -> bytes:
    """Return one (H, W, C) image as the content of a PNG file."""
    file = io.BytesIO()
    as_pillow(image).save(file, "PNG")
    return file.getvalue()


def as_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Return one (H, W, C) image as the content of a JPEG file."""
    file = io.BytesIO()
    as_pillow(image).save(file, "JPEG", quality=quality)
    return file.getvalue()


def save_progress_frame(path: Path, pictures: list[np.ndarray], caption: str) -> None:
    """Write pictures side by side below a caption, as one frame of `save_animation`."""
    parts = [as_pillow(picture).convert("RGB") for picture in pictures]
    width = sum(part.width for part in parts) + MARGIN * (len(parts) - 1)
    height = CAPTION_HEIGHT + max(part.height for part in parts)
    frame = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(frame).text((MARGIN, MARGIN), caption, fill="black")
    left = 0
    for part in parts:
        frame.paste(part, (left, CAPTION_HEIGHT))
        left += part.width + MARGIN
    # A palette as in the animation, which is written again from all frames each time.
    few_colours = frame.convert("P", palette=Image.Palette.ADAPTIVE)
    with atomic_write(path) as written:
        few_colours.save(written)


def save_animation(path: Path, frames: list[Path]) -> None:
    """Write a looping GIF of PNG files in order, which shows the last one longer.

    If there are many files, it shows some at equal distances to save time and memory. Only one
    file is open at a time, since systems limit the number of open files.
    """
    with Image.open(frames[0]) as image:
        most = min(max(ANIMATED_PIXELS // (image.width * image.height), LEAST_FRAMES), MOST_FRAMES)
    if len(frames) > most:
        frames = [frames[row] for row in np.linspace(0, len(frames) - 1, most).round().astype(int)]
    images = map(_read, frames)
    durations = [FRAME_MILLISECONDS] * (len(frames) - 1) + [LAST_FRAME_MILLISECONDS]
    with atomic_write(path) as written:
        next(images).save(written, save_all=True, append_images=images, duration=durations, loop=0)


def _read(path: Path) -> Image.Image:
    """Read the picture in a file and close the file."""
    with Image.open(path) as image:
        return image.copy()


def interleave(originals: np.ndarray, reconstructions: np.ndarray, columns: int) -> np.ndarray:
    """Arrange rows of originals, each with the row of their reconstructions below it."""
    originals, reconstructions = to_uint8(originals), to_uint8(reconstructions)
    rows = []
    for start in range(0, len(originals), columns):
        for images in (originals, reconstructions):
            row = images[start : start + columns]
            blank = np.full((columns - len(row), *row.shape[1:]), 255, np.uint8)
            rows += [row, blank]
    return np.concatenate(rows)
