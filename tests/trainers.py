"""Small trainers, and whether two ended with the same weights."""

from typing import Any

from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.models import build_model
from mlx_gmvae.training.api import new_trainer
from mlx_gmvae.training.trainer import Trainer

import mlx.core as mx
import numpy as np


def make_trainer(
    images: np.ndarray, arch: str = "conv", model: str = "gmvae", **options: Any
) -> Trainer:
    # Of images in colour, visual words are learned by default, which takes five times as long as
    # the training.
    few = {"epochs": 2, "batchsize": 16, "neighbours": 3, "descriptor": "hog"}
    config = TrainConfig.from_dict(few | options)
    height, width, channels = images.shape[1:]
    mx.random.seed(config.seed)
    model_config = ModelConfig(
        model=model, arch=arch, image_size=(height, width), channels=channels, latent_dims=3,
        K=4, w_dims=2, hidden_dims=16, max_filters=8,
    )  # fmt: skip
    return new_trainer(build_model(model_config), images, config)


def weights(trainer: Trainer) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in trainer.model.arrays().items()}


def finish(trainer: Trainer) -> Trainer:
    list(trainer.run())
    return trainer


def assert_same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
