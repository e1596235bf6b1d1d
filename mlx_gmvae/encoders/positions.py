"""Positions of patches: interpolation of learned embeddings, and rotary embeddings (RoPE)."""

import mlx.core as mx
import numpy as np

KEYS, ANTIALIASED = -0.75, -0.5  # parameter of PyTorch's cubic kernel without and with antialias


def interpolated(
    positions: mx.array, grid: tuple[int, int], num_prefix: int, antialias: bool
) -> mx.array:
    """Interpolate the embeddings (n, D) of a square grid to another grid (h, w).

    The first `num_prefix` embeddings are not of patches and stay as they are. The interpolation is
    that of `torch.nn.functional.interpolate`, bicubic with align_corners=False.
    """
    num, dims = positions.shape
    side = round((num - num_prefix) ** 0.5)
    if grid == (side, side):
        return positions
    prefix, square = positions[:num_prefix], positions[num_prefix:].reshape(side, side, dims)
    rows, columns = (mx.array(resampling(side, new, antialias)) for new in grid)
    with_rows = (rows @ square.reshape(side, -1)).reshape(grid[0], side, dims)
    whole = columns @ with_rows  # (h, w, D)
    return mx.concatenate([prefix, whole.reshape(-1, dims)])


def resampling(old: int, new: int, antialias: bool) -> np.ndarray:
    """Return the matrix (new, old) that resamples a line of `old` values to `new`, bicubic."""
    scale = old / new
    # Antialiasing widens the kernel if the line becomes shorter.
    width = max(scale, 1.0) if antialias else 1.0
    centres = (np.arange(new) + 0.5) * scale - 0.5
    reach = int(np.ceil(2 * width)) + 1
    taps = np.floor(centres)[:, None].astype(int) + np.arange(-reach, reach + 1)  # (new, taps)
    weights = _cubic((taps - centres[:, None]) / width, ANTIALIASED if antialias else KEYS)
    if antialias:  # values beyond the ends have no weight
        weights *= (taps >= 0) & (taps < old)
        weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((new, old))  # without antialias the end values are repeated
    np.add.at(matrix, (np.arange(new)[:, None], taps.clip(0, old - 1)), weights)
    return matrix.astype(np.float32)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Return Keys' cubic convolution kernel with parameter `a`."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def rotations(
    grid: tuple[int, int], num_prefix: int, head_dims: int, theta: float
) -> tuple[mx.array, mx.array]:
    """Return cosines and sines (N, head_dims) of the rotary embedding of DINOv3.

    Patches have coordinates in [-1, 1]: rows for the first half of the angles, columns for the
    second. The `num_prefix` tokens before them have the angle 0.
    """
    frequencies = 1 / theta ** np.arange(0, 1, 4 / head_dims, dtype=np.float32)
    rows, columns = (2 * (np.arange(num) + 0.5) / num - 1 for num in grid)
    coordinates = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    angles = (2 * np.pi * coordinates[:, :, None] * frequencies).reshape(len(coordinates), -1)
    angles = np.concatenate([np.zeros((num_prefix, angles.shape[1])), angles])
    angles = np.tile(angles, 2).astype(np.float32)
    return mx.array(np.cos(angles)), mx.array(np.sin(angles))


def rotated(x: mx.array, cosines: mx.array, sines: mx.array) -> mx.array:
    """Rotate heads (B, h, n, d) by the angles of the first n tokens."""
    num, half = x.shape[-2], x.shape[-1] // 2
    turned = mx.concatenate([-x[..., half:], x[..., :half]], axis=-1)
    return x * cosines[:num] + turned * sines[:num]
