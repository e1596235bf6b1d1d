"""Outputs and scores of a trained model for a whole set of images, in batches."""

import math
from functools import partial

import mlx.core as mx
import numpy as np

from ..data.batches import batch_size, in_batches, over_batches, with_progress
from ..data.images import Examples, Rows
from ..device import forks
from ..device.backend import choose_fusing
from ..device.randomness import preserved_random_state, random_rows
from ..errors import InputError
from ..inputs import Inputs, pixels_of
from ..models import LatentVariableModel, MixtureModel
from ..models.mixture import Gaussians
from .metrics import mse, ssim

IMPORTANCE_SAMPLES = 100
IMPORTANCE_IMAGES = 128
IMPORTANCE_PIXELS = 1 << 20
ANOMALY_SAMPLES = 5
GAUSSIAN_SAMPLES = 2000
SURVEYED_IMAGES = 1000
ANOMALY_SCORES = {  # the default first
    "deviance": "log-likelihood of a perfect reconstruction minus the importance bound, nats",
    "importance": "negative importance bound of 5 draws, nats",
    "elbo": "negative ELBO of one draw, nats",
}


def reconstruct(model: LatentVariableModel, images: np.ndarray) -> np.ndarray:
    """Return reconstructions at the posterior mean, float32 in [0, 1], (N, H, W, C)."""
    return finite(over_batches(model.reconstruct, images, what="reconstructing"))


def decode(model: LatentVariableModel, z: np.ndarray) -> np.ndarray:
    """Return expected pixels in [0, 1], (N, H, W, C), of latents (N, D)."""
    copies = math.prod(model.config.image_shape) // model.config.latent_dims  # of their memory
    return over_batches(model.image, np.asarray(z, np.float32), max(1, copies))


