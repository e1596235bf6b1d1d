"""The interface of models: encoding, decoding, the ELBO, the importance bound and sampling."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map

from ..config import ModelConfig
from ..config.record import is_whole
from ..errors import InputError
from ..inputs import Inputs, WithFeatures, pixels_of
from .distributions import Normal, make_likelihood, with_same_noise
from .networks import make_decoder, make_encoder

Decode = Callable[[mx.array], mx.array]
TRIES = 5  # draws of an image until q(y|x) gives it to its component


class Elbo(NamedTuple):
    """The negative evidence lower bound and its parts, in nats per example.

    `loss` is the plain sum of `terms`. Training may weight the terms, but the bound never does.
    It is a NamedTuple, because that passes through `mx.compile` and `value_and_grad`.
    """

    loss: mx.array  # scalar
    terms: dict[str, mx.array]  # reconstruction, kl_z, kl_w, kl_y, ...


class LatentVariableModel(nn.Module):
    """An encoder, a decoder and a likelihood; subclasses add the prior and the bound.

    Class attributes are what the rest of the package must know of a kind of model: the fields of
    ModelConfig that not all kinds have, the field of TrainConfig that says when its mixture is
    refitted, and whether neighbour pairs train its q(y|x).
    """

    options: ClassVar[tuple[str, ...]] = ()
    refit_option: ClassVar[str | None] = None
    trained_by_pairs: ClassVar[bool] = False

    def __init__(self, config: ModelConfig):
        super().__init__()
        if not isinstance(config, ModelConfig):
            raise InputError(f"config is of type {type(config).__name__}; give a ModelConfig")
        self.config = config
        self.likelihood = make_likelihood(config.likelihood, config.sigma, config.channels)
        self.encoder = make_encoder(config)
        self.decoder = make_decoder(config)

    def __repr__(self) -> str:
        config, size = self.config, sum(value.size for value in self.arrays().values())
        options = [config.arch, "x".join(map(str, config.image_shape))]
        options += [f"latent_dims={config.latent_dims}"]
        options += [f"K={config.K}"] * ("K" in self.options)
        return f"{type(self).__name__}({', '.join(options)}; {size:,} parameters)"

    def arrays(self) -> dict[str, mx.array]:
        """Every parameter by its path, as saved in files."""
        return dict(tree_flatten(self.parameters()))  # type: ignore[arg-type]

    def features(self, x: Inputs) -> mx.array:
        """What the encoder makes of images (B, H, W, C), which are checked here."""
        self.require_images(x)
        return self.encoder(pixels_of(x))

    def require_images(self, images: Inputs) -> None:
        """Raise InputError unless these are images (B, H, W, C) of the model's size."""
        x = pixels_of(images)
        _require_floats("images", x)
        if x.ndim != 4 or x.shape[1:] != self.config.image_shape:
            shape = " x ".join(map(str, self.config.image_shape))
            raise InputError(f"images have shape {x.shape}; they must be N x {shape}")

    def posterior(self, x: Inputs) -> Any:
        """The variational posterior of images (B, H, W, C), as the model's own type."""
        raise NotImplementedError

    def encode(self, x: Inputs) -> Normal:
        """q(z|x) for images (B, H, W, C): a Normal over (B, D), by default all of the posterior."""
        return self.posterior(x)  # type: ignore[no-any-return]

    def decode(self, z: mx.array) -> mx.array:
        """Likelihood parameters (..., H, W, C), logits or means, for latents (..., D)."""
        dims = self.config.latent_dims
        _require_floats("latents", z)
        if not z.ndim or z.shape[-1] != dims:
            raise InputError(f"latents have shape {z.shape}; the model's are (N, {dims})")
        flat = self.decoder(z.reshape(-1, z.shape[-1]))
        return flat.reshape(*z.shape[:-1], *self.config.image_shape)

    def image(self, z: mx.array) -> mx.array:
        """Expected pixels in [0, 1], (..., H, W, C), for latents (..., D)."""
        return self.likelihood.mean(self.decode(z))

    def reconstruct(self, x: Inputs) -> mx.array:
        """Expected pixels at the posterior mean, (B, H, W, C)."""
        return self.image(self.encode(x).mean)

    def elbo_terms(self, x: Inputs, q: Any, decode: Decode | None = None) -> dict[str, mx.array]:
        """Each term of the negative ELBO at one draw from q = posterior(x), (B,), nats.

        `decode` may stand in for the method, for who has latents to be decoded in the same call.
        """
        raise NotImplementedError

    def negative_elbo(self, x: Inputs, same_draws: bool = False) -> mx.array:
        """The negative ELBO of each image at one draw, or at the same for all, (B,), nats."""
        q = with_same_noise(self.posterior(x), 1) if same_draws else self.posterior(x)
        return sum(self.elbo_terms(x, q).values(), mx.array(0.0))

    def elbo(self, x: Inputs, q: Any = None, decode: Decode | None = None) -> Elbo:
        """Batch means of `elbo_terms`, averaged over `mc_samples` draws from q or posterior(x)."""
        q = self.posterior(x) if q is None else q
        draws = [self.elbo_terms(x, q, decode) for _ in range(self.config.mc_samples)]
        terms = {name: mx.stack([draw[name] for draw in draws]).mean() for name in draws[0]}
        return Elbo(sum(terms.values(), mx.array(0.0)), terms)

    def log_importance_weight(self, x: mx.array, q: Any) -> mx.array:
        """log p(x, h) - log q(h|x) at one draw of the latent variables h, (B,), nats."""
        raise NotImplementedError

    def importance_bound(self, x: Inputs, num_samples: int, same_draws: bool = False) -> mx.array:
        """Lower bound on log p(x), (B,), nats; tightens as `num_samples` grows.

        With `same_draws` all images share their noise, so that an image's bound does not depend on
        the others in the batch.

        Source: Burda et al. 2016, "Importance weighted autoencoders", eq. 8.
        """

        # All draws in one call: x1 ... x1, x2 ... x2, and so on.
        def repeated(each: mx.array | None) -> mx.array | None:
            return None if each is None else mx.repeat(each, num_samples, axis=0)

        q = tree_map(repeated, self.posterior(x))
        if same_draws:
            q = with_same_noise(q, num_samples)
        pixels = pixels_of(x)
        log_weights = self.log_importance_weight(mx.repeat(pixels, num_samples, axis=0), q)
        log_weights = log_weights.reshape(len(pixels), num_samples)
        return mx.logsumexp(log_weights, axis=1) - math.log(num_samples)

    def sample(self, num: int, component: int | None = None) -> mx.array:
        """`num` images of expected pixels, (num, H, W, C), from the prior or a component."""
        return self.image(self.sample_latent(num, component))

    def sample_latent(self, num: int, component: int | None = None) -> mx.array:
        """`num` draws of z from the prior, (num, D), or from one component of it."""
        self.require_drawable(num, component)
        return self._draw(int(num), component)

    def require_drawable(self, num: int, component: int | None = None) -> None:
        """Raise InputError unless `num` is a number of samples and `component` one of the prior."""
        if not is_whole(num) or num < 1:
            raise InputError(f"num is {num!r}; it must be a whole number of at least 1")
        if component is not None:
            raise InputError(f"a {self.config.model} has no components")

    def _draw(self, num: int, component: int | None) -> mx.array:
        raise NotImplementedError


