"""The models by name. A new one is a file here and a line in MODELS."""

from ..config import ModelConfig
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

__all__ = ["MODELS", "Elbo", "LatentVariableModel", "MixtureModel", "build_model"]


def build_model(config: ModelConfig) -> LatentVariableModel:
    """The model that `config` describes, with random weights from MLX's global generator."""
    return MODELS[config.model](config)
