"""Random affine maps of images, applied in MLX, inside the compiled step."""

import math

import mlx.core as mx
import numpy as np

from ..device.parallel import on_cpu, over_batch

ROTATION = math.radians(15)
SCALE = 0.15
SHEAR = math.radians(12)
SHIFT = 2.5 / 28  # of the side
NUMBERS = 6  # random numbers per map


def affine(x: mx.array, maps: mx.array) -> mx.array:
    """Rotate, shear, scale and shift each image (B, H, W, C) by its own numbers, `maps` (6, B).

    The numbers are in [-1, 1], for up to +-15 degrees, +-12 degrees, +-15 % and +-9 % of the side.
    Interpolation is bilinear. Outside the image its border continues.
    """
    batch, height, width, _ = x.shape
    angle, shear, scale_y, scale_x, shift_y, shift_x = maps
    cos, sin, tan = mx.cos(ROTATION * angle), mx.sin(ROTATION * angle), mx.tan(SHEAR * shear)
    scale_y, scale_x = 1 + SCALE * scale_y, 1 + SCALE * scale_x
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    # Maps the row and column of a pixel, counted from the middle, to those that it comes from.
    matrices = mx.stack([
        scale_y * (cos - sin * tan), -scale_y * sin, middle_y + SHIFT * height * shift_y,
        scale_x * (sin + cos * tan), scale_x * cos, middle_x + SHIFT * width * shift_x,
    ]).reshape(2, 3, batch).transpose(0, 2, 1)  # fmt: skip
    # One matrix product is faster than broadcast sums.
    sources = matrices.reshape(-1, 3) @ mx.array(_grid(height, width))
    sources = sources.reshape(2, batch, height, width)
    if not on_cpu():
        return _bilinear_by_gather(x, sources)
    return over_batch(bilinear, x, sources[0], sources[1])


def _grid(height: int, width: int) -> np.ndarray:
    """Return the row and the column of each pixel, from the middle, and 1: (3, H * W)."""
    rows = np.arange(height, dtype=np.float32) - (height - 1) / 2
    columns = np.arange(width, dtype=np.float32) - (width - 1) / 2
    rows, columns = np.meshgrid(rows, columns, indexing="ij")
    return np.stack([rows, columns, np.ones_like(rows)]).reshape(3, -1)


def _bilinear_by_gather(x: mx.array, sources: mx.array) -> mx.array:
    """Return `bilinear` at rows and columns (2, B, h, w), with few kernels, for a GPU."""
    batch, height, width, channels = x.shape
    last = np.array([height - 1, width - 1], np.float32).reshape(2, 1, 1, 1)
    last_but_one = np.maximum(last - 1, 0).astype(np.int32)
    sources = mx.minimum(mx.maximum(sources, 0), mx.array(last))
    first = mx.minimum(sources.astype(mx.int32), mx.array(last_but_one))
    down, right = (sources - first)[..., None]
    # The indices of the four neighbours among all pixels of the batch.
    below, beside = width * (height > 1), 1 * (width > 1)
    of_image = np.arange(batch, dtype=np.int32).reshape(batch, 1, 1) * (height * width)
    row, column = first
    index = row * width + column + mx.array(of_image)
    offsets = np.array([0, beside, below, below + beside], np.int32).reshape(4, 1, 1, 1)
    taken = x.reshape(-1, channels)[index + mx.array(offsets)].reshape(2, 2, *index.shape, channels)
    upper, lower = taken[:, 0] + right * (taken[:, 1] - taken[:, 0])
    return upper + down * (lower - upper)


def bilinear(x: mx.array, rows: mx.array, columns: mx.array) -> mx.array:
    """Sample images (B, H, W, C) at fractional positions (B, h, w) in pixels."""
    batch, height, width, channels = x.shape
    rows, columns = mx.clip(rows, 0, height - 1), mx.clip(columns, 0, width - 1)
    # The upper left of four neighbours, which are all within the image.
    top = mx.minimum(rows.astype(mx.int32), max(0, height - 2))
    left = mx.minimum(columns.astype(mx.int32), max(0, width - 2))
    below, beside = width * (height > 1), 1 * (width > 1)
    down = (rows - top.astype(rows.dtype))[..., None]
    right = (columns - left.astype(columns.dtype))[..., None]
    first = (top * width + left).reshape(batch, -1, 1)
    pixels = x.reshape(batch, -1, channels)

    def at(offset: int) -> mx.array:
        # On the CPU, take_along_axis is eight times as fast as indexing.
        taken = mx.take_along_axis(pixels, first + offset, axis=1)
        return taken.reshape(*rows.shape, channels)

    upper = at(0) + right * (at(beside) - at(0))
    lower = at(below) + right * (at(below + beside) - at(below))
    return upper + down * (lower - upper)
