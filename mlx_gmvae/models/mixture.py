"""A mixture of diagonal Gaussians over latents: a prior, which scikit-learn can also fit."""

import warnings
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..device.randomness import random_rows
from ..errors import InputError
from .distributions import LOG_VAR_RANGE, Normal, clamped, log_responsibilities

FIT_POINTS = 100_000
FIT_ITERATIONS = 300
FIT_STARTS = 3


class Gaussians(NamedTuple):
    """Components in latent space: means (K, D), covariances (K, D, D), and their names."""

    means: np.ndarray
    covariances: np.ndarray
    names: list[str]


class GaussianMixture(nn.Module):
    """p(z) = sum_y pi_y N(z; m_y, diag s_y^2) over (B, D), with K components.

    It starts as K equal copies of N(0, I), so that the mixture is N(0, I).
    """

    def __init__(self, num_components: int, dims: int):
        super().__init__()
        self.logits = mx.zeros((num_components,))
        self.mean = mx.zeros((num_components, dims))
        self.log_var = mx.zeros((num_components, dims))

    @property
    def components(self) -> Normal:
        """N(m_y, s_y^2) over (K, D)."""
        return Normal(self.mean, clamped(self.log_var, *LOG_VAR_RANGE))

    @property
    def log_weights(self) -> mx.array:
        """Return log pi, (K,)."""
        return self.logits - mx.logsumexp(self.logits)

    def log_joint(self, z: mx.array) -> mx.array:
        """Return log p(z, y) for every y: (B, D) -> (B, K), nats."""
        return self.log_weights + self.components.log_prob(z[:, None])

    def log_prob(self, z: mx.array) -> mx.array:
        """Return log p(z), (B,), nats."""
        return mx.logsumexp(self.log_joint(z), axis=-1)

    def log_responsibilities(self, z: mx.array) -> mx.array:
        """Return log p(y|z), (B, K)."""
        return log_responsibilities(self.log_joint(z))

    def kl(self, q: Normal) -> mx.array:
        """Return KL(q || N(m_y, s_y^2)) for every y, (B, K), nats, for q over (B, D)."""
        return Normal(q.mean[:, None], q.log_var[:, None]).kl(self.components)

    def sample_components(self, num: int) -> mx.array:
        """Draw components y ~ Cat(pi), (num,)."""
        return mx.random.categorical(self.logits, num_samples=num)

    def latent_of(self, y: mx.array) -> mx.array:
        """Draw z ~ N(m_y, s_y^2), (B, D), for components y (B,)."""
        components = self.components
        return Normal(components.mean[y], components.log_var[y]).sample()

    def fit(self, latents: np.ndarray, seed: int) -> None:
        """Fit the mixture by variational inference to latents (N, D), at most 100,000 at random.

        This is scikit-learn's Bayesian mixture with a Dirichlet prior (Bishop 2006, section 10.2).
        Raises InputError if there are fewer latents than components.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import BayesianGaussianMixture
        from threadpoolctl import threadpool_limits

        if len(latents) < len(self.logits):
            raise InputError(
                f"{len(latents)} images are too few for K = {len(self.logits)} components; give "
                "more images or a smaller --K"
            )
        some = random_rows(len(latents), FIT_POINTS, seed)
        fitted = BayesianGaussianMixture(
            n_components=len(self.logits),
            covariance_type="diag",
            weight_concentration_prior_type="dirichlet_distribution",
            max_iter=FIT_ITERATIONS,
            n_init=FIT_STARTS,
            random_state=seed,
        )
        with warnings.catch_warnings(), threadpool_limits(1):
            # A fit that stops early is good enough: training changes the latents anyway.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted.fit(latents[some].astype(np.float64))
        self.set(fitted.weights_, fitted.means_, fitted.covariances_)

    def permute(self, order: np.ndarray) -> None:
        """Renumber the components: component y becomes the former component order[y]."""
        rows = mx.array(order)
        self.logits, self.mean = self.logits[rows], self.mean[rows]
        self.log_var = self.log_var[rows]

    def set(self, weights: np.ndarray, means: np.ndarray, variances: np.ndarray) -> None:
        """Set the weights (K,), means (K, D) and variances (K, D)."""
        self.logits = mx.array(np.log(np.maximum(weights, 1e-12)).astype(np.float32))
        self.mean = mx.array(means.astype(np.float32))
        self.log_var = mx.array(np.log(np.maximum(variances, 1e-8)).astype(np.float32))
