"""Mutual learning of a VAE and a Gaussian mixture (Taniguchi et al. 2020, Neuro-SERKET).

The VAE and the mixture are trained in turns: the mixture is fitted to the latents of the VAE, and
the VAE takes its components as the prior of z. With r = p(y|z) under the mixture of the last
iteration,

    -ELBO = E[-log p(x|z)] + E sum_y r_y KL(q(z|x) || N(m_y, s_y^2)) + E KL(r || pi)

Iteration 0 has p(z) = N(0, I). The mixture is fitted by variational inference and never by
gradient. Otherwise the bound is VaDE's.
"""

from ..config import ModelConfig
from .vade import VaDE


class VAEGMM(VaDE):
    refit_option = "mutual_iterations"
    trained_by_pairs = False

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.mixture.freeze()
