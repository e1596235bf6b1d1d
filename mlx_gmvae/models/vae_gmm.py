"""Mutual learning of a VAE and a Gaussian mixture (Taniguchi et al. 2020, Neuro-SERKET).

The VAE gives its latents to the mixture, the mixture gives its components back to the VAE as the
prior of z, and so on. With r = p(y|z) under the mixture of the last iteration,

    -ELBO = E[-log p(x|z)] + E sum_y r_y KL(q(z|x) || N(m_y, s_y^2)) + E KL(r || pi)

Iteration 0 has p(z) = N(0, I). The mixture is refitted by variational inference and never by
gradient; otherwise the bound is VaDE's.
"""

from ..config import ModelConfig
from .vade import VaDE


class VAEGMM(VaDE):
    refit_option = "mutual_iterations"
    trained_by_pairs = False

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.mixture.freeze()
