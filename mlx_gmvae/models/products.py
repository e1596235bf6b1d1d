"""4x4 convolution of stride 2 (S), its adjoint (T) and the kernel gradient as matrix products.

MLX has no fast versions of these for the CPU. With a border of one pixel, S reads 4x4 windows that
overlap by half. There are two ways to write it as products, and `columns` chooses one:

- `Windows`, a row for each window: one product, but every pixel is copied four times.
- `Blocks`, a row for each 2x2 block of pixels. Every window consists of four blocks, always at the
  same distances in the flat order of rows. So four products are added up, and no pixel is copied
  twice. A row of blocks at the border belongs to no window, so this is faster only on larger grids,
  and OpenBLAS needs rows that are not too short (benchmarks/convolutions.py).
"""

from typing import NamedTuple

import mlx.core as mx

SMALLEST_GRID = 16 * 16  # windows, from which on blocks are faster
FEWEST_CHANNELS = 8


class Windows(NamedTuple):
    """4x4 windows of images, (B, h, w, 16 C)."""

    rows: mx.array

    def strided(self, kernel: mx.array, bias: mx.array | None = None) -> mx.array:
        """Return S for a kernel (O, 4, 4, C), (B, h, w, O)."""
        flat = self.rows.reshape(-1, kernel[0].size)
        answer = _sum_of_products([(flat, kernel.reshape(len(kernel), -1).T)], bias)
        return answer.reshape(*self.rows.shape[:3], -1)

    def kernel_gradient(self, small: mx.array, kernel: mx.array) -> mx.array:
        """Return the gradient of sum(small * S(images, kernel)), for `small` (B, h, w, O)."""
        flat = self.rows.reshape(-1, kernel[0].size)
        return (small.reshape(-1, len(kernel)).T @ flat).reshape(kernel.shape)


class Blocks(NamedTuple):
    """2x2 blocks of images in a grid of h+1 x w+1, row by row, (B (h+1) (w+1), 4 C)."""

    rows: mx.array
    size: tuple[int, int, int]  # B, h, w

    def strided(self, kernel: mx.array, bias: mx.array | None = None) -> mx.array:
        """Return S for a kernel (O, 4, 4, C), (B, h, w, O)."""
        batch, height, width = self.size
        num = len(self.rows) - width - 2
        starts = zip(_distances(width), _block_kernels(kernel), strict=True)
        total = _sum_of_products([(self.rows[s : s + num], matrix) for s, matrix in starts], bias)
        column, row = len(kernel), len(kernel) * (width + 1)
        view = mx.as_strided(
            total, (batch, height, width, column), (row * (height + 1), row, column, 1)
        )
        return mx.contiguous(view)

    def kernel_gradient(self, small: mx.array, kernel: mx.array) -> mx.array:
        """Return the gradient of sum(small * S(images, kernel)), for `small` (B, h, w, O)."""
        _, _, width = self.size
        num = len(self.rows) - width - 2
        of_blocks = _with_border(small)[:num]
        parts = [
            self.rows[distance : distance + num].T @ of_blocks for distance in _distances(width)
        ]
        out_channels, _, _, channels = kernel.shape
        taps = mx.stack(parts).reshape(2, 2, 2, 2, channels, out_channels)
        return taps.transpose(5, 0, 2, 1, 3, 4).reshape(kernel.shape)


