"""Competing heads: each is a layer of its own, and the one with the lowest loss is used."""

from mlx_gmvae.clustering.heads import Heads
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.models import GMVAE
from mlx_gmvae.training.api import new_trainer

import mlx.core as mx
import mlx.nn as nn
import numpy as np


def test_each_head_is_a_linear_layer() -> None:
    heads, layer = Heads(nn.Linear(5, 3), 4), nn.Linear(5, 3)
    features = mx.random.normal((7, 5))
    outputs = heads(features)
    assert outputs.shape == (7, 4, 3)
    for number in range(4):
        heads.chosen = mx.array(number)
        heads.copy_to(layer)
        np.testing.assert_allclose(outputs[:, number], layer(features), rtol=1e-5, atol=1e-6)


def test_a_head_must_be_clearly_better_to_be_chosen() -> None:
    heads = Heads(nn.Linear(5, 3), 3)
    for _ in range(1000):
        heads.record(mx.array([1.0, 0.995, 1.0]))
    assert heads.chosen.item() == 0
    for _ in range(1000):
        heads.record(mx.array([1.0, 0.995, 0.9]))
    assert heads.chosen.item() == 2
    seen = np.array([[1.0, 0.995, 1.0]] * 1000 + [[1.0, 0.995, 0.9]] * 1000)
    ages = np.arange(len(seen))[::-1, None]
    expected = (0.01 * 0.99**ages * seen).sum(axis=0)  # each loss weighs less the older it is
    np.testing.assert_allclose(heads.running_loss, expected, rtol=1e-4)
    heads.freeze_choice()
    for _ in range(1000):
        heads.record(mx.array([0.1, 0.995, 0.9]))
    assert heads.chosen.item() == 2


def test_the_model_ends_in_the_head_in_use(small_images: np.ndarray) -> None:
    model = GMVAE(ModelConfig(image_size=(9, 6), channels=3, K=3))
    trainer = new_trainer(
        model,
        small_images,
        TrainConfig(epochs=3, batchsize=16, heads=5, balance="uniform", descriptor="hog"),
    )
    for _ in trainer.run():
        pass
    heads = trainer.trained.heads
    np.testing.assert_array_equal(model.classifier.out.weight, heads.weight[heads.chosen])
    np.testing.assert_array_equal(model.classifier.out.bias, heads.bias[heads.chosen])
    assert len({np.array(weight).tobytes() for weight in heads.weight}) == 5
    assert float(mx.abs(heads.running_loss).min()) > 0
    assert len({float(loss) for loss in heads.running_loss}) == 5
