"""What a model is given of each image: pixels, and beside them features of a frozen encoder."""

from typing import NamedTuple, TypeAlias

import mlx.core as mx


class Inputs(NamedTuple):
    """A batch of pixels (B, H, W, C), and what a frozen encoder sees in the same images, (B, F).

    The decoder draws the pixels, q(z|x) sees them, and q(y|x) sees the features. A NamedTuple
    passes through `mx.compile` and `value_and_grad`.
    """

    pixels: mx.array
    features: mx.array


Batch: TypeAlias = mx.array | Inputs  # pixels alone, for models without an encoder


def pixels_of(x: Batch) -> mx.array:
    """Return the pixels of a batch, (B, H, W, C)."""
    return x.pixels if isinstance(x, Inputs) else x
