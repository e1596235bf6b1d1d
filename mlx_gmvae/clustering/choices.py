"""What the images themselves say about how to cluster them: no label is looked at."""

import dataclasses

from ..config import ModelConfig, TrainConfig
from ..data.images import Examples, Featured, have_features
from ..models import effective_options
from .augment import fitting

SMALLEST_COLOURED = 20  # pixels, the shorter side: of smaller images patches say little


def fitted(config: TrainConfig, images: Examples) -> TrainConfig:
    """`config` with "auto" replaced by what fits uint8 images (N, H, W, C).

    The descriptor is that of patches for coloured images, and that of pixels and gradients
    otherwise; the distortions are those that `augment.fitting` finds. Features of a frozen encoder
    stay as they are.
    """
    if have_features(images) and config.augment == "auto":
        config = dataclasses.replace(config, augment="none")
    if config.descriptor == "auto" and config.features is None:
        descriptor = "patches" if images.shape[-1] == 3 else "hog"
        config = dataclasses.replace(config, descriptor=descriptor)
    if config.augment == "auto":
        assert not isinstance(images, Featured)
        config = dataclasses.replace(config, augment=fitting(images))
    return config


def fitted_model(config: ModelConfig) -> ModelConfig:
    """`config` with the classifier that fits images of its shape: patches if they have colour."""
    has_patches = config.channels == 3 and min(config.image_size) >= SMALLEST_COLOURED
    if has_patches and "classifier" in effective_options(config):
        return dataclasses.replace(config, classifier="patches")
    return config
