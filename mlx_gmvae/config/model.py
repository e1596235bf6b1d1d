"""Configuration of a model."""

import math
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from .record import Record, require_choice, require_positive, require_range

ARCHS = ("conv", "mlp")
LIKELIHOODS = ("bernoulli", "gaussian", "logistic")
POSTERIORS = ("amortised", "bayes")
CLASSIFIERS = ("conv", "patches", "features")


# Options that have an effect only with some networks or likelihoods. Each option has a list of
# alternatives: the values that other fields must have. Options that depend on the kind of model
# are listed by the model classes.
NEEDS: dict[str, list[dict[str, str]]] = {
    "max_filters": [{"arch": "conv"}],
    "hidden_dims": [
        {"arch": "mlp"},
        {"classifier": "patches", "arch": "conv", "posterior": "amortised"},
    ],
    "classifier": [
        {"arch": "conv", "posterior": "amortised"},
        {"classifier": "features", "posterior": "amortised"},
    ],
    "feature_dims": [{"classifier": "features", "posterior": "amortised"}],
    "sigma": [{"likelihood": "gaussian"}],
}

# No real use reaches these limits. They keep a damaged or malicious file from allocating
# terabytes of memory.
LARGEST = {
    "image_size": 16384,
    "channels": 64,
    "latent_dims": 4096,
    "K": 4096,
    "w_dims": 4096,
    "max_filters": 4096,
    "num_layers": 16,
    "hidden_dims": 16384,
    "feature_dims": 65536,
}


@dataclass(frozen=True, repr=False)
class ModelConfig(Record):
    """Configuration of a model: all that is needed to rebuild it before its weights are loaded.

    Instances cannot be changed; `dataclasses.replace` returns a changed copy. A value of the wrong
    type or out of range raises InputError, a ValueError.

    Parameters
    ----------
    model : {"gmvae", "vade", "vae-gmm", "vae"}
        Kind of model.
    arch : {"conv", "mlp"}
        Convolutional or dense networks.
    image_size : tuple of int
        Height and width of the images.
    channels : int
        Number of channels: 1 for grey, 3 for colour.
    latent_dims : int
        Number of dimensions of z.
    K : int
        Number of components of the mixture. Not for a vae.
    w_dims : int
        Number of dimensions of the style w. Only for a gmvae.
    posterior : {"amortised", "bayes"}
        Whether a classifier computes q(y|.), or Bayes' rule at z and w. Only for a gmvae.
    classifier : {"conv", "patches", "features"}
        First layers of q(y|x): convolutions, histograms of visual words of small patches, or
        none, on features of a frozen encoder. Only for an amortised gmvae.
    feature_dims : int
        Number of features. Only for the classifier "features".
    likelihood : {"bernoulli", "gaussian", "logistic"}
        Likelihood of the pixels given z.
    sigma : float
        Standard deviation of the Gaussian likelihood.
    max_filters : int
        Channels of the coarsest convolutional stage. Each finer stage has half as many, but at
        least 16. Only for "conv".
    hidden_dims : int
        Width of the hidden layers for "mlp", or of the layer after the visual words.
    num_layers : int, optional
        Number of stride-2 stages for "conv", or of hidden layers for "mlp". By default it is
        chosen from the image size, see `layers`.
    mc_samples : int
        Number of draws of the latents per image for the ELBO.

    Examples
    --------
    >>> ModelConfig(image_size=(64, 48), channels=3, K=5)
    ModelConfig(image_size=(64, 48), channels=3, K=5)
    >>> ModelConfig(image_size=(64, 48)).layers
    4
    """

    model: str = "gmvae"
    arch: str = "conv"
    image_size: tuple[int, int] = (28, 28)
    channels: int = 1
    latent_dims: int = 8
    K: int = 10
    w_dims: int = 8
    posterior: str = "amortised"
    classifier: str = "conv"
    feature_dims: int = 1
    likelihood: str = "bernoulli"
    sigma: float = 0.1
    max_filters: int = 64
    hidden_dims: int = 512
    num_layers: int | None = None
    mc_samples: int = 1

    def validate(self) -> None:
        require_choice("arch", self.arch, ARCHS)
        require_choice("posterior", self.posterior, POSTERIORS)
        require_choice("classifier", self.classifier, CLASSIFIERS)
        require_choice("likelihood", self.likelihood, LIKELIHOODS)
        for name in (
            *("channels", "latent_dims", "K", "w_dims", "max_filters", "hidden_dims"),
            "feature_dims",
        ):
            require_range(name, getattr(self, name), 1, LARGEST[name])
        for size in self.image_size:
            require_range("image_size", size, 1, LARGEST["image_size"])
        require_range("num_layers", self.num_layers, 1, LARGEST["num_layers"])
        require_range("mc_samples", self.mc_samples, 1, 1024)
        require_positive("sigma", self.sigma)

    @property
    def layers(self) -> int:
        """Number of layers: `num_layers`, or its default for this architecture and image size.

        The default for "mlp" is two hidden layers. For "conv" the image is halved until its shorter
        side is about 4 pixels: three stages for 28 x 28, seven for 512 x 512.
        """
        if self.num_layers is not None:
            return self.num_layers
        if self.arch == "mlp":
            return 2
        return max(1, round(math.log2(min(self.image_size) / 4)))

    def require_effect(self, name: str) -> None:
        """Check that an option has an effect with these networks and this likelihood.

        Parameters
        ----------
        name : str
            Name of a field.

        Raises
        ------
        InputError
            If the option has no effect.
        """
        if self._has_effect(name):
            return
        needs, *others = NEEDS[name]
        field, value = next(each for each in needs.items() if getattr(self, each[0]) != each[1])
        ways = [value, *(" and ".join(map(" ".join, other.items())) for other in others)]
        raise InputError(
            f"{name} has no effect with {field} {getattr(self, field)}; "
            f"it is for {', or '.join(ways)}"
        )

    def effective(self) -> dict[str, Any]:
        """Return the options that have an effect with these networks and this likelihood.

        Returns
        -------
        dict
            Options by name. `num_layers` is never None.
        """
        values = self.to_dict() | {"num_layers": self.layers}
        return {name: value for name, value in values.items() if self._has_effect(name)}

    def _has_effect(self, name: str) -> bool:
        ways = NEEDS.get(name, [{}])
        return any(all(getattr(self, field) == v for field, v in way.items()) for way in ways)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, (H, W, C)."""
        return (*self.image_size, self.channels)
