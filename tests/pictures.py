"""Pictures that tests write, and what they read out of saved ones: images, pixels."""

import itertools
from pathlib import Path
from typing import Any

from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.data.splits import Splits

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

MARGIN = 2  # white pixels around each image of a grid
DPI = 120  # of a saved diagram

FLOWER = Image.fromarray(load_sample_images().images[1])  # 427 x 640, colour
PHOTO = FLOWER.crop((100, 100, 148, 132))  # 32 x 48


def write(folder: Path, name: str, image: Image.Image = PHOTO, **options: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def read(path: Path) -> np.ndarray:
    """A picture as (H, W) or (H, W, C) uint8; one with a palette in its colours."""
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB") if picture.mode == "P" else picture)


def cells(picture: np.ndarray, height: int, width: int, columns: int) -> np.ndarray:
    """The places of a grid as (N, height, width, C), once what lies between them is white.

    They were enlarged by a whole factor, in which each pixel became a square.
    """
    picture = picture.reshape(*picture.shape[:2], -1)
    factor, rest = divmod((picture.shape[1] - MARGIN) // columns - MARGIN, width)
    assert factor >= 1 and rest == 0
    down, across = factor * height + MARGIN, factor * width + MARGIN
    rows, rest = divmod(len(picture) - MARGIN, down)
    assert rest == 0 and picture.shape[1] == columns * across + MARGIN
    is_margin = np.ones(picture.shape[:2], bool)
    found = []
    for number in range(rows * columns):
        top, left = MARGIN + number // columns * down, MARGIN + number % columns * across
        place = (slice(top, top + factor * height), slice(left, left + factor * width))
        small = picture[place][::factor, ::factor]
        squares = np.kron(small, np.ones((factor, factor, 1), np.uint8))
        np.testing.assert_array_equal(picture[place], squares)
        is_margin[place] = False
        found.append(small)
    assert (picture[is_margin] == 255).all()
    return np.stack(found)


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1] to the nearest of 256 steps."""
    return np.rint(np.asarray(images, np.float64) * 255).astype(np.uint8)


def pixel_under(figure: Any, axis: Any, picture: np.ndarray, x: float, y: float) -> np.ndarray:
    """The colour (3,) of a saved diagram where a point of an axis lies."""
    across, up = axis.transData.transform((x, y)) * DPI / figure.dpi
    return picture[len(picture) - 1 - int(up), int(across), :3]


def kinds_in(axis: Any) -> dict[str, int]:
    """The kinds of points that a scatter diagram shows, and how many there are of each."""
    return {dots.get_label(): len(dots.get_offsets()) for dots in axis.collections}


def pieces(num: int, side: int = 16) -> list[Image.Image]:
    """Different real squares of a photograph."""
    corners = itertools.product(range(0, 427 - side, side), range(0, 640 - side, side))
    some = list(corners)[::7][:num]
    return [FLOWER.crop((left, top, left + side, top + side)) for top, left in some]


def load_folder(folder: Path, **options: Any) -> Splits:
    return load_dataset(str(folder), folder.parent / "cache", **options)


def kept_arrays(folder: Path) -> list[Path]:
    return sorted((folder.parent / "cache" / "folders").glob("*.npy"))


def labelled(folder: Path, classes: str = "cat dog", num: int = 10) -> Path:
    for name in classes.split():
        for number, piece in enumerate(pieces(num)):
            write(folder / name / "deeper", f"{number:02d}.png", piece)
    return folder
