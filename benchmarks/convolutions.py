"""Comparison of ways to write a stride-2 convolution and its gradients as matrix products.

    OPENBLAS_NUM_THREADS=1 python benchmarks/convolutions.py

Each way computes the convolution S(x) and, from a cotangent, the gradients of x and of the kernel,
in one compiled function, as a training step does. The results are checked against each other
first. Median milliseconds of processor time by layer are kept in
benchmarks/results/convolutions.json.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlx_gmvae.device import backend  # noqa: E402
from mlx_gmvae.models import products  # noqa: E402

import layers  # noqa: E402
import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402

LAYERS = {  # batch, side, channels in, channels out
    "28x28 classifier: 14x14, 32 -> 64": (512, 14, 32, 64),
    "28x28 encoder: 8x8, 32 -> 64": (256, 8, 32, 64),
    "64x64: 32x32, 16 -> 32": (128, 32, 16, 32),
    "64x64: 16x16, 32 -> 64": (128, 16, 32, 64),
    "256x256: 256x256, 3 -> 16": (16, 256, 3, 16),
    "256x256: 128x128, 16 -> 16": (16, 128, 16, 16),
    "256x256: 64x64, 16 -> 16": (16, 64, 16, 16),
}
Answers = tuple[mx.array, mx.array, mx.array]  # S(x), gradient of x, gradient of the kernel


def main() -> None:
    backend.keep_freed_memory()
    mx.set_default_device(mx.cpu)
    backend.choose_fusing()
    results = {}
    for layer, sizes in LAYERS.items():
        results[layer] = milliseconds(*sizes)
        print(layer, *(f"{way}: {value}" for way, value in results[layer].items()), sep="\n  ")
    layers.keep("convolutions", results)


def milliseconds(batch: int, side: int, channels: int, out_channels: int) -> dict[str, float]:
    x = mx.random.normal((batch, side, side, channels))
    kernel = mx.random.normal((out_channels, 4, 4, channels))
    cotangent = mx.random.normal((batch, side // 2, side // 2, out_channels))
    mx.eval(x, kernel, cotangent)
    compiled = {way: mx.compile(function) for way, function in WAYS.items()}
    expected = compiled["windows"](x, kernel, cotangent)
    for function in compiled.values():
        for ours, theirs in zip(function(x, kernel, cotangent), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-2)
    del expected, ours, theirs
    return {
        way: round(layers.milliseconds(function, x, kernel, cotangent), 1)
        for way, function in compiled.items()
    }


def by_products(smallest_grid: int) -> Callable[..., Answers]:
    """Return the package's own form, with blocks for grids from this size on."""

    def function(x: mx.array, kernel: mx.array, cotangent: mx.array) -> Answers:
        with patch.multiple(products, SMALLEST_GRID=smallest_grid, FEWEST_CHANNELS=1):
            rows = products.columns(x)
            return (
                rows.strided(kernel),
                products.transposed(cotangent, kernel, x.shape[1:3]),
                rows.kernel_gradient(cotangent, kernel),
            )

    return function


windows = by_products(1 << 60)


def in_small_batches(x: mx.array, kernel: mx.array, cotangent: mx.array) -> Answers:
    """Copy the windows of 32 images at a time, which stay in the cache."""
    parts = [
        windows(x[start : start + 32], kernel, cotangent[start : start + 32])
        for start in range(0, len(x), 32)
    ]
    answers, gradients, of_kernel = zip(*parts, strict=True)
    return mx.concatenate(answers), mx.concatenate(gradients), sum(of_kernel)  # type: ignore[return-value]


def transposed_layout(x: mx.array, kernel: mx.array, cotangent: mx.array) -> Answers:
    """Use the pixels as the columns of the product, which makes its long side the columns."""
    flat = products._windows(x, 4, 2).reshape(-1, kernel[0].size)
    answer = (kernel.reshape(len(kernel), -1) @ flat.T).T.reshape(cotangent.shape)
    return answer, *windows(x, kernel, cotangent)[1:]


