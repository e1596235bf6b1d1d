"""Visual words: a histogram of small patches by a codebook, in each cell of a grid.

Source: Coates, Lee and Ng 2011, "An analysis of single-layer networks in unsupervised feature
learning" (whitened patches, k-means, sums over a grid), and Coates and Ng 2011, "The importance of
encoding versus training" (soft thresholds). Images of similar colour and texture have similar
histograms.
"""

import math
from itertools import pairwise

import mlx.core as mx
import mlx.nn as nn

from .layers import Dense, leaky_relu

SIDE, STRIDE = 6, 2  # of patches, in pixels
WORDS = 400
GRID = 4  # rows and columns of cells in which patches are counted
SMALLEST = SIDE + STRIDE * (GRID - 1)  # smallest side of an image with a patch in each cell
WORKING_SIDE = 32  # images with a longer side of at least twice this are reduced
CONTRAST_FLOOR = 10 / 255**2  # added to the variance of a patch
LENGTH_FLOOR = 1e-3
THRESHOLD = 1.0


class VisualWords(nn.Module):
    """The visual-word histogram of images: (B, H, W, C) in [0, 1] -> (B, 16 * 400).

    `clustering.codebook` computes its arrays before training. Gradients do not train them.
    """

    def __init__(self, channels: int):
        super().__init__()
        values = SIDE * SIDE * channels
        self.mean = mx.zeros((values,))
        self.whitening = mx.zeros((values, values))
        self.codebook = mx.zeros((WORDS, values))  # unit vectors
        self.offset = mx.zeros((GRID * GRID * WORDS,))  # mean of the histograms
        self.scale = mx.ones((GRID * GRID * WORDS,))  # their standard deviation
        self.freeze(keys=["mean", "whitening", "codebook", "offset", "scale"], recurse=False)

    def __call__(self, x: mx.array) -> mx.array:
        return (self.histogram(x) - self.offset) / self.scale

    def histogram(self, x: mx.array) -> mx.array:
        """Return the square roots of the mean activations in each cell, (B, 16 * 400)."""
        white = (contrasts(windows(x)) - self.mean) @ self.whitening
        length = mx.rsqrt(mx.square(white).mean(axis=-1, keepdims=True) + LENGTH_FLOOR)
        active = mx.maximum((white * length) @ self.codebook.T - THRESHOLD, 0)
        rows, columns = (_cells(side) for side in active.shape[1:3])
        cells = [active[:, row, column].mean(axis=(1, 2)) for row in rows for column in columns]
        # The constant bounds the slope, which is infinite for the square root of 0.
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
    """Return all patches of images: (B, H, W, C) -> (B, h, w, 36 C).

    Images with a longer side of at least 64 pixels are first reduced. Sides below 12 pixels are
    extended by repeating the border.
    """
    factor = _reduction(x.shape[1:3])
    if factor > 1:
        x = _blocks(x, factor).mean(axis=3)  # drops a remainder at the right or lower border
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
    """Return how many patches `windows` finds in an image."""
    factor = _reduction(image_size)
    sides = (max(side // factor, SMALLEST) for side in image_size)
    return math.prod((side - SIDE) // STRIDE + 1 for side in sides)


def contrasts(patches: mx.array) -> mx.array:
    """Normalise patches (..., F) to mean 0 and variance 1, or less where contrast is very low."""
    centred = patches - patches.mean(axis=-1, keepdims=True)
    return centred * mx.rsqrt(mx.square(centred).mean(axis=-1, keepdims=True) + CONTRAST_FLOOR)


def _reduction(image_size: tuple[int, ...]) -> int:
    """Return the factor by which images are reduced: the side of the squares to average."""
    return max(1, min(max(image_size) // WORKING_SIDE, *image_size))


def _blocks(x: mx.array, side: int) -> mx.array:
    """Split images (B, H, W, C) into squares of pixels, (B, h, w, side * side, C)."""
    batch, height, width, channels = x.shape
    h, w = height // side, width // side
    x = x[:, : h * side, : w * side].reshape(batch, h, side, w, side, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, h, w, side * side, channels)


def _cells(side: int) -> list[slice]:
    """Return the rows in each cell of a grid over `side` rows."""
    borders = [side * cell // GRID for cell in range(GRID + 1)]
    return [slice(start, end) for start, end in pairwise(borders)]
