"""Trainers for tests: configurations are resolved for the images first, as every script does."""

from typing import Any

from mlx_gmvae.config import TrainConfig
from mlx_gmvae.training.resolve import resolve_training
from mlx_gmvae.training.trainer import Trainer


def new_trainer(model: Any, images: Any, config: TrainConfig, *args: Any, **rest: Any) -> Trainer:
    """Return a Trainer of a model over uint8 images."""
    resolved, _ = resolve_training(config, model.config, images)
    return Trainer(model, images, resolved, *args, **rest)