def shared_windows(x: mx.array, kernel: mx.array, cotangent: mx.array) -> Answers:
    """Compute both gradients from the same 2x2 windows of the cotangent."""
    blocks = patched_blocks(x)
    flat = products._windows(cotangent, 2, 1).reshape(-1, 4 * len(kernel))
    taps = (flat.T @ blocks.rows).reshape(2, 2, len(kernel), 2, 2, x.shape[-1])
    # Window (p, q) is the last block of its first pixel's kernel.
    of_kernel = taps[::-1, ::-1].transpose(2, 0, 3, 1, 4, 5).reshape(kernel.shape)
    answer, gradient, _ = windows(x, kernel, cotangent)
    return answer, gradient, of_kernel


def shifted_sums(x: mx.array, kernel: mx.array, cotangent: mx.array) -> Answers:
    """Forward: one product of blocks with all four parts of the kernel, and four shifted sums."""
    blocks = patched_blocks(x)
    batch, height, width = blocks.size
    together = mx.concatenate(products._block_kernels(kernel), axis=1)
    four = (blocks.rows @ together).reshape(batch, height + 1, width + 1, 4, len(kernel))
    answer = four[:, :-1, :-1, 0] + four[:, :-1, 1:, 1] + four[:, 1:, :-1, 2] + four[:, 1:, 1:, 3]
    return answer, *windows(x, kernel, cotangent)[1:]


def winograd(x: mx.array, kernel: mx.array, cotangent: mx.array) -> Answers:
    """Forward: Winograd's F(2x2, 2x2) on blocks, nine products for four outputs, not sixteen."""
    batch, height, width, out_channels = cotangent.shape
    rows, columns = ((side + 1) // 2 * 2 for side in (height, width))
    pad = [(0, 0), (1, 1 + 2 * (rows - height)), (1, 1 + 2 * (columns - width)), (0, 0)]
    blocks = mx.pad(x, pad).reshape(batch, rows + 1, 2, columns + 1, 2, -1)
    blocks = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows + 1, columns + 1, -1)
    taps = products._block_kernels(kernel)
    tall = three(blocks, axis=1)
    kernels = sums(taps[:2]), sums([a + b for a, b in zip(taps[:2], taps[2:], strict=True)])
    kernels = kernels[0], kernels[1], sums(taps[2:])
    outputs = [
        [(tile.reshape(-1, tile.shape[-1]) @ tap) for tile, tap in zip(three(part, 2), some,
                                                                       strict=True)]
        for part, some in zip(tall, kernels, strict=True)
    ]  # fmt: skip
    lines = [[a + b, b + c] for a, b, c in outputs]
    pairs = [[lines[0][j] + lines[1][j], lines[1][j] + lines[2][j]] for j in range(2)]
    answer = mx.stack([mx.stack([pairs[0][i], pairs[1][i]], axis=1) for i in range(2)], axis=1)
    answer = answer.reshape(batch, rows // 2, columns // 2, 2, 2, out_channels)
    answer = answer.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows, columns, out_channels)
    return answer[:, :height, :width], *windows(x, kernel, cotangent)[1:]


def three(x: mx.array, axis: int) -> list[mx.array]:
    """Apply the input transform of F(2, 2) along an axis of odd length."""
    first, middle, last = (
        x[(slice(None),) * axis + (part,)]
        for part in (slice(0, -1, 2), slice(1, None, 2), slice(2, None, 2))
    )
    return [first - middle, middle, last - middle]


def sums(taps: list[mx.array]) -> list[mx.array]:
    """Apply the kernel transform of F(2, 2)."""
    return [taps[0], taps[0] + taps[1], taps[1]]


def patched_blocks(x: mx.array) -> products.Blocks:
    with patch.multiple(products, SMALLEST_GRID=1, FEWEST_CHANNELS=1):
        rows = products.columns(x)
    assert isinstance(rows, products.Blocks)
    return rows


WAYS: dict[str, Callable[..., Answers]] = {
    "windows": windows,
    "blocks": by_products(1),
    "windows, 32 images at a time": in_small_batches,
    "forward with pixels as columns": transposed_layout,
    "both gradients from windows of the cotangent": shared_windows,
    "forward by shifted sums of blocks": shifted_sums,
    "forward by F(2x2, 2x2)": winograd,
}


if __name__ == "__main__":
    main()
