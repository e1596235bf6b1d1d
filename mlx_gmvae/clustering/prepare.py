"""What a classifier takes from the images before the first step, and gradients never change."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..data.images import Examples, Featured, features_of
from ..device import distributed
from ..models.networks import FeatureScaler
from ..models.visual_words import VisualWordEncoder
from . import codebook


def prepare_classifier(model: nn.Module, images: Examples) -> None:
    """Find the visual words of a classifier that counts them, or the scale of features.

    Of uint8 images (N, H, W, C), with features where the classifier sees those.
    """
    encoder = model.classifier.encoder if "classifier" in model else None
    if isinstance(encoder, VisualWordEncoder):
        assert not isinstance(images, Featured)
        codebook.learn(encoder.patches, images)
    if isinstance(encoder, FeatureScaler):
        features = features_of(images)
        assert features is not None
        scale = features.std(axis=0)
        # A feature that never changes says nothing: it stays 0 rather than being divided by 0.
        scale[scale < 1e-6 * max(float(scale.max()), 1e-12)] = np.inf
        encoder.mean = _shared(features.mean(axis=0))
        encoder.scale = _shared(np.where(np.isinf(scale), 1e6, scale))


def _shared(value: np.ndarray) -> mx.array:
    return mx.array(distributed.broadcast(value.astype(np.float32)))
