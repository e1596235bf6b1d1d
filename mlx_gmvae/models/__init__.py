"""Models by name. To add one, add a file here and a line in `MODELS`."""

from typing import Any

from ..config import ModelConfig
from ..config.record import require_choice
from ..errors import InputError
from .base import Elbo, LatentVariableModel
from .gmvae import GMVAE
from .mixture_model import MixtureModel
from .vade import VaDE
from .vae import VAE
from .vae_gmm import VAEGMM

MODELS: dict[str, type[LatentVariableModel]] = {
    "vae": VAE,
    "gmvae": GMVAE,
    "vade": VaDE,
    "vae-gmm": VAEGMM,
}

__all__ = [
    "MODELS", "Elbo", "LatentVariableModel", "MixtureModel", "build_model", "effective_options",
    "kind_of", "owners_of", "require_effect",
]  # fmt: skip


def build_model(config: ModelConfig) -> LatentVariableModel:
    """Return the model for `config`, with random weights from MLX's global generator.

    >>> model = build_model(ModelConfig(model="vae", image_size=(20, 28), latent_dims=4))
    >>> model.sample(num=3).shape
    (3, 20, 28, 1)
    """
    return kind_of(config)(config)


def kind_of(config: ModelConfig) -> type[LatentVariableModel]:
    """Return the model class for `config`. Raises InputError if its name is unknown."""
    require_choice("model", config.model, MODELS)
    return MODELS[config.model]


def owners_of(option: str) -> list[str]:
    """Return the names of the models that have `option`; empty if all models have it."""
    return [name for name, kind in MODELS.items() if option in kind.options]


def require_effect(config: ModelConfig, option: str) -> None:
    """Raise InputError if an option has no effect for the model of `config`."""
    owners = owners_of(option)
    if owners and option not in kind_of(config).options:
        raise InputError(
            f"{option} has no effect with model {config.model}; it is for {', '.join(owners)}"
        )
    config.require_effect(option)


def effective_options(config: ModelConfig) -> dict[str, Any]:
    """Return the options that have an effect for the model of `config`."""
    return {
        name: value
        for name, value in config.effective().items()
        if not owners_of(name) or name in kind_of(config).options
    }
