"""The Gaussian-mixture VAE (Dilokthanakul et al. 2016, arXiv:1611.02648).

    w ~ N(0, I)     y ~ Cat(1/K)     z | w, y ~ N(m_y(w), diag s_y^2(w))     x | z: decoder

    q(z|x), q(w|x): diagonal Normals
    q(y|.): a classifier's q(y|x) ("amortised", the paper's first version), or exactly
            p(y|z,w) = p(z|w,y) / sum_y' p(z|w,y') ("bayes", its final version, eq. 6)

    -ELBO = E[-log p(x|z)]                                          reconstruction
          + E_q(w|x) sum_y q(y|.) KL(q(z|x) || N(m_y(w), s_y^2(w)))  kl_z, conditional prior
          + KL(q(w|x) || N(0, I))                                   kl_w
          + KL(q(y|.) || 1/K)                                       kl_y

The paper uses other names: the image is y, the latent x and the component z. w has the same name.
"""

import math
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..config import ModelConfig
from ..inputs import Inputs, pixels_of
from .base import Decode
from .distributions import (
    Normal,
    categorical_kl_uniform,
    log_responsibilities,
    standard_normal_log_prob,
)
from .layers import SLOPE, held_constant, permute_outputs
from .mixture_model import MixtureModel
from .networks import Classifier, FeatureClassifier

PRIOR_HIDDEN_DIMS = 128
PRIOR_SPREAD = 1.0


class Posterior(NamedTuple):
    """q(z|x) over (B, D), q(w|x) over (B, M), and logits of q(y|x) (B, K) if amortised."""

    z: Normal
    w: Normal
    y_logits: mx.array | None


