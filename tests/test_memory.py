"""The memory that a step takes, and batches that fit it."""

import gc

from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.data.batches import as_float
from mlx_gmvae.data.splits import Dataset
from mlx_gmvae.evaluation.metrics import mse, ssim
from mlx_gmvae.evaluation.scores import reconstruct as reconstructions
from mlx_gmvae.evaluation.scores import reconstruction_scores
from mlx_gmvae.models import build_model
from mlx_gmvae.training import memory
from mlx_gmvae.training.api import new_trainer
from mlx_gmvae.training.defaults import for_set_size

import mlx.core as mx
import numpy as np
import pytest


def test_scores_of_batches_are_those_of_the_whole(
    small_images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_model(ModelConfig(model="vae", image_size=(9, 6), channels=3))
    found = reconstructions(model, small_images)
    originals = np.array(as_float(small_images))
    whole = (mse(originals, found), ssim(originals, found))
    monkeypatch.setattr("mlx_gmvae.data.batches.BATCH_PIXELS", 10 * 9 * 6 * 3)
    for one, other in zip(reconstruction_scores(model, small_images), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_default_batches_fit_the_image_size() -> None:
    assert [memory.fitting_batch((side, side)) for side in (28, 32, 512, 4096)] == [
        2048,
        2048,
        8,
        2,
    ]
    images = np.empty((3000, 512, 512, 3), np.uint8)  # never touched, so never in memory
    dataset = Dataset("large", images, None, np.arange(3000))
    assert for_set_size(TrainConfig(), dataset, set())[0].batchsize == 8
    assert for_set_size(TrainConfig(batchsize=64), dataset, {"batchsize"})[0].batchsize == 64


@pytest.mark.on_cpu("on CUDA convolutions take memory of their own")
@pytest.mark.parametrize(
    ("side", "model", "classifier"),
    [(64, "gmvae", "conv"), (48, "gmvae", "patches"), (96, "vae", "conv")],
)
def test_estimated_memory_is_that_of_a_step_within_thirty_percent(
    side: int, model: str, classifier: str
) -> None:

    gc.collect()
    others = mx.get_active_memory()  # what other tests left
    config = ModelConfig(model=model, classifier=classifier, image_size=(side, side), channels=3)
    network = build_model(config)
    images = np.random.default_rng(0).integers(0, 256, (32, side, side, 3), dtype=np.uint8)
    training = TrainConfig(
        epochs=1, batchsize=32, pair_weight=float(model == "gmvae"), descriptor="pixels"
    )
    trainer = new_trainer(network, images, training)
    mx.reset_peak_memory()
    list(trainer.run())  # visual words are learned in less memory than a step
    parameters = sum(value.size for value in network.arrays().values())
    estimate = memory.step_bytes(config, training, 32, parameters)
    assert 0.7 < (mx.get_peak_memory() - others) / estimate < 1.3
