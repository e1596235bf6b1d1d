"""A trained model over a whole set of images, in batches: what the scripts report."""

import math

import mlx.core as mx
import numpy as np

from ..data.batches import as_float, batch_size, over_batches
from ..data.images import Images
from ..device.randomness import preserved_random_state
from ..models import LatentVariableModel, MixtureModel
from ..models.mixture import Gaussians
from .metrics import mse, ssim

IMPORTANCE_SAMPLES = 100
IMPORTANCE_IMAGES = 1000
IMPORTANCE_PIXELS = 1 << 22
ANOMALY_SAMPLES = 20
GAUSSIAN_SAMPLES = 2000


def reconstruct(model: LatentVariableModel, images: np.ndarray) -> np.ndarray:
    """Reconstructions at the posterior mean, float32 in [0, 1], (N, H, W, C)."""
    return over_batches(model.reconstruct, images)


def reconstruction_scores(
    model: LatentVariableModel, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """MSE and SSIM of each image's reconstruction, (N,) and (N,), batch by batch."""
    size = batch_size(images.shape[1:])
    errors, similarities = [], []
    for start in range(0, len(images), size):
        block = as_float(images[start : start + size])
        originals, reconstructions = np.array(block), np.array(model.reconstruct(block))
        errors.append(mse(originals, reconstructions))
        similarities.append(ssim(originals, reconstructions))
    return np.concatenate(errors), np.concatenate(similarities)


def samples(model: LatentVariableModel, num: int, component: int | None = None) -> np.ndarray:
    """`num` images of expected pixels from the prior or a component of it, (num, H, W, C)."""
    size = batch_size(model.config.image_shape)
    nums = [min(size, num - start) for start in range(0, num, size)]
    return np.concatenate([np.array(model.sample(each, component)) for each in nums])


def sample_rows(model: LatentVariableModel, num: int) -> tuple[np.ndarray, int]:
    """Samples for a grid and its number of columns: a row of `num` per component, or a square.

    Leaves MLX's random state as it was, so that looking does not change the training.
    """
    with preserved_random_state():
        if not isinstance(model, MixtureModel):
            return samples(model, num * num), num
        rows = [samples(model, num, component) for component in range(model.config.K)]
        return np.concatenate(rows), num


def latents(model: LatentVariableModel, images: Images) -> np.ndarray:
    """Means of q(z|x), (N, D)."""
    return over_batches(lambda x: model.encode(x).mean, images)


def responsibilities(model: MixtureModel, images: np.ndarray) -> np.ndarray:
    """q(y|x), (N, K)."""
    return over_batches(model.responsibilities, images)


def anomaly_scores(
    model: LatentVariableModel, images: np.ndarray, kind: str, seed: int = 0
) -> np.ndarray:
    """How unlikely each image is, (N,), nats: higher is stranger.

    "importance": the negative importance bound of 20 draws; "elbo": the negative ELBO.
    """
    with preserved_random_state():
        mx.random.seed(seed)
        if kind == "elbo":
            return over_batches(model.negative_elbo, images)
        return -over_batches(lambda x: model.importance_bound(x, ANOMALY_SAMPLES), images, copies=8)


def component_gaussians(model: MixtureModel) -> Gaussians:
    """Mean and covariance of z in each component, from 2,000 draws of each."""
    with preserved_random_state():
        mx.random.seed(0)
        draws = [np.array(model.sample_latent(GAUSSIAN_SAMPLES, y)) for y in range(model.config.K)]
    means = np.stack([z.mean(axis=0) for z in draws])
    covariances = np.stack([np.cov(z, rowvar=False).reshape(z.shape[1], -1) for z in draws])
    return Gaussians(means, covariances, [str(y) for y in range(model.config.K)])


def generative_scores(model: LatentVariableModel, images: np.ndarray) -> dict[str, float]:
    """ELBO and its terms, the importance bound (nats per image), bits/dim, MSE and SSIM.

    The importance bound takes 100 samples for at most the first 1,000 images, fewer large ones.
    Always with the same noise; MLX's random state stays as it was.
    """
    names: list[str] = []

    def terms(x: mx.array) -> mx.array:
        values = model.elbo_terms(x, model.posterior(x))
        names[:] = sorted(values)
        return mx.stack([values[name] for name in names], axis=1)

    def bound(x: mx.array) -> mx.array:
        return model.importance_bound(x, IMPORTANCE_SAMPLES)

    affordable = max(1, IMPORTANCE_PIXELS // math.prod(images.shape[1:]))
    some = images[: min(IMPORTANCE_IMAGES, affordable)]
    with preserved_random_state():
        mx.random.seed(0)
        means = over_batches(terms, images).mean(axis=0)
        bounds = over_batches(bound, some, copies=8)
    scores = {name: float(value) for name, value in zip(names, means, strict=True)}
    scores["elbo"] = -sum(scores.values())
    scores["importance_bound"] = float(bounds.mean())
    scores["importance_images"] = len(some)
    scores["bits_per_dim"] = -scores["elbo"] / math.log(2) / math.prod(images.shape[1:])
    errors, similarities = reconstruction_scores(model, images)
    scores |= {"mse": float(errors.mean()), "ssim": float(similarities.mean())}
    return scores