def columns(x: mx.array) -> Windows | Blocks:
    """Return the rows of the matrix products for images (B, H, W, C)."""
    batch, height, width, channels = x.shape
    if not _in_blocks(height, width, channels):
        return Windows(_windows(x, 4, 2))
    h, w = height // 2, width // 2
    x = mx.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])[:, : 2 * h + 2, : 2 * w + 2]
    blocks = x.reshape(batch, h + 1, 2, w + 1, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return Blocks(blocks.reshape(-1, 4 * channels), (batch, h, w))


def transposed(
    x: mx.array, kernel: mx.array, size: tuple[int, int], bias: mx.array | None = None
) -> mx.array:
    """Return T for a kernel (C, 4, 4, O): (B, h, w, C) -> (B, *size, O), h, w half of `size`.

    Every 2x2 window of the input gives a 2x2 block of the output that begins one pixel before it.
    """
    odd = [side % 2 for side in size]
    padded = mx.pad(x, [(0, 0), (0, odd[0]), (0, odd[1]), (0, 0)])
    batch, height, width, _ = padded.shape
    out_channels = kernel.shape[-1]
    bias = None if bias is None else mx.tile(bias, 4)
    if _in_blocks(*size, out_channels):
        blocks = _summed_blocks(padded, kernel, bias)
    else:
        matrix = _window_kernel(kernel)
        windows = _windows(padded, 2, 1).reshape(-1, len(matrix))
        blocks = _sum_of_products([(windows, matrix)], bias)
    # Pixel (2p + a, 2q + b) is in block (p + a, q + b) at (1 - a, 1 - b).
    column, row = 4 * out_channels, 4 * out_channels * (width + 1)
    image = mx.as_strided(
        blocks,
        (batch, height, 2, width, 2, out_channels),
        (row * (height + 1), row, row - 2 * out_channels, column, column - out_channels, 1),
        3 * out_channels,
    )
    image = image.reshape(batch, 2 * height, 2 * width, out_channels)
    return image[:, : size[0], : size[1]] if any(odd) else image


def num_values(height: int, width: int, channels: int, out_channels: int) -> int:
    """Return how many values per image the rows of S and T hold, (H, W, C) <-> (H/2, W/2, O)."""
    h, w = height // 2, width // 2
    blocks = 4 * channels * (h + 1) * (w + 1)
    if _in_blocks(height, width, channels):
        return blocks
    return 16 * channels * h * w + 4 * out_channels * (h + 1) * (w + 1)


def _in_blocks(height: int, width: int, channels: int) -> bool:
    return (height // 2) * (width // 2) >= SMALLEST_GRID and channels >= FEWEST_CHANNELS


def _windows(x: mx.array, side: int, stride: int) -> mx.array:
    """Return square windows of images with a border of zeros, (B, h, w, side side C)."""
    x = mx.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    batch, height, width, channels = x.shape
    h, w = (height - side) // stride + 1, (width - side) // stride + 1
    row = width * channels
    shape = (batch, h, w, side, side * channels)
    view = mx.as_strided(x, shape, (height * row, stride * row, stride * channels, row, 1))
    return view.reshape(batch, h, w, -1)


def _window_kernel(kernel: mx.array) -> mx.array:
    """Return a kernel (C, 4, 4, O) as a matrix from a 2x2 window to a 2x2 block, (4 C, 4 O).

    Along each axis, tap t of phase p is the kernel's tap 3 - 2t - p.
    """
    channels, _, _, out_channels = kernel.shape
    taps = kernel[:, ::-1, ::-1].reshape(channels, 2, 2, 2, 2, out_channels)
    phases_last_first = taps[:, :, ::-1, :, ::-1].transpose(1, 3, 0, 2, 4, 5)
    return phases_last_first.reshape(4 * channels, 4 * out_channels)


def _summed_blocks(x: mx.array, kernel: mx.array, bias: mx.array | None) -> mx.array:
    """Return the output blocks of T by four products with x itself, (B (h+1) (w+1), 4 O)."""
    width = x.shape[2]
    flat = _with_border(x)
    num, channels = flat.shape
    before = mx.concatenate([mx.zeros((width + 2, channels)), flat])
    starts = (width + 2 - distance for distance in _distances(width))
    factors = zip(starts, _block_kernels(kernel), strict=True)
    return _sum_of_products([(before[s : s + num], matrix.T) for s, matrix in factors], bias)


def _sum_of_products(factors: list[tuple[mx.array, mx.array]], bias: mx.array | None) -> mx.array:
    """Return the sum of a @ b over `factors`, plus the bias if there is one."""
    (a, b), *others = factors
    total = a @ b if bias is None else mx.addmm(bias, a, b)
    for a, b in others:
        total = mx.addmm(total, a, b)
    return total


def _with_border(x: mx.array) -> mx.array:
    """Append a row and a column of zeros: (B, h, w, C) -> (B (h+1) (w+1), C)."""
    return mx.pad(x, [(0, 0), (0, 1), (0, 1), (0, 0)]).reshape(-1, x.shape[-1])


def _distances(width: int) -> tuple[int, int, int, int]:
    """Return the distances from a window's first block to its four, in flat rows of w+1 blocks."""
    return 0, 1, width + 1, width + 2


def _block_kernels(kernel: mx.array) -> list[mx.array]:
    """Return a kernel (O, 4, 4, C) as four matrices (4 C, O), one for each block of a window."""
    out_channels, _, _, channels = kernel.shape
    blocks = kernel.reshape(out_channels, 2, 2, 2, 2, channels).transpose(1, 3, 2, 4, 5, 0)
    return list(blocks.reshape(4, 4 * channels, out_channels))
