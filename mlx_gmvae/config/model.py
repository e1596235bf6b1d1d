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
    """Everything needed to rebuild a model before its weights are loaded.

    `num_layers` counts stride-2 stages for `conv` and hidden layers for `mlp`; None chooses
    from the image size. NEEDS lists the fields that concern only some networks or likelihoods.
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
        """`num_layers`, or the default for this architecture and image size.

        Two hidden layers for `mlp`; for `conv`, halve until the shorter side is about 4
        pixels, so that 28x28 gets three stages and 512x512 gets seven.
        """
        if self.num_layers is not None:
            return self.num_layers
        if self.arch == "mlp":
            return 2
        return max(1, round(math.log2(min(self.image_size) / 4)))

    def require_effect(self, name: str) -> None:
        """Raise InputError if the option `name` means nothing for these networks and likelihood."""
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
        """The options that mean something for them, with `num_layers` resolved."""
        values = self.to_dict() | {"num_layers": self.layers}
        return {name: value for name, value in values.items() if self._has_effect(name)}

    def _has_effect(self, name: str) -> bool:
        ways = NEEDS.get(name, [{}])
        return any(all(getattr(self, field) == v for field, v in way.items()) for way in ways)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return (*self.image_size, self.channels)
