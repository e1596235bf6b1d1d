"""Small images enlarged: convolutions and augmentation need pixels finer than strokes."""

import math

import mlx.core as mx
import numpy as np
from PIL import Image

SMALLEST_SIDE, LARGEST_SIDE = 16, 32  # pixels


def factor_for(image_size: tuple[int, int]) -> int:
    """By how much images are to be enlarged: to 16 pixels at least, and to 32 at most.

    >>> factor_for((8, 8)), factor_for((28, 28)), factor_for((1, 2000))
    (2, 1, 1)
    """
    wanted = math.ceil(SMALLEST_SIDE / min(image_size))
    return max(1, min(wanted, LARGEST_SIDE // max(image_size)))


def enlarge(x: mx.array, factor: int) -> mx.array:
    """Images (B, H, W, C) in [0, 1], bicubic, as (B, factor * H, factor * W, C)."""
    batch, height, width, channels = x.shape
    rows, columns = (mx.array(bicubic(side, factor * side)) for side in (height, width))
    x = rows @ x.reshape(batch, height, width * channels)
    x = columns @ x.reshape(batch * factor * height, width, channels)
    return mx.clip(x, 0, 1).reshape(batch, factor * height, factor * width, channels)


def bicubic(side: int, resampled: int) -> np.ndarray:
    """What Pillow's bicubic resampling with antialiasing does to a column, (resampled, side)."""
    unit = Image.fromarray(np.eye(side, dtype=np.float32))
    return np.asarray(unit.resize((side, resampled), Image.Resampling.BICUBIC))
