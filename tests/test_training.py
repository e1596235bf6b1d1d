"""The compiled step: fresh noise, determinism, agreement with eager mode, exact resume."""

from itertools import islice
from typing import Any

from mlx_gmvae.clustering.pair_loss import pair_loss
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.data.datasets import Splits
from mlx_gmvae.device import backend
from mlx_gmvae.errors import InputError
from mlx_gmvae.inputs import Batch
from mlx_gmvae.models import build_model
from mlx_gmvae.training.api import new_trainer, train
from mlx_gmvae.training.defaults import for_model
from mlx_gmvae.training.schedule import Weights, step_weights
from mlx_gmvae.training.trainer import Trainer

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from trainers import assert_same, finish, make_trainer, weights


def test_two_steps_draw_different_noise(small_images: np.ndarray) -> None:
    """A step that does not capture the generator's state repeats the first step's noise."""
    trainer = make_trainer(small_images, lr=1e-30)  # the weights stay, only the noise changes
    step, captured = trainer.compiled_step()
    x = mx.array(small_images[:16])
    losses = []
    for _ in range(3):
        losses.append(
            step(Batch(x, x), step_weights(trainer.config, 0), mx.array(0.0))[0][0].item()
        )
        mx.eval(captured)
    assert len(set(losses)) == 3


@pytest.mark.parametrize("arch", ["conv", "mlp"])
def test_the_same_seed_gives_the_same_weights(small_images: np.ndarray, arch: str) -> None:
    first, second = (finish(make_trainer(small_images, arch, seed=3, heads=4)) for _ in range(2))
    assert_same(weights(first), weights(second))
    other = weights(finish(make_trainer(small_images, arch, seed=4, heads=4)))
    assert any(not np.array_equal(value, other[name]) for name, value in weights(first).items())


@pytest.mark.parametrize("model", ["vae", "vade", "vae-gmm"])
def test_every_model_comes_out_the_same_twice(small_images: np.ndarray, model: str) -> None:
    """Convolutional ones too, but that takes a while: benchmarks/soak.py twice."""
    config = ModelConfig(
        model=model, arch="mlp", image_size=(9, 6), channels=3, latent_dims=2, K=3, hidden_dims=16
    )
    training = TrainConfig(epochs=2, batchsize=32, pair_weight=0)  # pairs are above
    training = for_model(training, config, set())
    results = []
    for _ in range(2):
        mx.random.seed(training.seed)
        results.append(finish(new_trainer(build_model(config), small_images, training)))
    assert_same(*map(weights, results))


@pytest.mark.parametrize(("model", "arch"), [("vae", "mlp"), ("gmvae", "conv")])
def test_compiled_and_eager_agree_after_20_steps(
    small_images: np.ndarray, model: str, arch: str
) -> None:
    results = []
    for switch in (mx.enable_compile, mx.disable_compile):
        switch()
        try:
            results.append(finish(make_trainer(small_images, arch, model, epochs=5, heads=4)))
        finally:
            mx.enable_compile()
    assert results[0].epoch * results[0].steps_per_epoch == 20
    compiled, eager = (weights(trainer) for trainer in results)
    for name in compiled:
        np.testing.assert_allclose(compiled[name], eager[name], atol=1e-4, err_msg=name)
    assert results[0].history[-1]["loss"] == pytest.approx(results[1].history[-1]["loss"], rel=1e-4)


def test_training_lowers_the_loss(digits: Splits) -> None:
    history = finish(make_trainer(digits.train.images[:100], epochs=7, lr=1e-2, heads=2)).history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert [record["epoch"] for record in history] == [1, 2, 3, 4, 5, 6, 7]


def test_without_neighbours_or_pairs_none_are_recomputed(small_images: np.ndarray) -> None:
    for options in ({"neighbours": 0}, {"pair_weight": 0.0}):
        trainer = finish(make_trainer(small_images, "mlp", epochs=5, heads=2, **options))
        assert trainer.learned_neighbours is None and "neighbours" not in trainer.state()[0]


