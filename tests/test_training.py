"""The compiled step: fresh noise, determinism, agreement with eager mode, exact resume."""

from functools import partial
from itertools import islice
from typing import Any

from mlx_gmvae.clustering.pair_loss import pair_loss
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.data.datasets import Splits
from mlx_gmvae.device import backend
from mlx_gmvae.errors import InputError
from mlx_gmvae.inputs import Batch
from mlx_gmvae.models import build_model
from mlx_gmvae.models.vae_gmm import VAEGMM
from mlx_gmvae.training.api import new_trainer, train
from mlx_gmvae.training.defaults import for_model
from mlx_gmvae.training.schedule import Weights, step_weights
from mlx_gmvae.training.trainer import Trainer

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten


def make_trainer(
    images: np.ndarray, arch: str = "conv", model: str = "gmvae", **options: Any
) -> Trainer:
    config = TrainConfig.from_dict({"epochs": 2, "batchsize": 16, "neighbours": 3, **options})
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
    first, second = (finish(make_trainer(small_images, arch, seed=3)) for _ in range(2))
    assert_same(weights(first), weights(second))
    other = finish(make_trainer(small_images, arch, seed=4))
    assert any(not np.array_equal(a, weights(other)[n]) for n, a in weights(first).items())


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


@pytest.mark.parametrize("model", ["vae", "gmvae"])
@pytest.mark.parametrize("arch", ["conv", "mlp"])
def test_compiled_and_eager_agree_after_20_steps(
    small_images: np.ndarray, model: str, arch: str
) -> None:
    results = []
    for switch in (mx.enable_compile, mx.disable_compile):
        switch()
        try:
            results.append(finish(make_trainer(small_images, arch, model, epochs=5)))
        finally:
            mx.enable_compile()
    assert results[0].epoch * results[0].steps_per_epoch == 20
    compiled, eager = (weights(trainer) for trainer in results)
    for name in compiled:
        np.testing.assert_allclose(compiled[name], eager[name], atol=1e-4, err_msg=name)
    assert results[0].history[-1]["loss"] == pytest.approx(results[1].history[-1]["loss"], rel=1e-4)


def test_training_lowers_the_loss(digits: Splits) -> None:
    history = finish(make_trainer(digits.train.images[:500], epochs=5, lr=5e-3)).history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert [record["epoch"] for record in history] == [1, 2, 3, 4, 5]


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
    trainer, graphs = make_trainer(small_images, epochs=5, descriptor="hog"), []
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

    stopped = make_trainer(small_images, epochs=5, descriptor="hog")
    for _ in islice(stopped.run(), 3):
        pass
    arrays, progress = stopped.state()
    resumed = make_trainer(small_images, epochs=5, descriptor="hog")
    resumed.restore({name: mx.array(np.array(value)) for name, value in arrays.items()}, progress)
    np.testing.assert_array_equal(resumed.graph, at_merge)
    finish(resumed)
    np.testing.assert_array_equal(resumed.graph, last)
    assert_same(weights(trainer), weights(resumed))


@pytest.mark.parametrize("wrong", ["rows", "far", "type"])
def test_neighbours_that_cannot_be_are_refused(small_images: np.ndarray, wrong: str) -> None:
    trainer = make_trainer(small_images, epochs=5, descriptor="hog")
    for _ in islice(trainer.run(), 3):
        pass
    arrays, progress = trainer.state()
    graph = np.array(arrays["neighbours"])
    bad = {"rows": graph[1:], "far": graph + len(graph), "type": graph.astype(np.float32)}
    arrays["neighbours"] = mx.array(bad[wrong])
    with pytest.raises(ValueError, match="neighbours"):
        make_trainer(small_images, epochs=5, descriptor="hog").restore(arrays, progress)


def test_without_neighbours_or_pairs_none_are_recomputed(small_images: np.ndarray) -> None:
    for options in ({"neighbours": 0}, {"pair_weight": 0.0}):
        trainer = finish(make_trainer(small_images, epochs=5, **options))
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
    trainer = make_trainer(small_images, epochs=50, lr=0.3, early_stopping=2)
    trained_on = set(trainer.rows)
    assert len(trained_on) == 58
    assert not trained_on & set(trainer.validation_rows)
    list(trainer.run())
    losses = [record["validation"] for record in trainer.history]
    assert trainer.epoch < 50
    assert trainer.epoch == trainer.best_epoch + 2 == int(np.argmin(losses)) + 3
    assert list(trainer.run()) == []


def test_nothing_is_learned_from_held_out_images(small_images: np.ndarray) -> None:
    """Neighbours, visual words and merged sub-clusters are those of the training images."""
    options: dict[str, Any] = {"epochs": 5, "early_stopping": 50, "descriptor": "patches"}
    first = make_trainer(small_images, **options)
    order, partners = first._order()
    assert set(order) <= set(first.rows) and set(partners) <= set(first.rows)
    assert first.phase == "overcluster"
    finish(first)
    others = small_images.copy()
    others[first.validation_rows] = 255 - others[first.validation_rows]
    second = finish(make_trainer(others, **options))
    assert_same(weights(first), weights(second))
    np.testing.assert_array_equal(first.neighbours, second.neighbours)
    assert first.history[-1]["validation"] != second.history[-1]["validation"]


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