def reconstruction_scores(
    model: LatentVariableModel, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return MSE and SSIM of each image's reconstruction, (N,) and (N,)."""
    pairs = []
    for x in in_batches(images, what="reconstructing"):
        originals, reconstructions = np.array(pixels_of(x)), np.array(model.reconstruct(x))
        pairs.append((mse(originals, reconstructions), ssim(originals, reconstructions)))
    errors, similarities = map(np.concatenate, zip(*pairs, strict=True))
    return errors, similarities


def samples(model: LatentVariableModel, num: int, component: int | None = None) -> np.ndarray:
    """Return `num` images of expected pixels, (num, H, W, C), from the prior or a component."""
    forks.require_usable()
    size = batch_size(model.config.image_shape)
    nums = [min(size, num - start) for start in range(0, num, size)]
    drawn = (model.sample(each, component) for each in with_progress(nums, "sampling"))
    return finite(np.concatenate([np.array(images) for images in drawn]))


def sample_rows(model: LatentVariableModel, num: int, seed: int | None = None) -> np.ndarray:
    """Return samples for a grid of `num` columns: a row per component, or a square.

    MLX's random state is restored, so that drawing samples does not change the training.
    """
    with preserved_random_state():
        if seed is not None:
            mx.random.seed(seed)
        if not isinstance(model, MixtureModel):
            return samples(model, num * num)
        rows = [samples(model, num, component) for component in range(model.config.K)]
        return np.concatenate(rows)


def latents(model: LatentVariableModel, images: Examples) -> np.ndarray:
    """Return the means of q(z|x), (N, D)."""
    return finite(over_batches(lambda x: model.encode(x).mean, images, what="encoding"))


def responsibilities(model: MixtureModel, images: Examples) -> np.ndarray:
    """Return q(y|x), (N, K)."""
    return finite(over_batches(model.responsibilities, images, what="clustering"))


def finite(answers: np.ndarray) -> np.ndarray:
    """Return a model's outputs. Raises InputError if they are not finite: bad weights."""
    if not np.isfinite(answers).all():
        raise InputError("the model returns NaN or infinity; train it again, or load another one")
    return answers


def anomaly_scores(
    model: LatentVariableModel, images: Examples, kind: str = "deviance", seed: int = 0
) -> np.ndarray:
    """Return the anomaly score of each image, (N,), nats: a higher score is more anomalous.

    `kind` is one of ANOMALY_SCORES. "importance" is the negative importance bound of 5 draws, and
    "elbo" the negative ELBO. "deviance" is the log-likelihood of the saturated model, whose mean is
    the image itself, minus the importance bound (half the deviance of generalised linear models).
    A Bernoulli's bound contains the entropy of the grey values, so mid-grey textures get high
    scores whatever they show; the deviance does not contain it. With a Gaussian both scores rank
    images alike.
    """
    what = "anomaly scores"
    with preserved_random_state():
        mx.random.seed(seed)
        if kind == "elbo":
            return over_batches(model.negative_elbo, images, what=what)
        found = -_importance_bounds(model, images, ANOMALY_SAMPLES, what)
        if kind == "deviance":
            found += over_batches(
                lambda x: model.likelihood.saturated_log_prob(pixels_of(x)), images
            )
        return found


def _importance_bounds(
    model: LatentVariableModel, images: Examples, draws: int, what: str
) -> np.ndarray:
    return over_batches(lambda x: model.importance_bound(x, draws), images, draws, what)


def component_gaussians(model: MixtureModel) -> Gaussians:
    """Return the mean and covariance of z in each component, from 2,000 draws of each."""
    with preserved_random_state():
        mx.random.seed(0)
        draws = [np.array(model.sample_latent(GAUSSIAN_SAMPLES, y)) for y in range(model.config.K)]
    means = np.stack([z.mean(axis=0) for z in draws])
    covariances = np.stack([np.cov(z, rowvar=False).reshape(z.shape[1], -1) for z in draws])
    return Gaussians(means, covariances, [str(y) for y in range(model.config.K)])


def generative_scores(model: LatentVariableModel, images: Examples) -> dict[str, float]:
    """Return the ELBO and its terms, the importance bound (nats per image), bits/dim, MSE, SSIM.

    The importance bound takes 100 draws. It is computed for at most 128 random images, fewer if
    they are large. Their mean difference from the ELBO is added to the ELBO of all images (a
    control variate: the two bounds of an image differ far less than images do). Bits per dimension
    are omitted if `bits_per_dim` is None. The noise is always the same, and MLX's random state is
    restored.
    """
    with preserved_random_state():
        mx.random.seed(0)
        terms, errors, similarities = _bound_and_reconstructions(model, images)
        affordable = max(1, IMPORTANCE_PIXELS // math.prod(images.shape[1:]))
        rows = np.sort(random_rows(len(images), min(IMPORTANCE_IMAGES, affordable)))
        some = Rows(images, rows)
        bounds = _importance_bounds(model, some, IMPORTANCE_SAMPLES, "importance bound")
    elbos = -sum(terms.values(), np.zeros(len(images)))
    scores = {name: float(values.mean()) for name, values in sorted(terms.items())}
    scores["elbo"] = float(elbos.mean())
    scores["importance_bound"] = scores["elbo"] + float((bounds - elbos[rows]).mean())
    scores["importance_images"] = len(some)
    bits = bits_per_dim(model, -scores["elbo"])
    if bits is not None:
        scores["bits_per_dim"] = bits
    scores |= {"mse": float(errors.mean()), "ssim": float(similarities.mean())}
    return scores


def surveyed_elbo(model: LatentVariableModel, images: Examples) -> float:
    """Return the mean ELBO of at most a thousand random images, nats per image."""
    rows = np.sort(random_rows(len(images), SURVEYED_IMAGES))
    return -float(anomaly_scores(model, Rows(images, rows), "elbo").mean())


def bits_per_dim(model: LatentVariableModel, nats: float) -> float | None:
    """Return the bits per pixel and channel of a lossless code of 8-bit images.

    `nats` is the negative ELBO per image. Returns None if the likelihood is not that of a code, as
    a Bernoulli of grey values.
    """
    log_bins = model.likelihood.log_bins
    if log_bins is None:
        return None
    return (nats / math.prod(model.config.image_shape) + log_bins) / math.log(2)


def _bound_and_reconstructions(
    model: LatentVariableModel, images: Examples
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return the terms of the negative ELBO, nats, and MSE and SSIM at the mean of q(z|x), (N,)."""
    names: list[str] = []
    choose_fusing()

    # Compiled, so that the encoder, which both need, is computed once.
    @partial(mx.compile, inputs=mx.random.state, outputs=mx.random.state)
    def measured(x: Inputs) -> tuple[mx.array, mx.array]:
        terms = model.elbo_terms(x, model.posterior(x))
        names[:] = terms
        return mx.stack([terms[name] for name in names]), model.reconstruct(x)

    found = []
    for x in in_batches(images, what="measuring"):
        values, reconstructions = (np.array(each) for each in measured(x))
        originals = np.array(pixels_of(x))
        found.append([values, mse(originals, reconstructions), ssim(originals, reconstructions)])
    values, errors, similarities = (
        np.concatenate(each, axis=-1) for each in zip(*found, strict=True)
    )
    return dict(zip(names, values, strict=True)), errors, similarities
