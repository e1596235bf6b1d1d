"""Estimates of the memory of a training step, and batch sizes that fit.

The estimate counts the outputs of the layers and the rows of their matrix products, times factors
measured with `mx.get_peak_memory` on the CPU for images of 28x28 to 512x512 (`benchmarks/soak.py
memory`). The factors include the copies that gradients and Adam make.
"""

import math
from itertools import pairwise

import numpy as np

from ..config import ModelConfig, TrainConfig
from ..models import MixtureModel, kind_of
from ..models.networks import (
    as_classifier_sees,
    classifier_filters,
    coarsest_grid,
    stage_filters,
)
from ..models.products import num_values
from ..models.visual_words import WORDS, num_windows

FLOAT_BYTES = 4
FLOATS_PER_PARAMETER = {"mlp": 2.4, "conv": 4.5}
FLOATS_PER_OUTPUT = {"mlp": 3.0, "conv": 2.2}
FLOATS_PER_PIXEL = {"mlp": 18, "conv": 2.2}  # of the decoder's output
FLOATS_PER_PLACE = 17  # pixel position of augmented pairs, for dense networks
FLOATS_PER_ROW_VALUE = 0.9  # of matrix products
FLOATS_PER_PATCH = 2.3  # and visual word; these activations are not trained
SHARE_OF_CLASSIFIER = 1.5  # for images, partners and samples
SHARE_WITHOUT_PAIRS = 0.3  # of that
SHARE_OF_SAMPLES = 0.25  # decoded for the classifier to judge, per image
LARGEST_BATCH_PIXELS = 1 << 21
SMALLEST_BATCH = 2  # with which components can be trained


def step_bytes(
    config: ModelConfig, training: TrainConfig, batchsize: int, num_parameters: int
) -> int:
    """Return the peak bytes of a training step of `batchsize` images, within 30 %."""
    is_dense, kind = config.arch == "mlp", kind_of(config)
    encoder = _dense_floats(config) if is_dense else _floats(config, stage_filters(config))
    decoder = encoder + FLOATS_PER_PIXEL[config.arch] * math.prod(config.image_shape)
    decoded: float = config.mc_samples
    clusters = 0.0
    if issubclass(kind, MixtureModel):
        is_own = kind.classifies(config)
        decoded += SHARE_OF_SAMPLES * bool(training.sample_weight)
        if is_dense:
            pairs = 2 * encoder + FLOATS_PER_PLACE * math.prod(config.image_size)
            if config.classifier == "features":
                pairs = _classifier_floats(config)
            clusters = pairs * bool(training.pair_weight)
        else:
            clusters = SHARE_OF_CLASSIFIER * (_classifier_floats(config) if is_own else encoder)
            clusters *= 1.0 if training.pair_weight else SHARE_WITHOUT_PAIRS * is_own
    floats = encoder + decoded * decoder + clusters
    weights = FLOATS_PER_PARAMETER[config.arch] * num_parameters
    return round(FLOAT_BYTES * (weights + batchsize * floats))


def fitting_batch(image_size: tuple[int, int]) -> int:
    """Return the largest default batch, a power of two: 8 images of 512x512, 2048 of 32x32."""
    fitting = max(SMALLEST_BATCH, LARGEST_BATCH_PIXELS // math.prod(image_size))
    return 2 ** int(math.log2(fitting))


def describe(step: int, batchsize: int, images: np.ndarray) -> str:
    """Return a line about the memory of a step, `step` bytes, and of the images."""
    where = "read from disk as needed" if isinstance(images, np.memmap) else "held in memory"
    return (
        f"memory: about {in_words(step)} for a step of {batchsize} images; training images "
        f"{in_words(images.nbytes)}, {where}"
    )


def in_words(num_bytes: int) -> str:
    """Return bytes with two or three digits: 440 MB, 30.7 MB, 1.6 GB."""
    megabytes = num_bytes / 1e6
    if megabytes >= 1000:
        return f"{megabytes / 1000:,.1f} GB"
    return f"{round(megabytes, -1):.0f} MB" if megabytes >= 100 else f"{megabytes:.1f} MB"


def _dense_floats(config: ModelConfig) -> float:
    """Return how many floats a dense network holds for one image and its gradients."""
    return FLOATS_PER_OUTPUT["mlp"] * config.hidden_dims * config.layers


def _classifier_floats(config: ModelConfig) -> float:
    if config.classifier == "features":
        return FLOATS_PER_OUTPUT["mlp"] * config.feature_dims
    if config.classifier == "patches":
        return FLOATS_PER_PATCH * WORDS * num_windows(config.image_size)
    seen = as_classifier_sees(config)
    return _floats(seen, classifier_filters(seen))


def _floats(config: ModelConfig, filters: list[int]) -> float:
    """Return how many floats a convolutional network holds for one image and its gradients."""
    outputs, values = 0, 0
    height, width = (side << len(filters) for side in coarsest_grid(config, len(filters)))
    for before, after in pairwise([config.channels, *filters]):
        values += num_values(height, width, before, after)
        height, width = height // 2, width // 2
        outputs += height * width * after
    return FLOATS_PER_OUTPUT["conv"] * outputs + FLOATS_PER_ROW_VALUE * values
