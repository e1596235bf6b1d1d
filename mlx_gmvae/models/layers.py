"""Layers and leaky ReLU; on the CPU as matrix products with hand-written gradients.

Let S be the 4x4 convolution of stride 2 and T its adjoint. Downsampling is S. Nearest-neighbour
upsampling followed by a 3x3 convolution equals T with a folded kernel. Each is the gradient of the
other. On the CPU, MLX computes both gradients by scalar loops, 20 to 70 times slower than a matrix
product, so there S and T are written as matrix products (`products`). On a GPU both are ordinary
convolutions, written so that few kernels are launched. No transposed convolution is used.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_map

from ..device.parallel import current_stream, is_plain, on_cpu
from .products import columns, transposed

SLOPE = 0.01


class DownsampleConv2d(nn.Module):
    """4x4 convolution of stride 2 and padding 1: (B, H, W, C) -> (B, H//2, W//2, O).

    >>> DownsampleConv2d(3, 8)(mx.zeros((1, 14, 10, 3))).shape
    (1, 7, 5, 8)
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.weight = _fan_in_uniform((out_channels, 4, 4, in_channels))
        self.bias = mx.zeros((out_channels,))

    def __call__(self, x: mx.array) -> mx.array:
        if not on_cpu():
            return self.without_bias(x) + self.bias
        return _downsample()(x, self.weight, self.bias)

    def without_bias(self, x: mx.array) -> mx.array:
        """Return S(x) as it is computed on a GPU."""
        return mx.conv2d(x, self.weight, stride=2, padding=1)


class UpsampleConv2d(nn.Module):
    """Nearest-neighbour upsampling by 2, then a 3x3 convolution: (B, h, w, C) -> (B, 2h, 2w, O).

    The convolution has padding 1. After upsampling, three taps of the kernel see only two different
    low-resolution pixels. So each of the four output phases is a 2x2 convolution of the
    low-resolution image with sums of taps. This takes 16 multiply-adds per low-resolution pixel
    instead of 36, and no intermediate image that is four times larger.

    >>> UpsampleConv2d(8, 3)(mx.zeros((1, 7, 5, 8))).shape
    (1, 14, 10, 3)
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.weight = _fan_in_uniform((out_channels, 3, 3, in_channels))
        self.bias = mx.zeros((out_channels,))

    def __call__(self, x: mx.array) -> mx.array:
        if not on_cpu():
            return _side_by_side(self.without_bias(x) + self.bias)
        return _upsample()(x, self.folded(), self.bias)

    def without_bias(self, x: mx.array) -> mx.array:
        """Return T(x) as on a GPU, with separate axes for the phases: (B, h, 2, w, 2, O)."""
        function = _phases if is_plain() else _with_gradient(_phases, _gradients_of_phases)
        return function(x, self.weight)

    def folded(self) -> mx.array:
        """Return the kernel of T, (C, 4, 4, O): what an input pixel adds to 4x4 output pixels.

        Input row i contributes to output rows 2i-1 to 2i+2: to the first and the last through one
        tap of the 3x3 kernel, to the two between through two taps.
        """
        fold = mx.array(_SUMS, dtype=self.weight.dtype)
        out_channels, _, _, in_channels = self.weight.shape
        rows = fold @ self.weight.reshape(out_channels, 3, 3 * in_channels)
        rows = rows.reshape(4 * out_channels, 3, in_channels)
        kernel = (fold @ rows).reshape(out_channels, 4, 4, in_channels)
        return kernel.transpose(3, 1, 2, 0)


@contextmanager
def held_constant(module: nn.Module) -> Iterator[None]:
    """Put `module` in eval mode and stop gradients at its parameters, within the context."""
    learned, training = module.parameters(), module.training
    module.update(tree_map(mx.stop_gradient, learned))
    module.eval()
    try:
        yield
    finally:
        module.update(learned)
        module.train(training)


def permute_outputs(layer: nn.Linear, order: np.ndarray) -> None:
    """Reorder the outputs of `layer`: output y becomes the former output order[y]."""
    rows = mx.array(order)
    layer.weight, layer.bias = layer.weight[rows], layer.bias[rows]


# _TAPS (16, 9) says which of the 3x3 taps of the layer's weight add up to each of the 4x4 taps of
# T. _PHASE_TAPS (phase phase tap tap, 9) says the same for the taps of the four 2x2 phases. Along
# one axis, output 2i sees inputs (i-1, i) through taps (3, 1), and output 2i+1 sees inputs (i, i+1)
# through taps (2, 0).
_SUMS = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], np.float32)
_TAPS = np.kron(_SUMS, _SUMS)
_PHASE_TAPS = np.kron(_SUMS[[3, 1, 2, 0]], _SUMS[[3, 1, 2, 0]]).reshape(2, 2, 2, 2, 9)
_PHASE_TAPS = _PHASE_TAPS.transpose(0, 2, 1, 3, 4).reshape(16, 9)


def _phases(x: mx.array, weight: mx.array) -> mx.array:
    """Return T for a weight (O, 3, 3, C) by one 2x2 convolution for all phases.

    The result has shape (B, h, 2, w, 2, O).
    """
    batch, height, width, channels = x.shape
    out_channels = len(weight)
    taps = mx.array(_PHASE_TAPS) @ weight.reshape(out_channels, 9, channels)
    both = mx.conv2d(x, taps.reshape(-1, 2, 2, channels), padding=1)  # (B, h+1, w+1, 4 O)
    # Pixel (2i + a, 2j + b) is at (i + a, j + b), in channel 2a + b of each group of four.
    column, row = 4 * out_channels, 4 * out_channels * (width + 1)
    return mx.as_strided(
        both,
        (batch, height, 2, width, 2, out_channels),
        (row * (height + 1), row, row + 2, column, column + 1, 4),
        0,
    )


def _gradients_of_phases(primals, cotangent, output):  # type: ignore[no-untyped-def]
    """Return the gradients of `_phases` by S: MLX's own gradient scatters pixel by pixel."""
    x, weight = primals
    out_channels, _, _, channels = weight.shape
    cotangent, taps = _side_by_side(cotangent), mx.array(_TAPS)
    kernel = (taps @ weight.reshape(out_channels, 9, channels)).transpose(2, 1, 0)

    def adjoint(kernel: mx.array) -> mx.array:
        return mx.conv2d(cotangent, kernel.reshape(channels, 4, 4, -1), stride=2, padding=1)

    (dx,), (d_kernel,) = mx.vjp(adjoint, [kernel], [x])
    return dx, (taps.T @ d_kernel).transpose(2, 1, 0).reshape(weight.shape)


def _side_by_side(phases: mx.array) -> mx.array:
    """Join the axes of the phases: (B, h, 2, w, 2, O) -> (B, 2h, 2w, O)."""
    batch, height, _, width, _, out_channels = phases.shape
    return phases.reshape(batch, 2 * height, 2 * width, out_channels)


class Dense(nn.Linear):
    """`nn.Linear` whose weight gradient, on the CPU, has the memory layout of the weights.

    MLX's own gradient is a transposed array. Adding it to Adam's moments takes half as long as the
    matrix product.
    """

    def __call__(self, x: mx.array) -> mx.array:
        return _dense()(x, self.weight, self.bias) if on_cpu() else super().__call__(x)


def leaky_relu(x: mx.array) -> mx.array:
    """Return max(x, x / 100), with a gradient that takes one pass instead of five."""
    return mx.maximum(x, SLOPE * x) if is_plain() else _leaky_relu()(x)


def activated(layer: DownsampleConv2d | UpsampleConv2d, x: mx.array) -> mx.array:
    """Return leaky_relu(layer(x)); on a GPU the bias is added in the same pass."""
    if on_cpu() or is_plain():
        return leaky_relu(layer(x))
    function = _with_gradient(_biased_leaky_relu, _gradients_of_biased)
    active = function(layer.without_bias(x), layer.bias)
    return active if active.ndim == 4 else _side_by_side(active)


def _biased_leaky_relu(x: mx.array, bias: mx.array) -> mx.array:
    return mx.maximum(x + bias, SLOPE * (x + bias))


def _gradients_of_biased(primals, cotangent, output):  # type: ignore[no-untyped-def]
    gradient = _times_slopes(cotangent, output)
    return gradient, _sum(gradient)


def _with_gradient(
    function: Callable[[mx.array, mx.array], mx.array], gradients: Callable[..., Any]
) -> Callable[[mx.array, mx.array], mx.array]:
    """Return `function` with hand-written gradients, on the stream in use."""
    answer: Any = mx.custom_function(function)
    answer.vjp(gradients)
    return answer  # type: ignore[no-any-return]


def _times_slopes(cotangent: mx.array, output: mx.array) -> mx.array:
    """Return `cotangent` times the slopes of leaky ReLU, from the activation's `output`."""
    if on_cpu():  # there mx.where is slower than a product
        return cotangent * ((output > 0) * (1 - SLOPE) + SLOPE)
    return mx.where(output > 0, cotangent, SLOPE * cotangent)


def _leaky_relu():  # type: ignore[no-untyped-def]
    stream = current_stream()

    @mx.custom_function
    def function(x: mx.array) -> mx.array:
        return mx.maximum(x, SLOPE * x)

    @function.vjp
    def gradient(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
        with mx.stream(stream):
            return _times_slopes(cotangent, output)

    return function


def _dense():  # type: ignore[no-untyped-def]
    """Return the function x kernel^T + bias with gradients, for the CPU stream in use."""
    stream = current_stream()

    @mx.custom_function
    def function(x: mx.array, kernel: mx.array, bias: mx.array) -> mx.array:
        return mx.addmm(bias, x, kernel.T)

    @function.vjp
    def gradients(primals, cotangent, output):  # type: ignore[no-untyped-def]
        x, kernel, _ = primals
        with mx.stream(stream):
            outputs, inputs = kernel.shape
            d_kernel = cotangent.reshape(-1, outputs).T @ x.reshape(-1, inputs)
            return cotangent @ kernel, d_kernel, _sum(cotangent)

    return function


def _downsample():  # type: ignore[no-untyped-def]
    """Return the function S(x, kernel (O, 4, 4, C)) + bias, for the CPU stream in use."""
    stream = current_stream()

    @mx.custom_function
    def function(x: mx.array, kernel: mx.array, bias: mx.array) -> mx.array:
        return columns(x).strided(kernel, bias)

    @function.vjp
    def gradients(primals, cotangent, output):  # type: ignore[no-untyped-def]
        x, kernel, _ = primals
        with mx.stream(stream):
            dx = transposed(cotangent, kernel, x.shape[1:3])
            return dx, columns(x).kernel_gradient(cotangent, kernel), _sum(cotangent)

    return function


def _upsample():  # type: ignore[no-untyped-def]
    """Return the function T(x, kernel (C, 4, 4, O)) + bias, for the CPU stream in use."""
    stream = current_stream()

    @mx.custom_function
    def function(x: mx.array, kernel: mx.array, bias: mx.array) -> mx.array:
        return transposed(x, kernel, (2 * x.shape[1], 2 * x.shape[2]), bias)

    @function.vjp
    def gradients(primals, cotangent, output):  # type: ignore[no-untyped-def]
        x, kernel, _ = primals
        with mx.stream(stream):
            large = columns(cotangent)
            return large.strided(kernel), large.kernel_gradient(x, kernel), _sum(cotangent)

    return function


def _sum(x: mx.array) -> mx.array:
    """Sum over all axes but the last."""
    return x.reshape(-1, x.shape[-1]).sum(axis=0)


def _fan_in_uniform(shape: tuple[int, ...]) -> mx.array:
    """Draw weights by He's uniform initialisation for leaky ReLU, fan-in mode (He et al. 2015)."""
    limit = math.sqrt(6 / math.prod(shape[1:]))
    return mx.random.uniform(-limit, limit, shape)
