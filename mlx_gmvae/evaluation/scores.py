"""A trained model over a whole set of images, in batches: what the scripts report."""

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
    "deviance": "nats from the bound up to a perfect reconstruction",
    "importance": "negative importance bound of 5 draws, nats",
    "elbo": "negative ELBO of one draw, nats",
}


def reconstruct(model: LatentVariableModel, images: np.ndarray) -> np.ndarray:
    """Reconstructions at the posterior mean, float32 in [0, 1], (N, H, W, C)."""
    return finite(over_batches(model.reconstruct, images, what="reconstructing"))


def decode(model: LatentVariableModel, z: np.ndarray) -> np.ndarray:
    """Expected pixels in [0, 1], (N, H, W, C), of latents (N, D)."""
    copies = math.prod(model.config.image_shape) // model.config.latent_dims  # of their memory
    return over_batches(model.image, np.asarray(z, np.float32), max(1, copies))


def reconstruction_scores(
    model: LatentVariableModel, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """MSE and SSIM of each image's reconstruction, (N,) and (N,), batch by batch."""
    pairs = []
    for x in in_batches(images, what="reconstructing"):
        originals, reconstructions = np.array(pixels_of(x)), np.array(model.reconstruct(x))
        pairs.append((mse(originals, reconstructions), ssim(originals, reconstructions)))
    errors, similarities = map(np.concatenate, zip(*pairs, strict=True))
    return errors, similarities


def samples(model: LatentVariableModel, num: int, component: int | None = None) -> np.ndarray:
    """`num` images of expected pixels from the prior or a component of it, (num, H, W, C)."""
    forks.require_usable()
    size = batch_size(model.config.image_shape)
    nums = [min(size, num - start) for start in range(0, num, size)]
    drawn = (model.sample(each, component) for each in with_progress(nums, "sampling"))
    return finite(np.concatenate([np.array(images) for images in drawn]))


def sample_rows(model: LatentVariableModel, num: int, seed: int | None = None) -> np.ndarray:
    """Samples for a grid of `num` columns: a row per component, or a square.

    Leaves MLX's random state as it was, so that looking does not change the training.
    """
    with preserved_random_state():
        if seed is not None:
            mx.random.seed(seed)
        if not isinstance(model, MixtureModel):
            return samples(model, num * num)
        rows = [samples(model, num, component) for component in range(model.config.K)]
        return np.concatenate(rows)


def latents(model: LatentVariableModel, images: Examples) -> np.ndarray:
    """Means of q(z|x), (N, D)."""
    return finite(over_batches(lambda x: model.encode(x).mean, images, what="encoding"))


def responsibilities(model: MixtureModel, images: Examples) -> np.ndarray:
    """q(y|x), (N, K)."""
    return finite(over_batches(model.responsibilities, images, what="clustering"))


def finite(answers: np.ndarray) -> np.ndarray:
    """A model's answers. Raises InputError if they are no numbers: its weights must be at fault."""
    if not np.isfinite(answers).all():
        raise InputError("the model answers with NaN or infinity; its weights are of no use")
    return answers


def anomaly_scores(
    model: LatentVariableModel, images: Examples, kind: str = "deviance", seed: int = 0
) -> np.ndarray:
    """How strange each image is, (N,), nats, by one of ANOMALY_SCORES: higher is stranger.

    "importance": the negative importance bound of 5 draws; "elbo": the negative ELBO; "deviance":
    how far the importance bound is below the log-likelihood of the saturated model, whose mean is
    the image itself (half the deviance of generalised linear models). A Bernoulli's bound contains
    the entropy of the grey values, so that mid-grey textures score high whatever they show; the
    deviance does not. With a Gaussian both rank images alike.
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
    """Mean and covariance of z in each component, from 2,000 draws of each."""
    with preserved_random_state():
        mx.random.seed(0)
        draws = [np.array(model.sample_latent(GAUSSIAN_SAMPLES, y)) for y in range(model.config.K)]
    means = np.stack([z.mean(axis=0) for z in draws])
    covariances = np.stack([np.cov(z, rowvar=False).reshape(z.shape[1], -1) for z in draws])
    return Gaussians(means, covariances, [str(y) for y in range(model.config.K)])


def generative_scores(model: LatentVariableModel, images: Examples) -> dict[str, float]:
    """ELBO and its terms, the importance bound (nats per image), bits/dim, MSE and SSIM.

    The importance bound takes 100 draws. It is measured of at most 128 random images, fewer
    large ones, and the ELBO of all is raised by what it is above theirs (a control variate: the
    bounds of an image differ far less than images do). Bits per dimension are left out where
    `bits_per_dim` knows none.
    Always with the same noise; MLX's random state stays as it was.
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
    """The mean ELBO of at most a thousand random images, nats per image."""
    rows = np.sort(random_rows(len(images), SURVEYED_IMAGES))
    return -float(anomaly_scores(model, Rows(images, rows), "elbo").mean())


def bits_per_dim(model: LatentVariableModel, nats: float) -> float | None:
    """What a lossless code of 8-bit images needs per pixel and channel, by a negative ELBO.

    None where the likelihood says nothing of that: a Bernoulli's of grey values.
    """
    log_bins = model.likelihood.log_bins
    if log_bins is None:
        return None
    return (nats / math.prod(model.config.image_shape) + log_bins) / math.log(2)


def _bound_and_reconstructions(
    model: LatentVariableModel, images: Examples
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The terms of the negative ELBO, nats, and MSE and SSIM at the mean of q(z|x), each (N,)."""
    names: list[str] = []
    choose_fusing()

    # Compiled, so that what both need of the encoder is computed once.
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
