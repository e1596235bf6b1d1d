"""What a model is given of each image, and what a training step takes."""

from typing import NamedTuple, TypeAlias

import mlx.core as mx


class WithFeatures(NamedTuple):
    """Pixels (B, H, W, C), and the features (B, F) that a frozen encoder has of the same images.

    The decoder draws the pixels, q(z|x) sees them, and q(y|x) sees the features. A NamedTuple
    passes through `mx.compile` and `value_and_grad`.
    """

    pixels: mx.array
    features: mx.array


Inputs: TypeAlias = mx.array | WithFeatures  # pixels alone, for models without an encoder


class Batch(NamedTuple):
    """Images of a step and, for pairs, what q(y|x) sees of their partners: pixels or features."""

    images: Inputs
    partners: mx.array | None = None


def pixels_of(x: Inputs) -> mx.array:
    """Return the pixels of inputs, (B, H, W, C)."""
    return x.pixels if isinstance(x, WithFeatures) else x
