"""Training on features: q(y|x) sees them, from a file or by a frozen encoder; z sees pixels."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import cluster
import mlx_gmvae as mg
import reconstruct
import train
from mlx_gmvae.clustering import frozen
from mlx_gmvae.data.datasets import Splits, load_dataset
from mlx_gmvae.runs.checkpoint import load_model

import numpy as np
import pytest
from conftest import ROOT, only_few_digits, without_drawing
from PIL import Image

ENCODER = ROOT / "tests" / "encoders" / "dinov2"
rng = np.random.default_rng(0)
SMALL = (
    "--arch mlp --hidden_dims 16 --latent_dims 2 --K 10 --batchsize 120 --heads 5 --neighbours 10"
)


def code(labels: np.ndarray) -> np.ndarray:
    """Features that tell the classes apart: (N, 32)."""
    centres = np.random.default_rng(7).normal(size=(10, 32))
    return (centres[labels] + 0.3 * rng.normal(size=(len(labels), 32))).astype(np.float32)


pytestmark = pytest.mark.usefixtures("few_words")


@pytest.fixture(scope="module", autouse=True)
def few_steps() -> Iterator[None]:
    """An eighth of the steps that photographs take, and a sixth of the digits."""
    with patch.multiple(frozen, STEPS=150, VOTE_STEPS=60), only_few_digits():
        yield


@pytest.fixture(scope="module")
def few(few_steps: None) -> Splits:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def perfect(few: Splits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the digits with features that separate the classes, and the file of those."""
    folder = tmp_path_factory.mktemp("perfect")
    whole = few.named("all")
    assert whole.labels is not None
    np.save(folder / "f.npy", code(whole.labels[np.argsort(whole.index)]))
    options = f"--dataset digits {SMALL} --epochs 2 --features {folder}/f.npy"
    with without_drawing():
        assert train.main([*options.split(), "--outdir", str(folder / "run")]) == 0
    return folder


def test_features_that_separate_the_classes_are_enough(perfect: Path) -> None:
    metrics = json.loads((perfect / "run" / "metrics.json").read_text())
    assert metrics["clustering"]["accuracy"] >= 0.99
    assert metrics["pairs"]["neighbour_agreement"] > 0.95
    loaded = load_model(perfect / "run" / "model.npz")
    assert (loaded.model.config.classifier, loaded.model.config.feature_dims) == ("features", 32)


