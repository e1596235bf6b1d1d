"""Parameters of a classifier that are computed before the first step and not by gradients."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..data.images import Examples, Featured, features_of
from ..device import distributed
from ..models.networks import FeatureScaler
from ..models.visual_words import VisualWordEncoder
from . import codebook


def prepare_classifier(model: nn.Module, images: Examples) -> None:
    """Learn the codebook of a visual-word classifier, or the mean and scale of features.

    Images (N, H, W, C) are uint8, with features if the classifier sees these.
    """
    encoder = model.classifier.encoder if "classifier" in model else None
    if isinstance(encoder, VisualWordEncoder):
        assert not isinstance(images, Featured)
        codebook.learn(encoder.patches, images)
    if isinstance(encoder, FeatureScaler):
        features = features_of(images)
        assert features is not None
        mean = features.mean(axis=0, dtype=np.float64)
        scale = float(np.sqrt(np.mean((features - mean) ** 2)))
        encoder.mean = _shared(mean)
        encoder.scale = _shared(np.array(scale or 1.0))  # 0 if all features are equal


def _shared(value: np.ndarray) -> mx.array:
    return mx.array(distributed.broadcast(value.astype(np.float32)))
