"""Which images are trained on, and which are held out for early stopping."""

import numpy as np

from ..config import TrainConfig
from ..errors import InputError

VALIDATION_SHARE = 0.1  # of the training images
MOST_VALIDATION_IMAGES = 5000


def divide(num_images: int, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to train on, and those held out for early stopping (none without it)."""
    if config.early_stopping is None:
        return np.arange(num_images), np.arange(0)
    if num_images < 1 / VALIDATION_SHARE:
        raise InputError(f"--early_stopping holds out a tenth of {num_images} images: too few")
    order = np.random.default_rng(config.seed).permutation(num_images)
    held_out = min(int(VALIDATION_SHARE * num_images), MOST_VALIDATION_IMAGES)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
