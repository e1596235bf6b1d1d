"""Visual words: a histogram of small patches by a codebook, in each cell of a grid.

Source: Coates, Lee and Ng 2011, "An analysis of single-layer networks in unsupervised feature
learning" (whitened patches, k-means, sums over a grid), and Coates and Ng 2011, "The importance of
encoding versus training" (soft thresholds). Near histograms mean like colour and texture.
"""

import math
from itertools import pairwise

import mlx.core as mx
import mlx.nn as nn

from .layers import Dense, leaky_relu

SIDE, STRIDE = 6, 2  # pixels of a patch, and from one to the next
WORDS = 400
GRID = 4  # rows and columns of cells in which patches are counted
SMALLEST = SIDE + STRIDE * (GRID - 1)  # side of an image with a patch in each cell
WORKING_SIDE = 32  # of which images are copied if they are at least twice as large
CONTRAST_FLOOR = 10 / 255**2  # added to the variance of a patch
LENGTH_FLOOR = 1e-3
THRESHOLD = 1.0


class VisualWords(nn.Module):
    """The visual-word histogram of images: (B, H, W, C) in [0, 1] -> (B, 16 * 400).

    Its arrays are not trained by gradients but found beforehand, by `clustering.codebook`.
    """

    def __init__(self, channels: int):
        super().__init__()
        values = SIDE * SIDE * channels
        self.mean = mx.zeros((values,))
        self.whitening = mx.zeros((values, values))
        self.codebook = mx.zeros((WORDS, values))  # unit vectors
        self.offset = mx.zeros((GRID * GRID * WORDS,))  # mean of what is counted
        self.scale = mx.ones((GRID * GRID * WORDS,))  # and its standard deviation
        self.freeze(keys=["mean", "whitening", "codebook", "offset", "scale"], recurse=False)

    def __call__(self, x: mx.array) -> mx.array:
        return (self.histogram(x) - self.offset) / self.scale

    def histogram(self, x: mx.array) -> mx.array:
        """Square roots of the mean activations in each cell, (B, 16 * 400)."""
        white = (contrasts(windows(x)) - self.mean) @ self.whitening
        length = mx.rsqrt(mx.square(white).mean(axis=-1, keepdims=True) + LENGTH_FLOOR)
        active = mx.maximum((white * length) @ self.codebook.T - THRESHOLD, 0)
        rows, columns = (_cells(side) for side in active.shape[1:3])
        cells = [active[:, row, column].mean(axis=(1, 2)) for row in rows for column in columns]
        # Not quite the root, whose slope at 0 has no bound.
        return mx.sqrt(mx.concatenate(cells, axis=-1) + 1e-6)


class VisualWordEncoder(nn.Module):
    """A dense layer on the visual-word histogram: (B, H, W, C) -> (B, hidden_dims)."""

    def __init__(self, channels: int, hidden_dims: int):
        super().__init__()
        self.patches = VisualWords(channels)
        self.dense = Dense(GRID * GRID * WORDS, hidden_dims)
        self.out_dims = hidden_dims

    def __call__(self, x: mx.array) -> mx.array:
        return leaky_relu(self.dense(self.patches(x)))


def windows(x: mx.array) -> mx.array:
    """All patches of images (B, H, W, C), (B, h, w, 36 C).

    An image much larger than 32 pixels is made smaller, one below 12 continued at its border.
    """
    factor = _reduction(x.shape[1:3])
    if factor > 1:
        x = _blocks(x, factor).mean(axis=3)  # a rest at the right or lower border is left out
    short = [max(0, SMALLEST - side) for side in x.shape[1:3]]
    if any(short):
        x = mx.pad(x, [(0, 0), (0, short[0]), (0, short[1]), (0, 0)], mode="edge")
    blocks = _blocks(x, STRIDE)
    blocks = blocks.reshape(*blocks.shape[:3], -1)
    across = SIDE // STRIDE
    h, w = (side - across + 1 for side in blocks.shape[1:3])
    moves = [(i, j) for i in range(across) for j in range(across)]
    return mx.concatenate([blocks[:, i : i + h, j : j + w] for i, j in moves], axis=-1)


def num_windows(image_size: tuple[int, int]) -> int:
    """How many patches `windows` finds in an image."""
    factor = _reduction(image_size)
    sides = (max(side // factor, SMALLEST) for side in image_size)
    return math.prod((side - SIDE) // STRIDE + 1 for side in sides)


def contrasts(patches: mx.array) -> mx.array:
    """Patches (..., F) of mean 0 and, but for faint ones, variance 1."""
    centred = patches - patches.mean(axis=-1, keepdims=True)
    return centred * mx.rsqrt(mx.square(centred).mean(axis=-1, keepdims=True) + CONTRAST_FLOOR)


def _reduction(image_size: tuple[int, ...]) -> int:
    """The side of the squares of pixels that are taken as one."""
    return max(1, min(max(image_size) // WORKING_SIDE, *image_size))


def _blocks(x: mx.array, side: int) -> mx.array:
    """The squares of pixels that images (B, H, W, C) are made of, (B, h, w, side * side, C)."""
    batch, height, width, channels = x.shape
    h, w = height // side, width // side
    x = x[:, : h * side, : w * side].reshape(batch, h, side, w, side, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, h, w, side * side, channels)


def _cells(side: int) -> list[slice]:
    """The rows of each cell of a grid over `side` rows."""
    borders = [side * cell // GRID for cell in range(GRID + 1)]
    return [slice(start, end) for start, end in pairwise(borders)]
