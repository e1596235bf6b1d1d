"""The variational autoencoder (Kingma & Welling 2013, arXiv:1312.6114).

p(z) = N(0, I)        p(x|z): decoder        q(z|x) = N(mean(x), diag var(x)): encoder

-ELBO = E_q[-log p(x|z)] + KL(q(z|x) || p(z))
"""

import mlx.core as mx
import mlx.nn as nn

from ..config import ModelConfig
from ..inputs import Inputs, pixels_of
from .base import Decode, LatentVariableModel
from .distributions import Normal, standard_normal_log_prob


class VAE(LatentVariableModel):
    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.z_head = nn.Linear(self.encoder.out_dims, 2 * config.latent_dims)

    def posterior(self, x: Inputs) -> Normal:
        return Normal.from_network(self.z_head(self.features(x)))

    def elbo_terms(
        self, x: Inputs, q_z: Normal, decode: Decode | None = None
    ) -> dict[str, mx.array]:
        decode = decode or self.decode
        return {
            "reconstruction": -self.likelihood.log_prob(decode(q_z.sample()), pixels_of(x)),
            "kl_z": q_z.kl_standard(),
        }

    def log_importance_weight(self, x: mx.array, q_z: Normal) -> mx.array:
        z = q_z.sample()
        log_joint = self.likelihood.log_prob(self.decode(z), x) + standard_normal_log_prob(z)
        return log_joint - q_z.log_prob(z)

    def _draw(self, num: int, component: int | None) -> mx.array:
        return mx.random.normal((num, self.config.latent_dims))
