"""A trained model over a whole set of images, in batches: what the scripts report."""

import math
from collections.abc import Callable

import mlx.core as mx
import numpy as np

from .data.datasets import Dataset
from .metrics import clustering_scores, mse, ssim
from .models import LatentVariableModel, MixtureModel
from .training import as_float

BATCH_PIXELS = 1 << 20
IMPORTANCE_SAMPLES = 100
IMPORTANCE_IMAGES = 1000


def over_batches(
    function: Callable[[mx.array], mx.array], images: np.ndarray, copies: int = 1
) -> np.ndarray:
    """Concatenate `function` over batches of float images; one evaluation a batch.

    `copies` is how many times the function multiplies a batch, to bound its memory.
    """
    size = max(1, BATCH_PIXELS // (copies * math.prod(images.shape[1:])))
    parts = []
    for start in range(0, len(images), size):
        parts.append(np.array(function(as_float(images[start : start + size]))))
    return np.concatenate(parts)


def pixels(images: np.ndarray) -> np.ndarray:
    """uint8 images as float32 in [0, 1]."""
    return images.astype(np.float32) / 255


def reconstruct(model: LatentVariableModel, images: np.ndarray) -> np.ndarray:
    """Reconstructions at the posterior mean, float32 in [0, 1], (N, H, W, C)."""
    return over_batches(model.reconstruct, images)


def latents(model: LatentVariableModel, images: np.ndarray) -> np.ndarray:
    """Means of q(z|x), (N, D)."""
    return over_batches(lambda x: model.encode(x).mean, images)


def responsibilities(model: MixtureModel, images: np.ndarray) -> np.ndarray:
    """q(y|x), (N, K)."""
    return over_batches(model.responsibilities, images)


def generative_scores(model: LatentVariableModel, images: np.ndarray) -> dict[str, float]:
    """ELBO and its terms, the importance bound (nats per image), bits/dim, MSE and SSIM.

    The importance bound takes 100 samples for at most the first 1,000 images.
    """
    names = sorted(model.elbo(as_float(images[:1])).terms)

    def terms(x: mx.array) -> mx.array:
        values = model.elbo_terms(x, model.posterior(x))
        return mx.stack([values[name] for name in names], axis=1)

    means = over_batches(terms, images).mean(axis=0)
    scores = {name: float(value) for name, value in zip(names, means, strict=True)}
    scores["elbo"] = -sum(scores.values())
    some = images[:IMPORTANCE_IMAGES]
    bound = over_batches(lambda x: model.importance_bound(x, IMPORTANCE_SAMPLES), some, copies=8)
    scores["importance_bound"] = float(bound.mean())
    scores["importance_images"] = len(some)
    scores["bits_per_dim"] = -scores["elbo"] / math.log(2) / math.prod(images.shape[1:])
    reconstructions = reconstruct(model, images)
    scores["mse"] = float(mse(pixels(images), reconstructions).mean())
    scores["ssim"] = float(ssim(pixels(images), reconstructions).mean())
    return scores


def cluster_scores(model: MixtureModel, dataset: Dataset) -> dict[str, float]:
    """ACC, NMI, ARI of the most responsible component against the labels, which must exist."""
    assert dataset.labels is not None
    return clustering_scores(dataset.labels, responsibilities(model, dataset.images).argmax(axis=1))
