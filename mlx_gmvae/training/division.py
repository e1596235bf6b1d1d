"""Division of the training images: those to train on, and those held out for early stopping."""

import numpy as np

from ..config import TrainConfig
from ..data.images import Examples, Rows
from ..errors import InputError

VALIDATION_SHARE = 0.1  # of the training images
MOST_VALIDATION_IMAGES = 5000
SPLIT_SEED = 0  # one split for all seeds: runs can be compared and share a neighbour graph


def divide(num_images: int, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to train on and those held out for early stopping (none without it)."""
    if config.early_stopping is None:
        return np.arange(num_images), np.arange(0)
    if num_images < 1 / VALIDATION_SHARE:
        raise InputError(
            f"--early_stopping holds out a tenth of the images, and {num_images} images are too "
            "few; give at least ten"
        )
    order = np.random.default_rng(SPLIT_SEED).permutation(num_images)
    held_out = min(int(VALIDATION_SHARE * num_images), MOST_VALIDATION_IMAGES)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def training_part(images: Examples, config: TrainConfig) -> Examples:
    """Return the images to train on, all but those held out, without a copy.

    Neighbours, visual words and merged sub-clusters are computed from these images only.
    """
    rows, held_out = divide(len(images), config)
    return Rows(images, rows) if len(held_out) else images
