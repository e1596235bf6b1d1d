"""Pictures made of images: grids, single files, an animation of the training."""

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..errors import InputError
from ..system.files import atomic_write

MARGIN = 2
SMALLEST_SIDE = 56
SHOWN_SIDE = 96  # of an image among many, at most
CAPTION_HEIGHT = 16
FRAME_MILLISECONDS = 400
LAST_FRAME_MILLISECONDS = 2000
MOST_FRAMES, LEAST_FRAMES = 100, 10  # of an animation
ANIMATED_PIXELS = 1 << 26  # of all its frames, a byte each in memory


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1] as uint8; uint8 stays."""
    if images.dtype == np.uint8:
        return images
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def tile(images: np.ndarray, columns: int, margin: int = MARGIN) -> np.ndarray:
    """(N, H, W, C) images in rows of `columns`, on white, as one uint8 (H', W', C) picture.

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
    """Write images in rows of `columns`, small ones enlarged by a whole factor."""
    save_image(path, grid(images, columns, smallest_side))


def grid(images: np.ndarray, columns: int, smallest_side: int = SMALLEST_SIDE) -> np.ndarray:
    """Images in rows of `columns`, small ones enlarged by a whole factor, as one picture."""
    factor = max(1, round(smallest_side / max(images.shape[1:3])))
    return tile(images.repeat(factor, axis=1).repeat(factor, axis=2), columns)


def shrunk(images: np.ndarray, longest_side: int) -> np.ndarray:
    """Images (N, H, W, C) whose longer side is at most `longest_side`, as uint8."""
    images = to_uint8(images)
    scale = longest_side / max(images.shape[1:3])
    if scale >= 1:
        return images
    height, width = (max(1, round(side * scale)) for side in images.shape[1:3])
    small = [np.array(as_pillow(image).resize((width, height))) for image in images]
    return np.stack(small).reshape(len(images), height, width, -1)


def can_write(path: Path) -> bool:
    """Whether the end of the name is that of a picture format."""
    return path.suffix.lower() in Image.registered_extensions()


def save_image(path: Path, image: np.ndarray, durable: bool = True) -> None:
    """Write one (H, W, C) image; one, three and four channels as they are, others averaged.

    One of many need not be `durable`, see `device.files.whole`.
    """
    with atomic_write(path, durable) as written:
        try:
            as_pillow(image).save(written)
        except ValueError as error:  # as where it is larger than the format's largest
            raise InputError(f"cannot write {path} ({error}); choose .png") from None


def as_pillow(image: np.ndarray) -> Image.Image:
    """One (H, W, C) image for Pillow; of unusual channels their mean."""
    image = to_uint8(image)
    if image.shape[-1] not in (1, 3, 4):
        image = np.rint(image.mean(axis=-1, keepdims=True)).astype(np.uint8)
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def as_png(image: np.ndarray) -> bytes:
    """One (H, W, C) image as the content of a PNG file."""
    file = io.BytesIO()
    as_pillow(image).save(file, "PNG")
    return file.getvalue()


def as_jpeg(image: np.ndarray, quality: int) -> bytes:
    """One (H, W, C) image as the content of a JPEG file."""
    file = io.BytesIO()
    as_pillow(image).save(file, "JPEG", quality=quality)
    return file.getvalue()


def save_progress_frame(path: Path, pictures: list[np.ndarray], caption: str) -> None:
    """Pictures side by side under a caption: one frame of `save_animation`."""
    parts = [as_pillow(picture).convert("RGB") for picture in pictures]
    width = sum(part.width for part in parts) + MARGIN * (len(parts) - 1)
    height = CAPTION_HEIGHT + max(part.height for part in parts)
    frame = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(frame).text((MARGIN, MARGIN), caption, fill="black")
    left = 0
    for part in parts:
        frame.paste(part, (left, CAPTION_HEIGHT))
        left += part.width + MARGIN
    # With few colours, as the animation will have it: it is made of frames again each time.
    few_colours = frame.convert("P", palette=Image.Palette.ADAPTIVE)
    with atomic_write(path) as written:
        few_colours.save(written)


def save_animation(path: Path, frames: list[Path]) -> None:
    """A GIF that shows PNG files in order, the last one longer, for ever again.

    Of many files it shows some at equal distances, for the time's and the memory's sake; and one is
    open at a time, since systems allow few open files.
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
    """The picture in a file, which is closed again."""
    with Image.open(path) as image:
        return image.copy()


def interleave(originals: np.ndarray, reconstructions: np.ndarray, columns: int) -> np.ndarray:
    """A row of originals, the row of their reconstructions below it, and so on."""
    originals, reconstructions = to_uint8(originals), to_uint8(reconstructions)
    rows = []
    for start in range(0, len(originals), columns):
        for images in (originals, reconstructions):
            row = images[start : start + columns]
            blank = np.full((columns - len(row), *row.shape[1:]), 255, np.uint8)
            rows += [row, blank]
    return np.concatenate(rows)
