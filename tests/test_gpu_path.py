"""What is written for a GPU, tried on the CPU: the same numbers, and steps that do not wait."""

import os
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mlx_gmvae.clustering.affine import affine
from mlx_gmvae.clustering.neighbours import nearest, split
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.data import batches
from mlx_gmvae.data.loader import Loader, Residency, best_residency
from mlx_gmvae.device import backend, parallel
from mlx_gmvae.device.async_evaluation import AsyncEvaluation
from mlx_gmvae.errors import InputError
from mlx_gmvae.inputs import Batch
from mlx_gmvae.models import build_model
from mlx_gmvae.models.distributions import Bernoulli, Logistic
from mlx_gmvae.runs.checked_model import Model
from mlx_gmvae.training import trainer as training
from mlx_gmvae.training.api import new_trainer
from mlx_gmvae.training.optimizer import Adam
from mlx_gmvae.training.schedule import step_weights
from mlx_gmvae.training.trainer import Trainer

import mlx.core as mx
import numpy as np
import pytest

SMALL = ModelConfig(
    arch="mlp", image_size=(9, 6), channels=3, K=3, latent_dims=2, w_dims=2, hidden_dims=16
)


def make_trainer(images: np.ndarray) -> Trainer:
    mx.random.seed(0)
    options = TrainConfig(epochs=2, batchsize=16, neighbours=3, heads=3, augment="affine")
    neighbours = (
        np.random.default_rng(0).integers(0, len(images), (len(images), 3)).astype(np.int32)
    )
    return new_trainer(build_model(SMALL), images, options, neighbours)


@pytest.mark.parametrize("residency", Residency)
def test_batches_are_the_same_wherever_images_wait(residency: Residency) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 2, 1), np.uint8)
    rows = [(np.array([3, 1]), np.array([0, 39])), (np.array([5]), np.array([5]))]
    found = list(Loader(images, residency).batches(rows))
    assert len(found) == 2
    for arrays, each in zip(found, rows, strict=True):
        for array, part in zip(arrays, each, strict=True):
            assert array.dtype == mx.uint8
            np.testing.assert_array_equal(array, images[part])


def test_images_wait_where_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((10, 10, 10, 1), np.uint8)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    memory: int | None = None
    monkeypatch.setattr("mlx_gmvae.data.loader.gpu_memory", lambda: memory)
    assert (best_residency(images), best_residency(mapped)) == (
        Residency.MEMORY,
        Residency.PREFETCH,
    )
    memory = 10_000
    assert (best_residency(images), best_residency(mapped)) == (Residency.GPU, Residency.PREFETCH)
    memory = 9_999
    assert best_residency(images) == Residency.PREFETCH


@pytest.mark.on_cpu("which leaves no step unfinished")
def test_a_step_in_flight_is_waited_for_when_the_next_has_started() -> None:
    flight, results = AsyncEvaluation(1), [mx.array(number) + 0 for number in range(3)]
    assert flight.start(results[0]) is None
    assert flight.start(results[1]) is results[0]
    assert flight.start(results[2]) is results[1]
    assert flight.finish() is results[2] and flight.finish() is None
    assert (
        AsyncEvaluation().start(results[0]) is results[0]
    )  # on the CPU nothing is left unfinished


