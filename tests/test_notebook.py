"""The package in a notebook: arrays in, arrays out, and answers that can be read."""

from typing import Any

import mlx_gmvae as mg
from mlx_gmvae.data.splits import Splits
from mlx_gmvae.evaluation.scores import latents, responsibilities
from mlx_gmvae.runs.loaded import LoadedModel

import mlx.core as mx
import numpy as np
import pytest
from conftest import ROOT

DIGITS = str(ROOT / "pretrained/gmvae_digits_K10_dims_0008.npz")
VAE = str(ROOT / "pretrained/vae_mnist_filters_0064_dims_0008.npz")
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return mg.load(DIGITS)


@pytest.fixture(scope="module")
def held_out() -> np.ndarray:
    """Test images of the digits at the model's size, (40, 28, 28, 1)."""
    return mg.load_dataset("digits", image_size=(28, 28)).test.images[:40]


def test_arrays_of_every_kind_mean_the_same(model: Any, held_out: np.ndarray) -> None:
    images = held_out
    expected = latents(model.network, images)
    floats = (images / 255).astype(np.float32)
    for given in (images, images[..., 0], floats, floats.astype(np.float64)[..., 0]):
        found = model.encode(given)
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    found = model.encode(mx.array(floats))
    assert isinstance(found, mx.array)
    np.testing.assert_allclose(np.array(found), expected, rtol=1e-4, atol=1e-5)
    clusters = model.responsibilities(images)
    np.testing.assert_allclose(clusters, responsibilities(model.network, images), atol=1e-5)
    np.testing.assert_allclose(
        model.reconstruct(images), model.decode(model.encode(images)), atol=1e-5
    )


def test_bounds_are_of_each_image_alone_and_repeat_themselves(
    model: Any, held_out: np.ndarray
) -> None:
    images = held_out[:30]
    before = np.array(mx.random.state[0])  # type: ignore[index]
    elbo, likelihood = model.elbo(images), model.log_likelihood(images)
    np.testing.assert_allclose(model.elbo(images[7:9]), elbo[7:9], rtol=1e-4)
    np.testing.assert_allclose(model.log_likelihood(images[20:]), likelihood[20:], rtol=1e-4)
    np.testing.assert_array_equal(np.array(mx.random.state[0]), before)  # type: ignore[index]
    assert elbo.mean() == pytest.approx(model.metrics["generative"]["elbo"], rel=0.1)
    assert likelihood.mean() > elbo.mean()
    single = model.log_likelihood(images, draws=1)
    assert single.mean() < likelihood.mean()


def test_samples_repeat_themselves_for_a_seed(model: Any) -> None:
    one, two = (model.sample(6, component=3, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one.shape == (6, 28, 28, 1) and (one != model.sample(6, component=3, seed=6)).any()
    assert (model.responsibilities(one).argmax(axis=1) == 3).mean() > 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: m.encode(np.zeros((2, 9, 9))),
            r"shape \(2, 9, 9\); they must be N x 28 x 28 x 1",
        ),
        (lambda m: m.encode(np.zeros((28, 28))), r"shape \(28, 28\); they must be"),
        (lambda m: m.elbo(np.full((2, 28, 28), 16.0)), r"in \[16, 16\]; give uint8, or floats"),
        (lambda m: m.elbo(np.full((2, 28, 28), np.nan)), "image 0 .* NaN"),
        (lambda m: m.encode(np.zeros((2, 28, 28), np.int64)), "images are int64"),
        (lambda m: m.encode(np.zeros((0, 28, 28))), "there are no images"),
        (lambda m: m.decode(np.zeros((2, 3))), r"latents have shape \(2, 3\); .* \(N, 8\)"),
        (lambda m: m.sample(2, component=10), "component is 10; there are 0 to 9"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(model: Any, call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call(model)
    assert "\n" not in str(caught.value)


def test_a_model_without_components_says_so() -> None:
    with pytest.raises(ValueError, match="a vae has no components"):
        mg.load(VAE).responsibilities(np.zeros((1, 28, 28), np.uint8))


def test_a_loaded_model_is_saved_whole(model: Any, tmp_path: Any) -> None:
    model.save(tmp_path / "again.npz")
    again = mg.load(tmp_path / "again.npz")
    assert (again.metrics, again.data) == (model.metrics, model.data)
    images = rng.integers(0, 256, (3, 28, 28), dtype=np.uint8)
    np.testing.assert_array_equal(again.encode(images), model.encode(images))


def test_everything_is_shown_in_a_few_lines(model: Any, digits: Splits) -> None:
    config = mg.TrainConfig(epochs=3, lr=0.01)
    shown = [model, model.network, digits, digits.train, config, model.config, mg.ModelConfig()]
    lines = [repr(each) for each in shown]
    assert all(1 <= line.count("\n") + 1 <= 6 and len(line) < 300 for line in lines), lines
    assert lines[4] == "TrainConfig(epochs=3, lr=0.01)"
    assert lines[3] == "Dataset('digits': 1,438 images of (8, 8, 1), 10 classes)"
    assert lines[1].startswith("GMVAE(conv, 28x28x1, latent_dims=8, K=10; ")
    assert "trained on digits (accuracy 0." in lines[0]


def test_the_package_lists_what_it_has() -> None:
    names = dir(mg)
    assert {"load", "train", "GMVAEClusterer", "ModelConfig", "InputError"} <= set(names)
    assert all(hasattr(mg, name) for name in names)


def test_training_prints_an_epoch_a_line_and_can_be_ended(
    digits: Splits, capsys: pytest.CaptureFixture[str]
) -> None:
    images = digits.train.images[:64, ..., 0] / 255
    config = mg.ModelConfig(image_size=(8, 8), arch="mlp", hidden_dims=8, K=2, latent_dims=2)
    model, seen = mg.build_model(config), []

    def enough(record: dict[str, float]) -> bool:
        seen.append(record["epoch"])
        return len(seen) == 2

    history = mg.train(model, images, callback=enough)
    assert seen == [1, 2] == [record["epoch"] for record in history]
    assert repr(history).startswith("History of 2 epochs: loss ")
    assert capsys.readouterr().out.count("Epoch ") == 2
    mg.train(model, images, mg.TrainConfig(epochs=1), verbose=False)
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match=r"images have shape \(5, 9, 9, 1\); the model's are"):
        mg.train(model, np.zeros((5, 9, 9)))
