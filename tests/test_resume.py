"""Trainings that stop and go on, bit for bit: within epochs, at refits, with new neighbours."""

from functools import partial
from itertools import islice
from typing import Any

from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.models import build_model
from mlx_gmvae.models.vae_gmm import VAEGMM
from mlx_gmvae.training.api import new_trainer
from mlx_gmvae.training.defaults import for_model
from mlx_gmvae.training.trainer import Trainer

import mlx.core as mx
import numpy as np
import pytest
from trainers import assert_same, finish, make_trainer, weights


@pytest.fixture(scope="module")
def whole(small_images: np.ndarray) -> Trainer:
    """A run that was never stopped."""
    return finish(make_trainer(small_images, kl_anneal=2))


@pytest.mark.parametrize("steps", [1, 4, 6])
def test_a_stopped_run_resumes_bit_for_bit(
    small_images: np.ndarray, whole: Trainer, steps: int
) -> None:
    stopped = make_trainer(small_images, kl_anneal=2)
    answers = iter([False] * (steps - 1) + [True])
    list(stopped.run(lambda: next(answers)))
    assert stopped.epoch * stopped.steps_per_epoch + stopped.step == steps
    arrays, progress = stopped.state()
    arrays = {name: mx.array(np.array(value)) for name, value in arrays.items()}

    resumed = make_trainer(small_images, kl_anneal=2)
    mx.random.seed(999)  # whatever the generator did meanwhile
    resumed.restore(arrays, progress)
    finish(resumed)
    assert_same(weights(whole), weights(resumed))
    for ours, theirs in zip(whole.history, resumed.history, strict=True):
        for name in set(ours) - {"seconds", "throughput"}:
            assert ours[name] == theirs[name], name


def test_neighbours_are_recomputed_in_learned_features(small_images: np.ndarray) -> None:
    """At 40 and 60 % of the epochs, and a run that is stopped in between keeps them."""
    trainer, graphs = make_trainer(small_images, epochs=5), []
    for _ in trainer.run():
        graphs.append(trainer.graph)
    assert all(graph is not None for graph in graphs)
    first, same, at_merge, at_freeze, last = (np.asarray(graph) for graph in graphs)
    assert first is same and first is trainer.neighbours and last is at_freeze
    assert isinstance(at_merge, np.ndarray) and isinstance(at_freeze, np.ndarray)
    assert not np.array_equal(first, at_merge) and not np.array_equal(at_merge, at_freeze)
    assert at_merge.shape == (len(small_images), 3)
    others = np.arange(len(small_images))[:, None]
    assert (at_merge != others).all() and at_merge.max() < len(small_images)

    stopped = make_trainer(small_images, epochs=5)
    for _ in islice(stopped.run(), 3):
        pass
    arrays, progress = stopped.state()
    resumed = make_trainer(small_images, epochs=5)
    resumed.restore({name: mx.array(np.array(value)) for name, value in arrays.items()}, progress)
    np.testing.assert_array_equal(resumed.graph, at_merge)
    finish(resumed)
    np.testing.assert_array_equal(resumed.graph, last)
    assert_same(weights(trainer), weights(resumed))


def test_neighbours_that_cannot_be_are_refused(small_images: np.ndarray) -> None:
    trainer = make_trainer(small_images, epochs=5)
    for _ in islice(trainer.run(), 3):
        pass
    arrays, progress = trainer.state()
    graph = np.array(arrays["neighbours"])
    other = make_trainer(small_images, epochs=5)
    for bad in (graph[1:], graph + len(graph), graph.astype(np.float32)):
        with pytest.raises(ValueError, match="neighbours"):
            other.restore(arrays | {"neighbours": mx.array(bad)}, progress)
    other.restore(arrays, progress)


def test_updates_after_a_refit_are_no_larger_than_the_learning_rate(
    small_images: np.ndarray,
) -> None:
    """Adam's bias correction must not count steps in which the mixture was not there."""
    config = ModelConfig(model="vade", arch="mlp", image_size=(9, 6), channels=3, K=3)
    training = TrainConfig(epochs=3, batchsize=16, pretrain_epochs=1, pair_weight=0)
    mx.random.seed(0)
    trainer = new_trainer(build_model(config), small_images, training)
    trainer.optimizer.state["step"] = mx.array(5000, mx.uint64)  # as after a long pretraining
    epochs = trainer.run(lambda: trainer.epoch == 1 and trainer.step == 1)
    next(epochs)
    before = np.array(trainer.model.mixture.mean)
    assert list(epochs) == []  # after one more step
    assert trainer.step == 1
    moved = np.abs(np.array(trainer.model.mixture.mean) - before).max()
    assert 0 < moved <= 1.01 * training.lr


def test_an_interrupted_refit_is_made_again_and_its_epoch_recorded_once(
    small_images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig(model="vae-gmm", arch="mlp", image_size=(9, 6), channels=3, K=3)
    training = TrainConfig(epochs=2, batchsize=16, mutual_iterations=1, pair_weight=0)

    def start() -> Trainer:
        mx.random.seed(0)
        return new_trainer(build_model(config), small_images, training)

    trainer = start()

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(VAEGMM, "refit", interrupted)
        list(trainer.run())
    finish(trainer)
    assert [record["epoch"] for record in trainer.history] == [1, 2]
    assert_same(weights(finish(start())), weights(trainer))


@pytest.mark.parametrize(
    ("model", "epochs", "options"),
    [
        ("vade", 3, {"pretrain_epochs": 1, "pair_weight": 0}),
        ("vae-gmm", 4, {"mutual_iterations": 1}),
    ],
)
def test_stages_refit_the_mixture_and_resume_exactly(
    model: str, epochs: int, options: dict[str, Any], small_images: np.ndarray
) -> None:
    """Stopped in the middle of each epoch and resumed, the run equals the uninterrupted one."""
    config = ModelConfig(
        model=model, arch="mlp", image_size=(9, 6), channels=3, K=3, hidden_dims=16
    )
    training = for_model(TrainConfig(epochs=epochs, batchsize=16, **options), config, set())

    def start() -> Trainer:
        mx.random.seed(0)
        return new_trainer(build_model(config), small_images, training)

    whole = start()
    fresh = np.array(whole.model.mixture.mean)
    means = [np.array(whole.model.mixture.mean) for _ in whole.run()]
    assert not np.allclose(fresh, means[training.refits[0] - 1])
    stopped = start()
    while not stopped.is_done:
        list(stopped.run(partial(next, iter([False, True]), True)))
        arrays, progress = stopped.state()
        arrays = {name: mx.array(np.array(value)) for name, value in arrays.items()}
        stopped = start()
        mx.random.seed(99)
        stopped.restore(arrays, progress)
    assert_same(weights(whole), weights(stopped))
    # Between refits (vae-gmm: after epochs 2 and 4) only VaDE's mixture is learned.
    assert np.array_equal(means[1], means[2]) == (model == "vae-gmm")
    assert model == "vade" or training.refits == [2, 4]
