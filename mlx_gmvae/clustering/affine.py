"""Random affine maps of images, applied in MLX, inside the compiled step."""

import math

import mlx.core as mx

from ..device.parallel import over_batch

ROTATION = math.radians(15)
SCALE = 0.15
SHEAR = math.radians(12)
SHIFT = 2.5 / 28  # of the side
NUMBERS = 6  # that a map is made of


def affine(x: mx.array, maps: mx.array) -> mx.array:
    """Each image (B, H, W, C) under its own rotation, scale, shear and shift, by `maps` (6, B).

    Those are numbers in [-1, 1], for up to +-15 degrees, +-12 degrees, +-15 % and +-9 % of the
    side. Bilinear; outside the image its border continues.
    """
    batch, height, width, _ = x.shape
    angle, shear, scale_y, scale_x, shift_y, shift_x = maps
    cos, sin, tan = mx.cos(ROTATION * angle), mx.sin(ROTATION * angle), mx.tan(SHEAR * shear)
    scale_y, scale_x = 1 + SCALE * scale_y, 1 + SCALE * scale_x
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    # The row and the column that a pixel comes from, from its own, counted from the middle.
    matrices = mx.stack([
        scale_y * (cos - sin * tan), -scale_y * sin, middle_y + SHIFT * height * shift_y,
        scale_x * (sin + cos * tan), scale_x * cos, middle_x + SHIFT * width * shift_x,
    ]).reshape(2, 3, batch).transpose(0, 2, 1)  # fmt: skip
    rows, columns = mx.meshgrid(
        mx.arange(height) - middle_y, mx.arange(width) - middle_x, indexing="ij"
    )
    grid = mx.stack([rows, columns, mx.ones_like(rows)]).reshape(3, -1)
    # One product, which is faster than sums that broadcast.
    sources = (matrices.reshape(-1, 3) @ grid).reshape(2, batch, height, width)
    return over_batch(bilinear, x, sources[0], sources[1])


def bilinear(x: mx.array, rows: mx.array, columns: mx.array) -> mx.array:
    """Sample images (B, H, W, C) at fractional positions (B, h, w) in pixels."""
    batch, height, width, channels = x.shape
    rows, columns = mx.clip(rows, 0, height - 1), mx.clip(columns, 0, width - 1)
    # The upper left of four neighbours, all of which are within the image.
    top = mx.minimum(rows.astype(mx.int32), max(0, height - 2))
    left = mx.minimum(columns.astype(mx.int32), max(0, width - 2))
    below, beside = width * (height > 1), 1 * (width > 1)
    down = (rows - top.astype(rows.dtype))[..., None]
    right = (columns - left.astype(columns.dtype))[..., None]
    first = (top * width + left).reshape(batch, -1, 1)
    pixels = x.reshape(batch, -1, channels)

    def at(offset: int) -> mx.array:
        # take_along_axis, which is eight times as fast on the CPU as indexing.
        taken = mx.take_along_axis(pixels, first + offset, axis=1)
        return taken.reshape(*rows.shape, channels)

    upper = at(0) + right * (at(beside) - at(0))
    lower = at(below) + right * (at(below + beside) - at(below))
    return upper + down * (lower - upper)