@pytest.mark.parametrize("residency", [Residency.GPU, Residency.PREFETCH])
def test_weights_are_those_of_steps_one_by_one(
    residency: Residency, small_images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a stop in the middle of an epoch, which comes with the step that asked."""
    plain = make_trainer(small_images)
    list(plain.run())
    ahead = make_trainer(small_images)
    ahead.reader.loader = Loader(small_images, residency)
    monkeypatch.setattr(training, "AsyncEvaluation", partial(AsyncEvaluation, 1))
    list(ahead.run(lambda: ahead.step == 2))
    assert (ahead.epoch, ahead.step) == (0, 2)
    list(ahead.run())
    for name, value in plain.model.arrays().items():
        np.testing.assert_array_equal(value, ahead.model.arrays()[name], err_msg=name)
    for one, other in zip(plain.history, ahead.history, strict=True):
        assert {**one, "seconds": 0, "throughput": 0} == {**other, "seconds": 0, "throughput": 0}


def test_posterior_and_samples_are_decoded_in_one_call(
    small_images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(small_images)
    model, x = trainer.model, mx.array(small_images[:16])
    decoded: list[int] = []
    decode = type(model).decode

    def counted(self: object, z: mx.array) -> mx.array:
        decoded.append(len(z))
        return decode(self, z)  # type: ignore[arg-type]

    monkeypatch.setattr(type(model), "decode", counted)
    means = []
    for path in (backend.as_on_gpu, lambda: parallel.on_streams(1)):
        with path():
            loss = trainer.objective.loss[trainer.phase]
            losses = [
                loss(Batch(x, x), step_weights(trainer.config, 0))[1]["sample"].item()
                for _ in range(20)
            ]
        means.append(np.mean(losses))
    assert decoded == [20] * 20 + [16, 4] * 20
    assert means[0] == pytest.approx(means[1], rel=0.1)


@pytest.mark.parametrize("make", [Bernoulli, partial(Logistic, 3)])
def test_likelihoods_and_their_gradients_are_the_same(
    make: Callable[[], Bernoulli | Logistic],
) -> None:
    likelihood, x = make(), mx.random.uniform(shape=(5, 4, 3, 3))
    logits = 20 * mx.random.normal(x.shape)
    function = mx.value_and_grad(lambda logits: likelihood.log_prob(logits, x).sum())
    expected = function(logits)
    with backend.as_on_gpu():
        found = function(logits)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num", [5, 2100])
def test_neighbours_are_scikit_learns(num: int) -> None:
    described = np.random.default_rng(0).normal(size=(num, 6)).astype(np.float32)
    expected = nearest(described, 10)
    with backend.as_on_gpu():
        found = nearest(described, 10)
    distances = [
        np.linalg.norm(described[:, None] - described[near], axis=2) for near in (expected, found)
    ]
    np.testing.assert_allclose(distances[1], distances[0], rtol=1e-4)
    assert np.mean(found != expected) < 1e-3  # the order of two at the same distance


def test_products_of_split_values_are_right_where_factors_are_rounded_to_ten_bits() -> None:
    def as_tf32(x: np.ndarray) -> np.ndarray:
        return ((x.view(np.uint32) + 0x1000) & 0xFFFFE000).view(np.float32)

    x, y = np.random.default_rng(0).normal(size=(2, 300, 50)).astype(np.float32)
    (x_high, x_low), (y_high, y_low) = (map(np.array, split(mx.array(each))) for each in (x, y))
    np.testing.assert_array_equal(x_high + x_low, x)
    rows = np.concatenate([x_high, x_low, x_high], axis=1)
    columns = np.concatenate([y_high, y_high, y_low], axis=1)
    errors = [
        np.abs(as_tf32(a) @ as_tf32(b).T - x.astype(np.float64) @ y.T).max()
        for a, b in ((x, y), (rows, columns))
    ]
    assert errors[0] > 1e-2 and errors[1] < 1e-4


def test_a_function_over_batches_draws_anew_in_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_PIXELS", 8)
    monkeypatch.setattr(batches, "choose_fusing", lambda: None)  # no kernels to be built
    images = np.random.default_rng(0).integers(0, 256, (7, 2, 2, 1), np.uint8)

    def function(x: mx.array) -> mx.array:
        return x.mean(axis=(1, 2, 3)) + mx.random.normal((len(x),))

    mx.random.seed(3)
    expected = batches.over_batches(function, images)
    mx.random.seed(3)
    with backend.as_on_gpu():
        found = batches.over_batches(function, images)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert len(set(found - images.mean(axis=(1, 2, 3)) / 255)) == 7


@pytest.mark.on_cpu("which alone has streams")
def test_the_number_of_streams_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backend.STREAMS_VARIABLE, "3")
    assert backend.cores() == len(parallel.streams_to_use()) == 3
    for wrong in ("0", "many", ""):
        monkeypatch.setenv(backend.STREAMS_VARIABLE, wrong)
        with pytest.raises(InputError, match="a whole number of at least 1"):
            backend.select_device()


@pytest.mark.parametrize(("printed", "streams"), [("2", 2), ("12", 4), ("unknown", 1)])
def test_on_a_mac_each_fast_core_has_a_stream(
    printed: str, streams: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not the slow ones, and no more than four."""
    stub = tmp_path / "sysctl"
    stub.write_text(f'#!/bin/sh\n[ "$2" = hw.perflevel0.physicalcpu ] && echo {printed}\n')
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(backend, "_loaded", backend.Blas())
    backend._fast_cores.cache_clear()
    try:
        assert backend.cores() == streams
    finally:
        backend._fast_cores.cache_clear()


def test_bounds_of_a_loaded_model_are_those_of_the_cpu(small_images: np.ndarray) -> None:
    mx.random.seed(0)
    model, images = Model(build_model(SMALL)), small_images[:20]
    before = np.array(mx.random.state[0])  # type: ignore[index]
    elbo, likelihood = model.elbo(images), model.log_likelihood(images, draws=3)
    with backend.as_on_gpu():
        np.testing.assert_allclose(model.elbo(images), elbo, rtol=1e-4)
        np.testing.assert_allclose(model.log_likelihood(images, draws=3), likelihood, rtol=1e-4)
    np.testing.assert_array_equal(np.array(mx.random.state[0]), before)  # type: ignore[index]


def test_adam_of_one_vector_is_that_of_each_parameter() -> None:
    """To float32's rounding, and with the same state, so that a run may move between devices."""
    rng = np.random.default_rng(0)
    shapes: dict[str, dict[str, Any]] = {"a": {"weight": (4, 3), "bias": (4,)}, "b": {"scale": ()}}
    names = [(one, other) for one, inner in shapes.items() for other in inner]

    def draw() -> dict[str, Any]:
        return {
            one: {other: mx.array(rng.normal(size=shape)) for other, shape in inner.items()}
            for one, inner in shapes.items()
        }

    start, gradients = draw(), [draw() for _ in range(4)]
    found: list[tuple[Any, Any]] = []
    for path in (lambda: parallel.on_streams(1), backend.as_on_gpu):
        optimizer, parameters = Adam(0.1), start
        optimizer.init(start)
        with path():
            for each in gradients:
                parameters = optimizer.apply_gradients(each, parameters)
        found.append((parameters, optimizer.state))
    (expected, expected_state), (parameters, state) = found
    assert int(state["step"]) == len(gradients)
    for one, other in names:
        np.testing.assert_allclose(parameters[one][other], expected[one][other], rtol=1e-6)
        assert parameters[one][other].shape == shapes[one][other]
        for moment in ("m", "v"):
            np.testing.assert_allclose(
                state[one][other][moment], expected_state[one][other][moment], rtol=1e-6
            )


def test_pixels_gathered_at_once_are_those_taken_one_by_one() -> None:
    for shape in [(5, 28, 28, 1), (3, 9, 6, 3), (2, 1, 5, 1), (2, 4, 1, 2)]:
        x, maps = mx.random.uniform(shape=shape), mx.random.uniform(-1, 1, (6, shape[0]))
        expected = affine(x, maps)
        with backend.as_on_gpu():
            np.testing.assert_allclose(affine(x, maps), expected, atol=1e-6)
