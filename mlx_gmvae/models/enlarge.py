"""Enlargement of small images, where convolutions and augmentation need smaller pixels."""

import math

import mlx.core as mx
import numpy as np
from PIL import Image

SMALLEST_SIDE, LARGEST_SIDE = 16, 32  # pixels


def factor_for(image_size: tuple[int, int]) -> int:
    """Return the factor that enlarges images to at least 16 pixels per side, and at most 32.

    >>> factor_for((8, 8)), factor_for((28, 28)), factor_for((1, 2000))
    (2, 1, 1)
    """
    wanted = math.ceil(SMALLEST_SIDE / min(image_size))
    return max(1, min(wanted, LARGEST_SIDE // max(image_size)))


def enlarge(x: mx.array, factor: int) -> mx.array:
    """Enlarge images (B, H, W, C) in [0, 1] to (B, factor * H, factor * W, C), bicubic."""
    batch, height, width, channels = x.shape
    rows, columns = (mx.array(bicubic(side, factor * side)) for side in (height, width))
    x = rows @ x.reshape(batch, height, width * channels)
    x = columns @ x.reshape(batch * factor * height, width, channels)
    return mx.clip(x, 0, 1).reshape(batch, factor * height, factor * width, channels)


def bicubic(side: int, resampled: int) -> np.ndarray:
    """Return the matrix (resampled, side) of Pillow's bicubic resampling with antialiasing."""
    unit = Image.fromarray(np.eye(side, dtype=np.float32))
    return np.asarray(unit.resize((side, resampled), Image.Resampling.BICUBIC))
