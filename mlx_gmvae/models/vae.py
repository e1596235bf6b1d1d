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
    """Variational autoencoder.

    The model is that of [1]_. `build_model` wraps one with checks of its inputs; this is the plain
    network.

    Parameters
    ----------
    config : ModelConfig
        Configuration of the model.

    Attributes
    ----------
    z_head : mlx.nn.Module
        Layer from features of the encoder to q(z|x).

    References
    ----------
    .. [1] Kingma & Welling 2013, "Auto-Encoding Variational Bayes", arXiv:1312.6114.

    Examples
    --------
    >>> model = VAE(ModelConfig(model="vae", image_size=(8, 8), latent_dims=4))
    >>> model.encode(mx.zeros((3, 8, 8, 1))).mean.shape
    (3, 4)
    """

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
