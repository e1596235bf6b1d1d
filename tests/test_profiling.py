"""--profile and --benchmark_devices: plausible figures, and a trainer that is left as it was."""

from pathlib import Path

import train
from mlx_gmvae.cli import profiling
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.device import backend
from mlx_gmvae.models import build_model
from mlx_gmvae.training.api import new_trainer

import mlx.core as mx
import numpy as np
import pytest

pytestmark = pytest.mark.times


@pytest.mark.parametrize("model", ["vae", "gmvae"])
def test_phases_and_the_trainer_afterwards(model: str, small_images: np.ndarray) -> None:
    config = ModelConfig(
        model=model, arch="mlp", image_size=(9, 6), channels=3, K=3, latent_dims=2, hidden_dims=8
    )
    pair_weight = float(model == "gmvae")
    training = TrainConfig(batchsize=16, neighbours=3, descriptor="hog", pair_weight=pair_weight)
    trainer = new_trainer(build_model(config), small_images, training)
    before = {name: np.array(value) for name, value in trainer.state()[0].items()}
    seconds = profiling.phases(trainer, small_images[:8])
    expected = {"data", "forward", "backward", "optimiser", "evaluation", "checkpoint"}
    assert set(seconds) == expected | ({"augmentation"} if model == "gmvae" else set())
    assert all(value >= 0 for value in seconds.values())
    assert min(seconds[name] for name in ("data", "forward", "evaluation", "checkpoint")) > 0
    for name, value in trainer.state()[0].items():
        np.testing.assert_array_equal(np.array(value), before[name], err_msg=name)


def test_training_goes_on_as_if_a_step_had_not_been_timed(small_images: np.ndarray) -> None:
    config = ModelConfig(image_size=(9, 6), channels=3, K=3, latent_dims=2, max_filters=8)
    training = TrainConfig(batchsize=16, epochs=2, neighbours=3, descriptor="hog")
    trained = []
    for timed in (False, True):
        mx.random.seed(0)
        trainer = new_trainer(build_model(config), small_images, training)
        epochs = trainer.run()
        next(epochs)
        if timed:
            assert 0 < profiling.seconds_per_step(trainer) < 60
        next(epochs)
        trained.append({name: np.array(value) for name, value in trainer.model.arrays().items()})
    for name, value in trained[0].items():
        np.testing.assert_array_equal(value, trained[1][name], err_msg=name)


def test_flags_of_train(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = "--dataset digits --model vae --arch mlp --hidden_dims 8 --latent_dims 2 --cpu"
    before = mx.default_device()
    try:
        assert train.main([*options.split(), "--profile", "--benchmark_devices"]) == 0
        assert train.main([*options.split(), "--profile", "--outdir", "x"]) == 2
    finally:
        mx.set_default_device(before)
    printed = capsys.readouterr()
    assert "backward" in printed.out and "cpu: " in printed.out
    assert ("gpu: none" in printed.out) == (not backend.has_gpu())
    assert len(printed.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