class GMVAE(MixtureModel):
    """Gaussian-mixture variational autoencoder.

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
    w_head : mlx.nn.Module
        Layer from features of the encoder to q(w|x).
    classifier : mlx.nn.Module
        Network of q(y|x). Defined only if the posterior is "amortised".
    prior : mlx.nn.Module
        Network from w to p(z|w,y) of all components y.

    References
    ----------
    .. [1] Dilokthanakul et al. 2016, "Deep Unsupervised Clustering with Gaussian Mixture
       Variational Autoencoders", arXiv:1611.02648.

    Examples
    --------
    >>> model = GMVAE(ModelConfig(image_size=(8, 8), latent_dims=4, K=5))
    >>> model.responsibilities(mx.zeros((3, 8, 8, 1))).shape
    (3, 5)
    >>> model.sample(2, component=4).shape
    (2, 8, 8, 1)
    """

    options = ("K", "w_dims", "posterior", "classifier")
    trained_by_pairs = True

    @classmethod
    def classifies(cls, config: ModelConfig) -> bool:
        return config.posterior == "amortised"

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        features = self.encoder.out_dims
        self.z_head = nn.Linear(features, 2 * config.latent_dims)
        self.w_head = nn.Linear(features, 2 * config.w_dims)
        if self.has_classifier:
            by_features = config.classifier == "features"
            self.classifier = FeatureClassifier(config) if by_features else Classifier(config)
        self.prior = ComponentPrior(config.w_dims, config.K, config.latent_dims)

    def posterior(self, x: Inputs) -> Posterior:
        """Return the variational posterior of images.

        Parameters
        ----------
        x : mx.array of shape (B, H, W, C), or WithFeatures
            Images, floats in [0, 1].

        Returns
        -------
        Posterior
            The posterior q(z|x), `z`, q(w|x), `w`, and the logits of q(y|x), `y_logits`, or None
            without a classifier.
        """
        features = self.features(x)
        return Posterior(
            Normal.from_network(self.z_head(features)),
            Normal.from_network(self.w_head(features)),
            self.classifier(self.classifier_inputs(x)) if self.has_classifier else None,
        )

    def given_clusters(self, q: Posterior) -> Posterior:
        """Return a posterior through whose q(y|x) no gradient flows.

        Parameters
        ----------
        q : Posterior
            Posterior of a batch.

        Returns
        -------
        Posterior
            The same, with constant logits. A bound of it trains all but the classifier.
        """
        if q.y_logits is None:
            return q
        return q._replace(y_logits=mx.stop_gradient(q.y_logits))

    def log_probabilities_of(self, seen: mx.array) -> mx.array:
        if self.has_classifier:
            return log_responsibilities(self.classifier(seen))
        q = self.posterior(seen)
        return self.log_q_y(q, q.z.mean, self.prior(q.w.mean))

    def draw_samples(self, num: int) -> tuple[mx.array, mx.array]:
        """Draw components and latents from the prior.

        Parameters
        ----------
        num : int
            Number of draws.

        Returns
        -------
        y : mx.array of shape (num,)
            Components.
        z : mx.array of shape (num, D)
            Latents z ~ p(z|w,y).
        """
        y = mx.random.randint(0, self.config.K, (num,))
        return y, self.latent_of(y)

    def disagreement(self, y: mx.array, images: mx.array) -> mx.array:
        """Return the mean of -log q(y | E[x|z]), over samples of known components.

        No gradient flows to the classifier: prior and decoder learn to draw images that it
        recognises.

        Parameters
        ----------
        y : mx.array of shape (N,)
            Component that each image was drawn from.
        images : mx.array of shape (N, H, W, C)
            Drawn images, E[x|z].

        Returns
        -------
        mx.array
            Scalar, in nats.
        """
        with held_constant(self.classifier):
            log_q = log_responsibilities(self.classifier(images))
        return -mx.where(self._one_hot(y), log_q, 0).sum(axis=-1).mean()

    def encode(self, x: Inputs) -> Normal:
        return Normal.from_network(self.z_head(self.features(x)))

    def elbo_terms(
        self, x: Inputs, q: Posterior, decode: Decode | None = None
    ) -> dict[str, mx.array]:
        decode = decode or self.decode
        z, w = q.z.sample(), q.w.sample()
        components = self.prior(w)  # (B, K, D)
        log_q_y = self.log_q_y(q, z, components)  # (B, K)
        q_z = Normal(q.z.mean[:, None], q.z.log_var[:, None])
        return {
            "reconstruction": -self.likelihood.log_prob(decode(z), pixels_of(x)),
            "kl_z": (mx.exp(log_q_y) * q_z.kl(components)).sum(axis=-1),
            "kl_w": q.w.kl_standard(),
            "kl_y": categorical_kl_uniform(log_q_y),
        }

    def log_q_y(self, q: Posterior, z: mx.array, components: Normal) -> mx.array:
        """Return log q(y|.), of the classifier or by Bayes' rule at z under p(z|w,y)/K.

        Parameters
        ----------
        q : Posterior
            Posterior of a batch.
        z : mx.array of shape (B, D)
            Latents.
        components : Normal
            Components p(z|w,y) over (B, K, D).

        Returns
        -------
        mx.array of shape (B, K)
            Logarithms of the cluster probabilities.
        """
        if q.y_logits is not None:
            return log_responsibilities(q.y_logits)
        return log_responsibilities(components.log_prob(z[:, None]))

    def log_importance_weight(self, x: mx.array, q: Posterior) -> mx.array:
        """Return log p(x, z, w) - log q(z, w|x), at one draw of z and w.

        The sum over y is exact: p(z|w) = 1/K sum_y p(z|w,y).

        Parameters
        ----------
        x : mx.array of shape (B, H, W, C)
            Images, floats in [0, 1].
        q : Posterior
            Posterior of the images.

        Returns
        -------
        mx.array of shape (B,)
            Logarithms of the importance weights, in nats.
        """
        z, w = q.z.sample(), q.w.sample()
        log_p_z = mx.logsumexp(self.prior(w).log_prob(z[:, None]), axis=-1)
        log_joint = (
            self.likelihood.log_prob(self.decode(z), x)
            + log_p_z
            - math.log(self.config.K)
            + standard_normal_log_prob(w)
        )
        return log_joint - q.z.log_prob(z) - q.w.log_prob(w)

    def _draw(self, num: int, component: int | None) -> mx.array:
        if component is None:
            return self.latent_of(mx.random.randint(0, self.config.K, (num,)))
        return self.latent_of(mx.full((num,), component, dtype=mx.int32))

    def latent_of(self, y: mx.array) -> mx.array:
        """Draw latents z ~ p(z|w,y) of given components, with w from its prior.

        Parameters
        ----------
        y : mx.array of shape (B,)
            Components.

        Returns
        -------
        mx.array of shape (B, D)
            Latents z.
        """
        components = self.prior(mx.random.normal((len(y), self.config.w_dims)))
        is_y = self._one_hot(y)[..., None]
        return Normal(*(mx.where(is_y, each, 0).sum(axis=1) for each in components)).sample()

    def _one_hot(self, y: mx.array) -> mx.array:
        """Return whether a component is y, as booleans: (B,) -> (B, K).

        Used in place of an index: on CUDA each kind of indexing, and of its gradient, is a kernel
        whose compilation takes seconds.
        """
        return y[:, None] == mx.arange(self.config.K)

    def component_latents(self) -> mx.array:
        return self.prior(mx.zeros((1, self.config.w_dims))).mean[0]

    def permute_components(self, order: np.ndarray) -> None:
        if self.has_classifier:
            permute_outputs(self.classifier.out, order)
        # The prior's last layer has 2 D outputs for each component.
        outputs = np.arange(len(self.prior.out.bias)).reshape(self.config.K, -1)
        permute_outputs(self.prior.out, outputs[order].flatten())


class ComponentPrior(nn.Module):
    """p(z|w,y) for every y at once: w (B, M) -> Normal over (B, K, D)."""

    def __init__(self, w_dims: int, num_components: int, latent_dims: int):
        super().__init__()
        self.hidden = nn.Linear(w_dims, PRIOR_HIDDEN_DIMS)
        self.out = nn.Linear(PRIOR_HIDDEN_DIMS, num_components * 2 * latent_dims)
        # Components must start with different means: no gradient can separate identical ones.
        mean = PRIOR_SPREAD * mx.random.normal((num_components, latent_dims))
        bias = mx.concatenate([mean, mx.zeros_like(mean)], axis=-1)
        self.out.bias = bias.flatten()
        self._shape = (num_components, 2 * latent_dims)

    def __call__(self, w: mx.array) -> Normal:
        hidden = nn.leaky_relu(self.hidden(w), SLOPE)
        return Normal.from_network(self.out(hidden).reshape(-1, *self._shape))