def test_the_model_needs_features_of_the_images_it_is_shown(
    perfect: Path, few: Splits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", str(perfect / "run" / "model.npz"), "--outdir", str(tmp_path / "c")]
    assert cluster.main(options) == 2
    assert "give the features of these images with --features" in capsys.readouterr().err
    assert cluster.main([*options, "--features", str(perfect / "f.npy"), "--anomalies", "3"]) == 0
    scores = json.loads((tmp_path / "c" / "metrics.json").read_text())
    assert scores["clustering"]["accuracy"] >= 0.99
    np.savez(tmp_path / "new.npz", images=few.test.images[:40])
    assert few.test.labels is not None
    np.save(tmp_path / "g.npy", code(few.test.labels[:40]))
    new = [*options, "--dataset", str(tmp_path / "new.npz"), "--features"]
    assert cluster.main([*new, str(tmp_path / "g.npy"), "--explorer"]) == 0
    np.save(tmp_path / "wide.npy", rng.normal(size=(40, 33)))
    assert cluster.main([*new, str(tmp_path / "wide.npy")]) == 2
    assert "33 features of each image" in capsys.readouterr().err
    # What z alone decides needs none.
    assert reconstruct.main([*options[:2], "--outdir", str(tmp_path / "r"), "--num", "4"]) == 0


def test_in_python_features_are_given_beside_the_images(perfect: Path, few: Splits) -> None:
    model = mg.load(perfect / "run" / "model.npz")
    images, labels = few.test.images[:50], few.test.labels
    assert labels is not None
    clusters = model.predict(images, code(labels[:50]))
    assert len(set(zip(clusters, labels[:50], strict=True))) == len(set(labels[:50]))
    assert model.elbo(images, code(labels[:50])).shape == (50,)
    assert model.encode(images).shape == (50, 2) and model.sample(2, component=1).shape[0] == 2
    with pytest.raises(mg.InputError, match=r"give features \(N, 32\)"):
        model.predict(images)
    with pytest.raises(mg.InputError, match=r"must be \(50, 32\)"):
        model.predict(images, np.zeros((50, 31)))


def test_a_resumed_run_ends_with_the_same_weights(
    perfect: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(frozen, "STEPS", 30)
    monkeypatch.setattr(frozen, "VOTE_STEPS", 20)
    monkeypatch.setattr("mlx_gmvae.cli.train.evaluate", lambda run: None)
    options = f"--dataset digits {SMALL} --lr_schedule constant --features {perfect}/f.npy".split()
    assert train.main([*options, "--epochs", "1", "--outdir", str(tmp_path / "run")]) == 0
    assert train.main(["--resume", str(tmp_path / "run"), "--epochs", "2"]) == 0
    # What is printed as the next command runs as it stands, and maps the features first.
    following = capsys.readouterr().out.splitlines()[-1].removeprefix("next: python cluster.py ")
    assert cluster.main([*following.split(), "--outdir", str(tmp_path / "clusters")]) == 0
    names = re.findall(r'"name": "([^"]+)"', (tmp_path / "clusters/explorer.html").read_text())
    assert names[0] == "features of q(y|x)"
    assert train.main([*options, "--epochs", "2", "--outdir", str(tmp_path / "whole")]) == 0
    resumed, whole = (load_model(tmp_path / n / "model.npz").model for n in ("run", "whole"))
    for name, value in resumed.arrays().items():
        np.testing.assert_array_equal(value, whole.arrays()[name], err_msg=name)


def photographs(folder: Path, num: int) -> Path:
    """Bright and dark pictures of odd sizes."""
    for number in range(num):
        height, width = rng.integers(30, 60, 2)
        pixels = rng.integers(0, 60, (height, width, 3)) + 150 * (number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:03}.jpg")
    return folder


def test_a_frozen_encoder_sees_the_photographs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Train, resume, cluster another folder; the model knows its encoder and refuses others."""
    encoder, data = tmp_path / "dinov2", ["--data_dir", str(tmp_path / "kept")]
    shutil.copytree(ENCODER, encoder)
    photos, more = photographs(tmp_path / "photos", 40), photographs(tmp_path / "more", 12)
    options = f"--dataset {photos} --features {encoder} --latent_dims 2 --K 2 --heads 5"
    options += " --image_size 16 16 --arch mlp --hidden_dims 16"
    run = str(tmp_path / "run")
    assert train.main([*options.split(), *data, "--epochs", "2", "--outdir", run]) == 0
    assert train.main(["--resume", run, *data, "--epochs", "3"]) == 0
    model = f"{run}/model.npz"
    found = load_model(model)
    assert found.data["encoder"]["sha256"] and found.model.config.feature_dims == 16
    shown = ["--model", model, *data, "--outdir", str(tmp_path / "c"), "--dataset", str(more)]
    assert cluster.main(shown) == 0
    assert (tmp_path / "c" / "assignments.csv").read_text().count("\n") == 13
    moved = encoder.rename(tmp_path / "elsewhere")
    capsys.readouterr()
    assert cluster.main(shown) == 2
    assert str(encoder) in capsys.readouterr().err
    assert cluster.main([*shown, "--features", str(moved)]) == 0
    shutil.copy(ROOT / "tests/encoders/dinov2_swiglu/model.safetensors", moved)
    shutil.copy(ROOT / "tests/encoders/dinov2_swiglu/config.json", moved)
    assert cluster.main([*shown, "--features", str(moved)]) == 2
    assert "other weights" in capsys.readouterr().err
    assert train.main(["--resume", run, *data, "--epochs", "4"]) == 2
