"""Base class of all models: encoding, decoding, the ELBO, the importance bound and sampling."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map

from ..config import ModelConfig
from ..config.record import is_whole
from ..errors import InputError
from ..inputs import Inputs, pixels_of
from .distributions import Normal, make_likelihood, with_same_noise
from .networks import make_decoder, make_encoder

Decode = Callable[[mx.array], mx.array]


class Elbo(NamedTuple):
    """The negative evidence lower bound and its parts, in nats per example.

    `loss` is the plain sum of `terms`. Training may weight the terms, but the bound never does.
    It is a NamedTuple, because that passes through `mx.compile` and `value_and_grad`.
    """

    loss: mx.array  # scalar
    terms: dict[str, mx.array]  # reconstruction, kl_z, kl_w, kl_y, ...


class LatentVariableModel(nn.Module):
    """Base class of all models: an encoder, a decoder and a likelihood.

    Subclasses add the prior and the bound.

    Parameters
    ----------
    config : ModelConfig
        Configuration of the model.

    Attributes
    ----------
    config : ModelConfig
        Configuration of the model.
    likelihood : mlx.nn.Module
        Likelihood of the pixels, p(x|z).
    encoder : mlx.nn.Module
        Network from images (B, H, W, C) to features (B, F).
    decoder : mlx.nn.Module
        Network from latents (B, D) to the parameters of the likelihood.
    options : tuple of str
        Fields of `ModelConfig` that this kind of model has and not all kinds have.
    refit_option : str or None
        Field of `TrainConfig` that determines when the mixture is refitted.
    trained_by_pairs : bool
        Whether neighbour pairs train q(y|x).
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
        """Return all parameters by their path, as they are saved in files.

        Returns
        -------
        dict
            Arrays by path, for example "z_head.weight".
        """
        return dict(tree_flatten(self.parameters()))  # type: ignore[arg-type]

    def features(self, x: Inputs) -> mx.array:
        """Check images and return the output of the encoder.

        Parameters
        ----------
        x : mx.array of shape (B, H, W, C), or WithFeatures
            Images, floats in [0, 1].

        Returns
        -------
        mx.array of shape (B, F)
            Features.

        Raises
        ------
        InputError
            If the images cannot be used.
        """
        self.require_images(x)
        return self.encoder(pixels_of(x))

    def require_images(self, images: Inputs) -> None:
        """Check that these are images of the model's size.

        Parameters
        ----------
        images : mx.array, or WithFeatures
            Images.

        Raises
        ------
        InputError
            If they are not an array of floats (B, H, W, C) of that size.
        """
        x = pixels_of(images)
        _require_floats("images", x)
        if x.ndim != 4 or x.shape[1:] != self.config.image_shape:
            shape = " x ".join(map(str, self.config.image_shape))
            raise InputError(f"images have shape {x.shape}; they must be N x {shape}")

    def posterior(self, x: Inputs) -> Any:
        """Return the variational posterior of images.

        Parameters
        ----------
        x : mx.array of shape (B, H, W, C), or WithFeatures
            Images, floats in [0, 1].

        Returns
        -------
        Normal or tuple
            Posterior of all latent variables; its type depends on the model.
        """
        raise NotImplementedError

    def encode(self, x: Inputs) -> Normal:
        """Return q(z|x) of images.

        Parameters
        ----------
        x : mx.array of shape (B, H, W, C), or WithFeatures
            Images, floats in [0, 1].

        Returns
        -------
        Normal
            Diagonal Normal over (B, D).
        """
        return self.posterior(x)  # type: ignore[no-any-return]

    def decode(self, z: mx.array) -> mx.array:
        """Return the parameters of the likelihood for latents.

        Parameters
        ----------
        z : mx.array of shape (..., D)
            Latents.

        Returns
        -------
        mx.array of shape (..., H, W, C)
            Logits or means, according to the likelihood.

        Raises
        ------
        InputError
            If the latents have another number of dimensions or are not floats.
        """
        dims = self.config.latent_dims
        _require_floats("latents", z)
        if not z.ndim or z.shape[-1] != dims:
            raise InputError(f"latents have shape {z.shape}; the model's are (N, {dims})")
        flat = self.decoder(z.reshape(-1, z.shape[-1]))
        return flat.reshape(*z.shape[:-1], *self.config.image_shape)

    def image(self, z: mx.array) -> mx.array:
        """Return the expected pixels for latents.

        Parameters
        ----------
        z : mx.array of shape (..., D)
            Latents.

        Returns
        -------
        mx.array of shape (..., H, W, C)
            Pixels, in [0, 1].
        """
        return self.likelihood.mean(self.decode(z))

    def reconstruct(self, x: Inputs) -> mx.array:
        """Encode and decode images.

        Parameters
        ----------
        x : mx.array of shape (B, H, W, C), or WithFeatures
            Images, floats in [0, 1].

        Returns
        -------
        mx.array of shape (B, H, W, C)
            Expected pixels at the mean of q(z|x), in [0, 1].
        """
        return self.image(self.encode(x).mean)

    def elbo_terms(self, x: Inputs, q: Any, decode: Decode | None = None) -> dict[str, mx.array]:
        """Return each term of the negative ELBO, at one draw from the posterior.

        Parameters
        ----------
        x : mx.array of shape (B, H, W, C), or WithFeatures
            Images, floats in [0, 1].
        q : posterior
            Posterior of the images, as `posterior` returns it.
        decode : callable, optional
            Replacement for the method `decode`, for callers that decode other latents in the
            same call.

        Returns
        -------
        dict
            Terms (B,) by name, in nats.
        """
        raise NotImplementedError

    def negative_elbo(self, x: Inputs, same_draws: bool = False) -> mx.array:
        """Return the negative ELBO of each image, at one draw from the posterior.

        Parameters
        ----------
        x : mx.array of shape (B, H, W, C), or WithFeatures
            Images, floats in [0, 1].
        same_draws : bool, default=False
            Whether all images share their noise.

        Returns
        -------
        mx.array of shape (B,)
            Negative bounds, in nats.
        """
        q = with_same_noise(self.posterior(x), 1) if same_draws else self.posterior(x)
        return sum(self.elbo_terms(x, q).values(), mx.array(0.0))

    def elbo(self, x: Inputs, q: Any = None, decode: Decode | None = None) -> Elbo:
        """Return the mean negative ELBO of a batch and its terms, over `mc_samples` draws.

        Parameters
        ----------
        x : mx.array of shape (B, H, W, C), or WithFeatures
            Images, floats in [0, 1].
        q : posterior, optional
            Posterior of the images; by default it is computed.
        decode : callable, optional
            Replacement for the method `decode`, as in `elbo_terms`.

        Returns
        -------
        Elbo
            The mean negative bound, `loss`, and its `terms`, in nats per image.
        """
        q = self.posterior(x) if q is None else q
        draws = [self.elbo_terms(x, q, decode) for _ in range(self.config.mc_samples)]
        terms = {name: mx.stack([draw[name] for draw in draws]).mean() for name in draws[0]}
        return Elbo(sum(terms.values(), mx.array(0.0)), terms)

    def log_importance_weight(self, x: mx.array, q: Any) -> mx.array:
        """Return log p(x, h) - log q(h|x), at one draw of the latent variables h.

        Parameters
        ----------
        x : mx.array of shape (B, H, W, C)
            Images, floats in [0, 1].
        q : posterior
            Posterior of the images, as `posterior` returns it.

        Returns
        -------
        mx.array of shape (B,)
            Logarithms of the importance weights, in nats.
        """
        raise NotImplementedError

    def importance_bound(self, x: Inputs, num_samples: int, same_draws: bool = False) -> mx.array:
        """Return the importance-weighted lower bound on log p(x) of each image [1]_.

        Parameters
        ----------
        x : mx.array of shape (B, H, W, C), or WithFeatures
            Images, floats in [0, 1].
        num_samples : int
            Number of draws per image. The bound tightens as it grows.
        same_draws : bool, default=False
            Whether all images share their noise. If so, the bound of an image does not depend on
            the others in the batch.

        Returns
        -------
        mx.array of shape (B,)
            Bounds, in nats.

        References
        ----------
        .. [1] Burda et al. 2016, "Importance Weighted Autoencoders", arXiv:1509.00519, eq. 8.
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
        """Draw images from the prior, or from one component of it.

        Parameters
        ----------
        num : int
            Number of images.
        component : int, optional
            Component of a mixture to draw from; by default the whole prior.

        Returns
        -------
        mx.array of shape (num, H, W, C)
            Expected pixels, in [0, 1].

        Raises
        ------
        InputError
            If there is no such component, or `num` is not a number of samples.
        """
        return self.image(self.sample_latent(num, component))

    def sample_latent(self, num: int, component: int | None = None) -> mx.array:
        """Draw latents from the prior, or from one component of it.

        Parameters
        ----------
        num : int
            Number of latents.
        component : int, optional
            Component of a mixture to draw from; by default the whole prior.

        Returns
        -------
        mx.array of shape (num, D)
            Latents z.

        Raises
        ------
        InputError
            If there is no such component, or `num` is not a number of samples.
        """
        self.require_drawable(num, component)
        return self._draw(int(num), component)

    def require_drawable(self, num: int, component: int | None = None) -> None:
        """Check the arguments of `sample`.

        Parameters
        ----------
        num : int
            Number of samples.
        component : int, optional
            Component of the prior.

        Raises
        ------
        InputError
            If `num` is not a whole number of at least 1, or there is no such component.
        """
        if not is_whole(num) or num < 1:
            raise InputError(f"num is {num!r}; it must be a whole number of at least 1")
        if component is not None:
            raise InputError(f"a {self.config.model} has no components")

    def _draw(self, num: int, component: int | None) -> mx.array:
        raise NotImplementedError


def _require_floats(name: str, value: mx.array) -> None:
    """Raise InputError unless `value` is an mx.array of floats, which networks need."""
    if not isinstance(value, mx.array) or not mx.issubdtype(value.dtype, mx.floating):
        kind = value.dtype if isinstance(value, mx.array) else type(value).__name__
        raise InputError(
            f"{name} are {kind}; give an mx.array of floats, or call the model that build_model or "
            "load returns, which takes NumPy arrays too"
        )
