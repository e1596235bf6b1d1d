"""Stride-2 layers, written so that MLX runs them as stride-1 convolutions.

On CPU the input gradient of a strided or transposed convolution is a scalar loop, 20 to 70
times slower than the matrix product behind a stride-1 convolution. Both layers keep the
ordinary weights, so files stay readable; only the arithmetic is rearranged.
"""

import math

import mlx.core as mx
import mlx.nn as nn


def space_to_depth(x: mx.array) -> mx.array:
    """(B, 2h, 2w, C) -> (B, h, w, 4C): each 2x2 block becomes the channels of one pixel.

    Channel order is (row, column, channel) within the block.
    """
    batch, height, width, channels = x.shape
    blocks = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 2, width // 2, 4 * channels)


def depth_to_space(x: mx.array) -> mx.array:
    """(B, h, w, 4C) -> (B, 2h, 2w, C), the inverse of `space_to_depth`."""
    batch, height, width, channels = x.shape
    blocks = x.reshape(batch, height, width, 2, 2, channels // 4)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels // 4)


class DownsampleConv2d(nn.Module):
    """4x4 convolution of stride 2 and padding 1: (B, H, W, C) -> (B, H//2, W//2, O).

    Computed as space-to-depth and a 2x2 convolution of stride 1, which is the same sum.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.weight = _fan_in_uniform((out_channels, 4, 4, in_channels))
        self.bias = mx.zeros((out_channels,))

    def __call__(self, x: mx.array) -> mx.array:
        _, height, width, channels = x.shape
        even = mx.pad(x, [(0, 0), (1, 1 - height % 2), (1, 1 - width % 2), (0, 0)])
        kernel = self.weight.reshape(-1, 2, 2, 2, 2, channels)
        kernel = kernel.transpose(0, 1, 3, 2, 4, 5).reshape(-1, 2, 2, 4 * channels)
        return mx.conv2d(space_to_depth(even), kernel) + self.bias


class UpsampleConv2d(nn.Module):
    """Nearest-neighbour x2, then 3x3 convolution of padding 1: (B, h, w, C) -> (B, 2h, 2w, O).

    After nearest upsampling, three taps of the kernel see only two different low-resolution
    pixels, so each of the four output phases is a 2x2 convolution on the low-resolution image
    with summed taps: 16 multiply-adds a pixel instead of 36, and no four times larger
    intermediate. An even output row 2i sees rows (i-1, i) through (w0, w1 + w2), an odd row
    2i+1 sees (i, i+1) through (w0 + w1, w2); columns likewise.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.weight = _fan_in_uniform((out_channels, 3, 3, in_channels))
        self.bias = mx.zeros((out_channels,))

    def __call__(self, x: mx.array) -> mx.array:
        _, height, width, channels = x.shape
        # fold[phase, low-resolution tap, original tap]
        fold = mx.array([[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 1]], dtype=self.weight.dtype)
        fold = fold.reshape(2, 2, 3)
        kernel = mx.einsum("apr,bqs,orsc->abopqc", fold, fold, self.weight)
        kernel = kernel.reshape(-1, 2, 2, channels)
        phases = mx.conv2d(x, kernel, padding=1)  # (B, h+1, w+1, 4 O)
        out_channels = self.bias.shape[0]
        parts = []
        for a in (0, 1):
            for b in (0, 1):
                start = (2 * a + b) * out_channels
                parts.append(phases[:, a : a + height, b : b + width, start : start + out_channels])
        return depth_to_space(mx.concatenate(parts, axis=-1)) + self.bias


def _fan_in_uniform(shape: tuple[int, ...]) -> mx.array:
    """He's uniform initialisation for leaky-relu networks (He et al. 2015), fan-in mode."""
    limit = math.sqrt(6 / math.prod(shape[1:]))
    return mx.random.uniform(-limit, limit, shape)
