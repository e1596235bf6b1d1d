"""Defaults of training that depend on the set of images."""

import math

from . import memory
from .config import TrainConfig
from .data.splits import Dataset

# Small sets get smaller batches and more epochs, for enough steps.
FEWEST_STEPS_PER_EPOCH = 20
FEWEST_STEPS = 1600
SMALLEST_BATCH = 32


def for_set_size(config: TrainConfig, train: Dataset, given: set[str]) -> TrainConfig:
    """`config` with the default batch size and epochs, unless given, fitted to the set."""
    values, num_images = config.to_dict(), len(train)
    if "batchsize" not in given:
        largest = max(SMALLEST_BATCH, num_images // FEWEST_STEPS_PER_EPOCH)
        fitting = memory.fitting_batch(train.image_shape[:2])
        values["batchsize"] = min(config.batchsize, 2 ** int(math.log2(largest)), fitting)
    if "epochs" not in given:
        steps_per_epoch = max(1, num_images // values["batchsize"])
        values["epochs"] = max(config.epochs, math.ceil(FEWEST_STEPS / steps_per_epoch))
    return TrainConfig.from_dict(values)