def test_a_partial_last_batch_is_dropped_and_a_large_batch_shrinks(
    small_images: np.ndarray,
) -> None:
    assert make_trainer(small_images, batchsize=30).steps_per_epoch == 2
    trainer = make_trainer(small_images[:5])
    assert (trainer.batchsize, trainer.steps_per_epoch) == (5, 1)


def test_kl_annealing_needs_no_second_trace(
    small_images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(small_images, epochs=3, kl_anneal=2, kl_weight=0.5, balance="uniform")
    traces = 0
    losses = trainer.objective.loss[trainer.phase]

    def counted(*inputs: Any) -> Any:
        nonlocal traces
        traces += 1
        return losses(*inputs)

    monkeypatch.setitem(trainer.objective.loss, trainer.phase, counted)
    for _ in trainer.run():
        pass
    assert traces == (1 if backend.compiles() else 3 * trainer.steps_per_epoch)


def test_weights_of_the_terms(small_images: np.ndarray) -> None:
    plain, weighted = (
        make_trainer(small_images, recon_weight=r, kl_weight=k, pair_weight=p, sample_weight=4)
        for r, k, p in [(1, 1, 0), (2, 3, 0.5)]
    )
    x = mx.array(small_images[:16])
    mx.random.seed(1)
    assert weighted.objective.pairs is not None
    weighted.objective.pairs.draw("overcluster", 32)  # as the weighted loss does first
    if backend.on_gpu():
        weighted.model.draw_samples(4)  # decoded with the images, so drawn before their noise
    weights = Weights(mx.array(1.0), mx.array(2.0), mx.array(1.0))
    loss, terms = plain.objective.loss["elbo"](Batch(x), weights)
    mx.random.seed(1)
    weights = Weights(mx.array(3.0), mx.array(1.5), mx.array(1.0))
    weighted_loss, weighted_terms = weighted.objective.loss[weighted.phase](Batch(x, x), weights)
    kls = sum(terms[name].item() for name in ("kl_z", "kl_w", "kl_y"))
    assert set(terms) == {"reconstruction", "kl_z", "kl_w", "kl_y"}
    assert loss.item() == pytest.approx(terms["reconstruction"].item() + kls, rel=1e-5)
    of_pairs = pair_loss(weighted_terms, 1.5).item()
    expected = 2 * terms["reconstruction"].item() + 3 * kls + 0.5 * of_pairs
    expected += 4 * weighted_terms["sample"].item()
    assert weighted_loss.item() == pytest.approx(expected, rel=1e-5)


def test_with_pairs_the_bound_does_not_move_the_classifier(small_images: np.ndarray) -> None:
    for pair_weight, moves in [(0.0, True), (1e-12, False)]:
        trainer = make_trainer(small_images, pair_weight=pair_weight)
        x = mx.array(small_images[:16])

        def loss(
            parameters: dict[str, Any], trainer: Trainer = trainer, x: mx.array = x
        ) -> mx.array:
            trainer.model.update(parameters)
            weights = step_weights(trainer.config, 0)
            return trainer.objective.loss[trainer.phase](Batch(x, x), weights)[0]

        gradient = mx.grad(loss)(trainer.model.trainable_parameters())["classifier"]["out"]
        assert (float(mx.abs(gradient["weight"]).max()) > 1e-6) == moves


def test_samples_are_judged_without_moving_the_judge(small_images: np.ndarray) -> None:
    """The term moves prior and decoder; the classifier, its statistics too, stays as it was."""
    trainer = make_trainer(small_images)
    model = trainer.model
    model.train()
    before = {n: np.array(v) for n, v in model.arrays().items() if n.startswith("classifier")}

    def loss(parameters: dict[str, Any]) -> mx.array:
        model.update(parameters)
        y, latents = model.draw_samples(8)
        return model.disagreement(y, model.image(latents))

    gradients = dict(tree_flatten(mx.grad(loss)(model.trainable_parameters())))
    for name, gradient in gradients.items():
        moves = float(mx.abs(gradient).max()) > 0
        assert moves == name.startswith(("prior", "decoder")), name
    for name, value in before.items():
        np.testing.assert_array_equal(model.arrays()[name], value, err_msg=name)
    assert model.classifier.training


def test_early_stopping_ends_the_run_and_holds_images_out(small_images: np.ndarray) -> None:
    trainer = make_trainer(small_images, "mlp", epochs=50, lr=0.3, early_stopping=2)
    trained_on = set(trainer.rows)
    assert len(trained_on) == 58
    assert not trained_on & set(trainer.validation_rows)
    list(trainer.run())
    losses = [record["validation"] for record in trainer.history]
    assert trainer.epoch < 50
    assert trainer.epoch == trainer.best_epoch + 2 == int(np.argmin(losses)) + 3
    assert list(trainer.run()) == []


@pytest.mark.usefixtures("few_words")
def test_nothing_is_learned_from_held_out_images(small_images: np.ndarray) -> None:
    """Neighbours, visual words and merged sub-clusters are those of the training images."""
    options: dict[str, Any] = {
        "arch": "mlp", "epochs": 5, "early_stopping": 50, "descriptor": "patches", "heads": 4,
    }  # fmt: skip
    first = make_trainer(small_images, **options)
    for rows in first.rows_of_steps():  # of images and of partners
        assert set(np.concatenate(rows)) <= set(first.rows)
    assert first.phase == "overcluster"
    finish(first)
    others = small_images.copy()
    others[first.validation_rows] = 255 - others[first.validation_rows]
    second = finish(make_trainer(others, **options))
    assert_same(weights(first), weights(second))
    np.testing.assert_array_equal(first.neighbours, second.neighbours)
    assert first.history[-1]["validation"] != second.history[-1]["validation"]


def test_clip_grad_bounds_the_gradients(small_images: np.ndarray) -> None:
    largest = []
    for norm in (None, 1e-9):
        trainer = make_trainer(small_images, clip_grad=norm)
        list(islice(trainer.run(), 1))
        moments = dict(tree_flatten(trainer.optimizer.state))
        largest.append(max(float(mx.abs(v).max()) for n, v in moments.items() if n.endswith(".m")))
    assert largest[0] > 1e-3
    assert largest[1] < 1e-9


def test_a_diverging_loss_is_an_error_with_a_remedy(small_images: np.ndarray) -> None:
    with pytest.raises(InputError, match="--lr"):
        finish(make_trainer(small_images, lr=1e30))


def test_train_function(small_images: np.ndarray) -> None:
    trainer = make_trainer(small_images)
    history = train(trainer.model, small_images, trainer.config)
    assert len(history) == 2
    assert not trainer.model.training


@pytest.mark.skipif(not backend.has_gpu(), reason="no GPU that MLX can use on this machine")
def test_cpu_and_gpu_agree(small_images: np.ndarray) -> None:
    results = []
    for device in (mx.cpu, mx.gpu):
        with mx.stream(device):
            mx.set_default_device(mx.Device(device))
            results.append(finish(make_trainer(small_images)).history[-1]["loss"])
    mx.set_default_device(mx.Device(mx.gpu))
    assert results[0] == pytest.approx(results[1], rel=1e-2)


def test_the_time_left_is_that_of_the_last_epochs_for_each_to_come(
    small_images: np.ndarray,
) -> None:
    trainer = make_trainer(small_images, epochs=10)
    assert np.isnan(trainer.seconds_left)
    trainer.history = [{"seconds": seconds} for seconds in (9.0, 2.0, 4.0, 3.0)]
    trainer.epoch = 4
    assert trainer.seconds_left == 6 * 3.0
    trainer.epoch = 10
    assert trainer.seconds_left == 0
    stopped = make_trainer(small_images, epochs=10, early_stopping=1, model="vae")
    stopped.epoch = 3
    stopped.history = [{"seconds": 2.0, "validation": bound} for bound in (1.0, 2.0, 3.0)]
    assert stopped.is_done and stopped.seconds_left == 0
