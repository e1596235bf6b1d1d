"""The models by name. A new one is a file here and a line in MODELS."""

from typing import Any

from ..config import ModelConfig
from ..config.record import require_choice
from ..errors import InputError
from .base import Elbo, LatentVariableModel, MixtureModel
from .gmvae import GMVAE
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
    """The model that `config` describes, with random weights from MLX's global generator.

    >>> model = build_model(ModelConfig(model="vae", image_size=(20, 28), latent_dims=4))
    >>> model.sample(num=3).shape
    (3, 20, 28, 1)
    """
    return kind_of(config)(config)


def kind_of(config: ModelConfig) -> type[LatentVariableModel]:
    """The class of the model that `config` describes. Raises InputError if there is none."""
    require_choice("model", config.model, MODELS)
    return MODELS[config.model]


def owners_of(option: str) -> list[str]:
    """The models that have a field of ModelConfig which not all have; none if all have it."""
    return [name for name, kind in MODELS.items() if option in kind.options]


def require_effect(config: ModelConfig, option: str) -> None:
    """Raise InputError if an option means nothing for the model that `config` describes."""
    owners = owners_of(option)
    if owners and option not in kind_of(config).options:
        raise InputError(
            f"{option} has no effect with model {config.model}; it is for {', '.join(owners)}"
        )
    config.require_effect(option)


def effective_options(config: ModelConfig) -> dict[str, Any]:
    """The options that mean something for the model that `config` describes."""
    return {
        name: value
        for name, value in config.effective().items()
        if not owners_of(name) or name in kind_of(config).options
    }
