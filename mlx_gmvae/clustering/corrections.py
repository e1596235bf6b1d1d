"""Corrections: images whose cluster a person has said, beside the pair loss.

    L_correction = mean -log q(y|Tx),  y the cluster that the image x belongs to, T an augmentation

over a few of the corrected images in each step. Neighbours of a corrected image follow it by the
pair loss, so that few corrections move many images.
"""

from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from ..config import TrainConfig
from ..data.batches import as_float
from ..data.images import Featured
from ..errors import InputError
from ..models.base import LatentVariableModel, MixtureModel

MOST_IN_STEP = 64


class Corrections(NamedTuple):
    """Rows (M,) of the images that are trained on, and the cluster (M,) of each."""

    rows: np.ndarray
    clusters: np.ndarray


class CorrectedImages:
    """The images (M, H, W, C) of corrections and their clusters, one-hot, (M, K)."""

    def __init__(
        self,
        model: LatentVariableModel,
        images: np.ndarray | Featured,
        config: TrainConfig,
        corrections: Corrections,
    ):
        has_classifier = isinstance(model, MixtureModel) and model.has_classifier
        if not has_classifier or model.sees_features or not config.pair_weight:
            raise InputError(
                "corrections train a classifier that sees pixels, by pairs; this model has none "
                "(cluster.py --curation applies them without training)"
            )
        pixels: Any = images.images if isinstance(images, Featured) else images
        self.images = mx.array(pixels[corrections.rows])
        self.one_hot = mx.array(np.eye(model.config.K, dtype=np.float32)[corrections.clusters])
        self.num_in_step = min(MOST_IN_STEP, len(corrections.rows))

    def draw(self) -> tuple[mx.array, mx.array]:
        """A few of the images, as floats, and their clusters, one-hot."""
        rows = mx.random.randint(0, len(self.images), (self.num_in_step,))
        return as_float(self.images[rows]), self.one_hot[rows]  # type: ignore[return-value]


def correction_loss(one_hot: mx.array, log_q: mx.array) -> mx.array:
    """Return L_correction of clusters (B, K) and log q(y|x), (B, K) or (B, heads, K), nats."""
    if log_q.ndim == 3:
        one_hot = one_hot[:, None]
    return -(one_hot * log_q).sum(axis=-1).mean()
