"""Input types of models and of training steps."""

from typing import NamedTuple, TypeAlias

import mlx.core as mx


class WithFeatures(NamedTuple):
    """Pixels (B, H, W, C), and the features (B, F) of a frozen encoder for the same images.

    The decoder reconstructs the pixels, q(z|x) takes the pixels, and q(y|x) takes the features.
    It is a NamedTuple, because these work with `mx.compile` and `value_and_grad`.
    """

    pixels: mx.array
    features: mx.array


Inputs: TypeAlias = mx.array | WithFeatures  # pixels alone, for models without an encoder


class Batch(NamedTuple):
    """Images of a training step and, with pairs, their partners as q(y|x) takes them.

    `partners` are pixels or features.
    """

    images: Inputs
    partners: mx.array | None = None


def pixels_of(x: Inputs) -> mx.array:
    """Return the pixels of inputs, (B, H, W, C)."""
    return x.pixels if isinstance(x, WithFeatures) else x
