"""The package in a notebook: arrays in, arrays out, and answers that can be read."""

import tempfile
from pathlib import Path
from typing import Any

import mlx_gmvae as mg
from mlx_gmvae import estimator
from mlx_gmvae.data.splits import Splits
from mlx_gmvae.evaluation.scores import latents, responsibilities
from mlx_gmvae.runs.checked_model import Model

import jupytext
import matplotlib.pyplot as plt
import mlx.core as mx
import numpy as np
import pytest
from conftest import ROOT

DIGITS = str(ROOT / "pretrained/gmvae_digits_K10_dims_0008.npz")
VAE = str(ROOT / "pretrained/vae_mnist_filters_0064_dims_0008.npz")
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model() -> Model:
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
    images = held_out[:16]
    before = np.array(mx.random.state[0])  # type: ignore[index]
    elbo, likelihood = model.elbo(images), model.log_likelihood(images)
    np.testing.assert_allclose(model.elbo(images[7:9]), elbo[7:9], rtol=1e-4)
    np.testing.assert_allclose(model.log_likelihood(images[10:]), likelihood[10:], rtol=1e-4)
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
        (lambda m: m.decode(np.zeros((0, 8))), r"latents have shape \(0, 8\)"),
        (lambda m: m.export("nowhere", 0), r"batch sizes are \(0,\); they must be at least 1"),
        (lambda m: m.sample(2, component=10), "component is 10; choose 0 to 9"),
        (lambda m: m.sample(2, component=-1), "component is -1; choose 0 to 9"),
        (lambda m: m.sample(2, component="1"), "component is '1'; choose 0 to 9"),
        (lambda m: m.sample(-1), "num is -1; it must be a whole number of at least 1"),
        (lambda m: m.sample(2, seed=-1), "seed is -1; it must be a whole number"),
        (lambda m: m.log_likelihood(np.zeros((2, 28, 28)), draws=0), "draws is 0; it must be"),
        (lambda m: m.predict(None), r"images is None; give images \(n, H, W\)"),
        (lambda m: m.decode(np.full((1, 8), np.nan)), "latents must be finite numbers"),
    ],
)
@pytest.mark.parametrize("built", [False, True])
def test_what_cannot_be_used_is_one_clear_line(
    model: Any, call: Any, message: str, built: bool
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call(mg.build_model(model.config) if built else model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: m.sample(2, component=99),
            "component is 99; choose 0 to 2|has no components",
        ),
        (lambda m: m.sample(0), "num is 0; it must be a whole number of at least 1"),
        (lambda m: m.sample_latent(-2), "num is -2; it must be a whole number of at least 1"),
        (lambda m: m.decode(mx.zeros((2, 9))), r"latents have shape \(2, 9\); .* \(N, 4\)"),
        (lambda m: m.decode(np.zeros((2, 4))), "latents are ndarray; give an mx.array"),
        (lambda m: m.encode(mx.zeros((2, 9, 9, 1))), r"\(2, 9, 9, 1\); they must be N x 8 x 8 x 1"),
        (lambda m: m.encode(mx.zeros((2, 8, 8, 1), mx.uint8)), "images are mlx.core.uint8"),
        (lambda m: m.elbo(mx.zeros((8, 8, 1))), r"images have shape \(8, 8, 1\)"),
        (lambda m: type(m)({"K": 3}), "config is of type dict; give a ModelConfig"),
    ],
)
@pytest.mark.parametrize("kind", ["gmvae", "vae"])
def test_a_network_refuses_what_is_not_its_own(kind: str, call: Any, message: str) -> None:
    config = mg.ModelConfig(model=kind, arch="mlp", image_size=(8, 8), latent_dims=4, K=3)
    network = {"gmvae": mg.GMVAE, "vae": mg.VAE}[kind](config)
    with pytest.raises(mg.InputError, match=message):
        call(network)


def test_a_model_that_was_built_is_as_one_that_was_loaded(
    tmp_path: Path, digits: Splits, model: Any
) -> None:
    images = digits.train.images[:40]
    built = mg.build_model(mg.ModelConfig(arch="mlp", hidden_dims=8), image_size=(8, 8), K=3)
    assert isinstance(built, mg.Model) and isinstance(model, mg.Model)
    assert isinstance(built.network, mg.GMVAE) and built.config.K == 3
    history = mg.train(built, images, verbose=False, epochs=np.int64(1), batchsize=16)
    assert len(history) == 1 and built.training["batchsize"] == 16
    mg.save_model(tmp_path / "m.npz", built)
    again = mg.load(tmp_path / "m.npz")
    assert again.training == built.training
    clusters = built.predict(images)
    np.testing.assert_array_equal(clusters, built.responsibilities(images).argmax(axis=1))
    np.testing.assert_array_equal(clusters, again.predict(list(images)))
    assert isinstance(built.predict(mx.array(images)), mx.array)
    assert isinstance(built.sample(2, component=0), np.ndarray)
    mg.save_model(tmp_path / "network.npz", mg.load_model(tmp_path / "m.npz").model)
    np.testing.assert_array_equal(mg.load(tmp_path / "network.npz").predict(images), clusters)
    with pytest.raises(AttributeError, match=r"model.network.parameters"):
        built.parameters()


def test_a_model_forgets_the_figures_of_other_weights() -> None:
    network = mg.GMVAE(mg.ModelConfig(arch="mlp", hidden_dims=8, image_size=(8, 8), K=2))
    model = mg.Model(network, metrics={"generative": {"elbo": -1.0}}, data={"dataset": "digits"})
    images = rng.integers(0, 256, (12, 8, 8), dtype=np.uint8)
    mg.train(model, images, mg.TrainConfig(epochs=9), verbose=False, epochs=1, neighbours=3)
    assert (model.metrics, model.data, model.training["epochs"]) == ({}, {}, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 1}, "no field epoch; did you mean epochs?"),
        ({"pretrain_epochs": 1}, "pretrain_epochs has no effect with model gmvae"),
        ({"config": {"epochs": 1}}, "config is a dict; give a TrainConfig"),
        ({"callback": 3}, "callback is 3; give a function"),
        ({"batchsize": 1}, "give more images or a larger batchsize$"),
        ({"images": None}, "images is None; give images"),
        ({"images": np.zeros((0, 8, 8))}, "there are no images"),
        ({"model": "model.npz"}, "model is a str; give what build_model or load returns"),
    ],
)
def test_a_training_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"images": np.zeros((9, 8, 8))}
    given["model"] = mg.build_model(image_size=(8, 8), K=2)
    with pytest.raises(mg.InputError, match=message):
        mg.train(**(given | options))


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


@pytest.mark.draws
@pytest.mark.usefixtures("few_digits")
def test_the_notebook_runs_as_it_stands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With one epoch and few images; what it shows is of one run, from first cell to last."""
    notebook = jupytext.read(ROOT / "examples/digits.ipynb")
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 7
    assert not any(output.output_type == "error" for output in outputs)
    code = jupytext.writes(notebook, fmt="py:percent")
    assert code.count("max_iter = None") == 1
    shown: list[Any] = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    monkeypatch.setattr(estimator, "LIKELIHOOD_DRAWS", 2)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names: dict[str, Any] = {}
    exec(code.replace("max_iter = None", "max_iter = 1"), names)
    plt.close("all")
    assert len(shown) == 5 and len(names["clusterer"].history_) == 1
    assert "History of 58 epochs" in str(outputs)
