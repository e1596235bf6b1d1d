"""How much memory a training step takes, before it takes it, and batches that fit.

An estimate: what the layers put out, times factors measured with `mx.get_peak_memory` on CPU for
images of 28x28 to 512x512 (`python benchmarks/soak.py memory`). They cover the copies that
convolutions, gradients and Adam make.
"""

import math

import numpy as np

from ..config import ModelConfig, TrainConfig
from ..models import MixtureModel, kind_of
from ..models.networks import (
    as_classifier_sees,
    classifier_filters,
    coarsest_grid,
    stage_filters,
)
from ..models.patches import KINDS, num_windows

FLOAT_BYTES = 4
FLOATS_PER_PARAMETER = 4.5
FLOATS_PER_OUTPUT = 10.5  # of encoder and decoder
FLOATS_PER_CLUSTER_OUTPUT = 12  # of the network of q(y|x), on images, partners and samples
SHARE_WITHOUT_PAIRS = 0.3  # of the latter
SHARE_WITHOUT_GRADIENTS = 0.35  # of the latter, for layers that are not trained
LARGEST_BATCH_PIXELS = 1 << 21
SMALLEST_BATCH = 2  # that can train components


def step_bytes(
    config: ModelConfig, training: TrainConfig, batchsize: int, num_parameters: int
) -> int:
    """Peak bytes of a training step of `batchsize` images, within 30 %."""
    encoder = _outputs(config, stage_filters(config))
    decoder = encoder + math.prod(config.image_shape)
    floats = FLOATS_PER_OUTPUT * (encoder + config.mc_samples * decoder)
    kind = kind_of(config)
    if issubclass(kind, MixtureModel):
        is_own = kind.classifies(config)
        clusters = _classifier_outputs(config) if is_own else encoder
        share = 1.0 if training.pair_weight else SHARE_WITHOUT_PAIRS * is_own
        floats += FLOATS_PER_CLUSTER_OUTPUT * share * clusters
    return round(FLOAT_BYTES * (FLOATS_PER_PARAMETER * num_parameters + batchsize * floats))


def fitting_batch(image_size: tuple[int, int]) -> int:
    """The largest default batch, a power of two: 8 images of 512x512, 2048 of 32x32."""
    fitting = max(SMALLEST_BATCH, LARGEST_BATCH_PIXELS // math.prod(image_size))
    return 2 ** int(math.log2(fitting))


def describe(step: int, batchsize: int, images: np.ndarray) -> str:
    """A line about a step of so many bytes, and about the images."""
    where = "read from disk as needed" if isinstance(images, np.memmap) else "held in memory"
    return (
        f"memory: about {in_words(step)} for a step of {batchsize} images; training images "
        f"{in_words(images.nbytes)}, {where}"
    )


def in_words(num_bytes: int) -> str:
    """Bytes to two or three digits: 440 MB, 30.7 MB, 1.6 GB."""
    megabytes = num_bytes / 1e6
    if megabytes >= 1000:
        return f"{megabytes / 1000:,.1f} GB"
    return f"{round(megabytes, -1):.0f} MB" if megabytes >= 100 else f"{megabytes:.1f} MB"


def _classifier_outputs(config: ModelConfig) -> int:
    if config.arch == "conv" and config.classifier == "patches":
        return round(SHARE_WITHOUT_GRADIENTS * KINDS * num_windows(config.image_size))
    seen = as_classifier_sees(config)
    return _outputs(seen, classifier_filters(seen))


def _outputs(config: ModelConfig, filters: list[int]) -> int:
    """Numbers that a network's layers put out for one image."""
    if config.arch == "mlp":
        return config.hidden_dims * config.layers
    grids = (coarsest_grid(config, stage + 1) for stage in range(len(filters)))
    return sum(math.prod(grid) * num for grid, num in zip(grids, filters, strict=True))