class MixtureModel(LatentVariableModel):
    """A model whose prior over z is a mixture of K components."""

    options: ClassVar[tuple[str, ...]] = ("K",)

    @classmethod
    def classifies(cls, config: ModelConfig) -> bool:
        """Whether q(y|x) is a network of its own, `classifier`, rather than Bayes' rule at z."""
        return False

    @property
    def has_classifier(self) -> bool:
        """`classifies` for this model's own configuration."""
        return self.classifies(self.config)

    @property
    def sees_features(self) -> bool:
        """Whether q(y|x) sees features of a frozen encoder in the place of pixels."""
        return self.has_classifier and self.config.classifier == "features"

    def classifier_inputs(self, x: Inputs) -> mx.array:
        """What q(y|x) sees of a batch: its pixels (B, H, W, C), or features (B, F).

        Raises ValueError if features are needed and there are none.
        """
        if not self.sees_features:
            return pixels_of(x)
        if not isinstance(x, WithFeatures):
            raise ValueError("q(y|x) of this model needs the features of the images beside them")
        return x.features

    def classifier_features(self, x: Inputs) -> mx.array:
        """What the last layer of the classifier sees of a batch, (B, 128)."""
        return self.classifier.features(self.classifier_inputs(x))  # type: ignore[no-any-return]

    def log_cluster_probabilities(self, x: Inputs) -> mx.array:
        """log q(y|x), (B, K); deterministic, at the means of the other latent variables."""
        return self.log_probabilities_of(self.classifier_inputs(x))

    def log_probabilities_of(self, seen: mx.array) -> mx.array:
        """log q(y|x), (B, K), from what `classifier_inputs` answers."""
        raise NotImplementedError

    def given_clusters(self, q: Any) -> Any:
        """`q` with no gradient through q(y|x), for when another objective trains that."""
        raise NotImplementedError

    def responsibilities(self, x: Inputs) -> mx.array:
        """q(y|x), (B, K), rows sum to 1."""
        self.require_images(x)
        return mx.exp(self.log_cluster_probabilities(x))

    def sample(self, num: int, component: int | None = None) -> mx.array:
        """`num` images of expected pixels; those of a component are recognised as of it.

        Components overlap, and p(x|z) has seams between clusters. So an image that q(y|x) gives to
        another component is drawn again, at most TRIES times (rejection sampling of p(x|y)).
        Where q(y|x) sees features there is no such test: a drawn image has none.
        """
        images = super().sample(num, component)
        if component is None or self.sees_features:
            return images
        for _ in range(TRIES - 1):
            is_right = self.responsibilities(images).argmax(axis=1) == component
            if is_right.all():
                break
            images = mx.where(is_right[:, None, None, None], images, super().sample(num, component))
        return images

    def require_drawable(self, num: int, component: int | None = None) -> None:
        super().require_drawable(num)
        is_one = component is None or (is_whole(component) and 0 <= component < self.config.K)
        if not is_one:
            raise InputError(f"component is {component!r}; there are 0 to {self.config.K - 1}")

    def permute_components(self, order: np.ndarray) -> None:
        """Number the components anew: component y becomes what component order[y] was."""
        raise NotImplementedError

    def refit(self, latents: np.ndarray, seed: int) -> None:
        """Fit the mixture to latents (N, D), for models that refit theirs during training."""
        raise NotImplementedError

    def component_latents(self) -> mx.array:
        """The centre of each component in latent space, (K, D)."""
        raise NotImplementedError


def _require_floats(name: str, value: mx.array) -> None:
    """Raise InputError unless `value` is an mx.array of floats, which networks need."""
    if not isinstance(value, mx.array) or not mx.issubdtype(value.dtype, mx.floating):
        kind = value.dtype if isinstance(value, mx.array) else type(value).__name__
        raise InputError(
            f"{name} are {kind}; give an mx.array of floats, or call the model that build_model or "
            "load returns, which takes NumPy arrays too"
        )
