"""A function over a whole set of uint8 images, a batch at a time."""

import math
from collections.abc import Callable

import mlx.core as mx
import numpy as np

from .images import Images

BATCH_PIXELS = 1 << 20


def as_float(images: mx.array | np.ndarray) -> mx.array:
    """uint8 pixels as float32 in [0, 1]."""
    return mx.array(images).astype(mx.float32) / 255


def over_batches(
    function: Callable[[mx.array], mx.array], images: Images, copies: int = 1
) -> np.ndarray:
    """Concatenate `function` over batches of float images; one evaluation a batch.

    `copies` is how many times the function multiplies a batch, to bound its memory.
    """
    size = batch_size(images.shape[1:], copies)
    parts = []
    for start in range(0, len(images), size):
        parts.append(np.array(function(as_float(images[start : start + size]))))
    return np.concatenate(parts)


def batch_size(image_shape: tuple[int, ...], copies: int = 1) -> int:
    """How many images of (H, W, C) go through a network at a time."""
    return max(1, BATCH_PIXELS // (copies * math.prod(image_shape)))
