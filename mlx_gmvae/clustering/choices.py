"""What the images themselves say about how to cluster them: no label is looked at."""

import dataclasses

from ..config import TrainConfig
from ..data.images import Images
from .augment import fitting


def fitted(config: TrainConfig, images: Images) -> TrainConfig:
    """`config` with "auto" replaced by what fits uint8 images (N, H, W, C).

    The descriptor is that of patches for coloured images, and that of pixels and gradients
    otherwise; the distortions are those that `augment.fitting` finds.
    """
    if config.descriptor == "auto" and config.features is None:
        descriptor = "patches" if images.shape[-1] == 3 else "hog"
        config = dataclasses.replace(config, descriptor=descriptor)
    if config.augment == "auto":
        config = dataclasses.replace(config, augment=fitting(images))
    return config
