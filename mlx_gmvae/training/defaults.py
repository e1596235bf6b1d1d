"""Defaults of training that depend on the set of images."""

import math

from ..config import TrainConfig
from ..data.splits import Dataset
from . import memory

# Small sets get smaller batches and more epochs, for enough steps: but no more passes over the
# same few images than teach something, and no more pixels than ten minutes take on two cores.
FEWEST_STEPS_PER_EPOCH = 20
FEWEST_STEPS = 1600
SMALLEST_BATCH = 32
MOST_PASSES = 500
MOST_PIXELS = 1 << 30


def for_set_size(config: TrainConfig, train: Dataset, given: set[str]) -> TrainConfig:
    """`config` with the default batch size and epochs, unless given, fitted to the set.

    Epochs are never fewer than the configuration's own default.
    """
    values, num_images = config.to_dict(), len(train)
    if "batchsize" not in given:
        largest = max(SMALLEST_BATCH, num_images // FEWEST_STEPS_PER_EPOCH)
        fitting = memory.fitting_batch(train.image_shape[:2])
        values["batchsize"] = min(config.batchsize, 2 ** int(math.log2(largest)), fitting)
    if "epochs" not in given:
        steps_per_epoch = max(1, num_images // values["batchsize"])
        pixels_per_epoch = num_images * math.prod(train.image_shape[:2])
        wanted = math.ceil(FEWEST_STEPS / steps_per_epoch)
        affordable = min(MOST_PASSES, MOST_PIXELS // pixels_per_epoch)
        values["epochs"] = max(config.epochs, min(wanted, affordable))
    return TrainConfig.from_dict(values)
