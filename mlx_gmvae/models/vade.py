"""Variational deep embedding (Jiang et al. 2017, arXiv:1611.05148).

    y ~ Cat(pi)     z | y ~ N(m_y, diag s_y^2)     x | z: decoder

    q(z|x): diagonal Normal          q(y|x) = p(y|z) at z ~ q(z|x) (eq. 16, one draw)

    -ELBO = E[-log p(x|z)]                                     reconstruction
          + E sum_y q(y|x) KL(q(z|x) || N(m_y, s_y^2))          kl_z
          + E KL(q(y|x) || pi)                                  kl_y

pi, m and s are learned by gradient. They start from a mixture fitted to the latents of a
pretrained autoencoder. Without that start, all components collapse into one.
"""

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..config import ModelConfig
from ..inputs import Inputs, pixels_of
from .base import Decode
from .distributions import Normal
from .mixture import GaussianMixture
from .mixture_model import MixtureModel


class VaDE(MixtureModel):
    refit_option = "pretrain_epochs"
    trained_by_pairs = True

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.z_head = nn.Linear(self.encoder.out_dims, 2 * config.latent_dims)
        self.mixture = GaussianMixture(config.K, config.latent_dims)

    def posterior(self, x: Inputs) -> Normal:
        return Normal.from_network(self.z_head(self.features(x)))

    def given_clusters(self, q: Normal) -> Normal:
        return q  # q(y|x) is computed from z: there is nothing to hold constant

    def log_probabilities_of(self, seen: mx.array) -> mx.array:
        return self.mixture.log_responsibilities(self.encode(seen).mean)

    def elbo_terms(
        self, x: Inputs, q_z: Normal, decode: Decode | None = None
    ) -> dict[str, mx.array]:
        decode = decode or self.decode
        z = q_z.sample()
        log_q_y = self.mixture.log_responsibilities(z)  # (B, K)
        q_y = mx.exp(log_q_y)
        return {
            "reconstruction": -self.likelihood.log_prob(decode(z), pixels_of(x)),
            "kl_z": (q_y * self.mixture.kl(q_z)).sum(axis=-1),
            "kl_y": (q_y * (log_q_y - self.mixture.log_weights)).sum(axis=-1),
        }

    def log_importance_weight(self, x: mx.array, q_z: Normal) -> mx.array:
        z = q_z.sample()
        log_joint = self.likelihood.log_prob(self.decode(z), x) + self.mixture.log_prob(z)
        return log_joint - q_z.log_prob(z)

    def _draw(self, num: int, component: int | None) -> mx.array:
        if component is None:
            return self.mixture.latent_of(self.mixture.sample_components(num))
        return self.mixture.latent_of(mx.full((num,), component, dtype=mx.int32))

    def component_latents(self) -> mx.array:
        return self.mixture.components.mean

    def permute_components(self, order: np.ndarray) -> None:
        self.mixture.permute(order)

    def refit(self, latents: np.ndarray, seed: int) -> None:
        self.mixture.fit(latents, seed)
