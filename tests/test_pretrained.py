"""The pretrained models load, work in every script, and are what their card says."""

import io
import json
import sys
import zipfile
from pathlib import Path

import cluster
import generate
import reconstruct
from mlx_gmvae.clustering import descriptors
from mlx_gmvae.data.dataset_spec import DatasetSpec
from mlx_gmvae.data.splits import Dataset, Splits, held_out_rows, make_dataset
from mlx_gmvae.device.randomness import random_rows
from mlx_gmvae.evaluation.scores import responsibilities, surveyed_elbo
from mlx_gmvae.models import MixtureModel
from mlx_gmvae.report.assignments import Assignments
from mlx_gmvae.runs.checkpoint import load_info, load_model

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

sys.path.append(str(ROOT / "benchmarks"))

import pretrained

import pages
import sets

FILES = sorted((ROOT / "pretrained").glob("*.npz"))
MEASURED, CLUSTERED = 200, 1000  # test images, at random


@pytest.fixture(scope="module")
def few(digits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("few") / "few.npz"
    part = digits.train.take(np.arange(30))
    assert part.labels is not None
    np.savez(path, images=part.images, labels=part.labels, test_images=digits.test.images[:24])
    return path


@pytest.fixture
def plainly_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours by some pixels: the models have no part in them."""
    for kind in descriptors.DESCRIPTORS:
        monkeypatch.setitem(
            descriptors.DESCRIPTORS,
            kind,
            lambda images: images[:].reshape(len(images), -1)[:, ::9].astype(np.float32),
        )


def test_the_card_is_that_of_the_files() -> None:
    """Each has a row of its figures, its command, and its SHA-256."""
    text = pretrained.CARD.read_text()
    assert text == pages.updated(text, pretrained.TABLES), "python benchmarks/pretrained.py --card"
    assert {path.stem for path in FILES} <= set(pretrained.MODELS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_small_and_plain_numpy_reads_it(path: Path) -> None:
    assert path.stat().st_size < 3 * 2**20
    with np.load(path) as arrays:
        assert all(arrays[name].dtype in (np.float16, np.uint8) for name in arrays)
    info = load_info(path)
    assert info["command"].startswith("python train.py --dataset ") and info["made_with"]["device"]
    assert "/" not in info["data"]["dataset"] and info["data"]["path"] is None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_rounding_has_lost_nothing(path: Path) -> None:
    """By what was measured of both; that it is so of these weights, the next but one asks."""
    metrics = load_info(path)["metrics"]
    before = metrics["before_rounding"]
    assert metrics["generative"]["elbo"] == pytest.approx(before["generative"]["elbo"], abs=0.05)
    if "clustering" in metrics:
        assert metrics["clustering"]["accuracy"] == pytest.approx(
            before["clustering"]["accuracy"], abs=0.0005
        )


@pytest.mark.usefixtures("plainly_described")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_script_runs_on_it(path: Path, few: Path, tmp_path: Path) -> None:
    """On some of the bundled digits, brought to its size, so that nothing is downloaded."""
    loaded = load_model(path)
    if loaded.model.config.channels == 3:
        pytest.skip("digits are grey")
    height, width = loaded.model.config.image_size
    data = f"--dataset {few} --image_size {height} {width}"
    out = f"--outdir {tmp_path}"
    assert generate.main(f"--model {path} --num 2 --outfile {tmp_path}/s.png".split()) == 0
    assert reconstruct.main(f"--model {path} --rec_testdata {data} {out}".split()) == 0
    is_mixture = isinstance(loaded.model, MixtureModel)
    assert cluster.main(f"--model {path} {data} {out}".split()) == (0 if is_mixture else 2)


@pytest.mark.usefixtures("plainly_described")
def test_digits_model_needs_no_data_flags(tmp_path: Path) -> None:
    """And cluster.py gives the card's figures again."""
    model = ROOT / "pretrained/gmvae_digits_K10_dims_0008.npz"
    assert cluster.main(f"--model {model} --split test --outdir {tmp_path}".split()) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())["clustering"]
    kept = load_info(model)["metrics"]["clustering"]
    assert [f"{found[name]:.3f}" for name in kept] == [f"{kept[name]:.3f}" for name in kept]


def some_photographs(data_dir: Path) -> tuple[Dataset, int]:
    """Test images of the photographs, and how many there are; no others are decoded."""
    with zipfile.ZipFile(sets.only(data_dir, "*jpg*.zip")) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        _, held_out = held_out_rows(len(names))
        some = [names[row] for row in held_out[random_rows(len(held_out), CLUSTERED)]]
        opened = (Image.open(io.BytesIO(archive.read(name))) for name in some)
        images = np.stack([np.array(image.convert("RGB")) for image in opened])
    labels = np.array([name.split("/")[-2] for name in some])
    return make_dataset("photographs", images, labels), len(held_out)


def some_test_images(path: Path, data_dir: Path, folder: Path) -> tuple[Dataset, int]:
    """Test images of the set that a model was trained on, and how many there are."""
    options = pretrained.MODELS[path.stem]
    if "{photos}" in options:
        return some_photographs(data_dir)
    places = sets.prepare(data_dir, folder, options)
    loaded = load_model(path)
    dataset = str(next(iter(places.values()), "")) or loaded.data["dataset"]
    source = DatasetSpec.typed(dataset, None, loaded.data["fit"])
    test = source.load(str(data_dir), loaded.model.config.image_size).test
    is_small = len(test) <= 2 * CLUSTERED
    return test if is_small else test.take(random_rows(len(test), CLUSTERED)), len(test)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_figures_are_reproduced(path: Path, data_dir: str, tmp_path: Path) -> None:
    """Clusters of real test images to the digit, or of many of them; the bound of some."""
    try:
        shown, num = some_test_images(path, Path(data_dir), tmp_path)
    except SystemExit as missing:
        pytest.skip(str(missing))
    loaded = load_model(path)
    assert num == loaded.metrics["images"]
    some = shown.images[random_rows(len(shown), MEASURED)]
    expected = loaded.metrics["generative"]["elbo"]
    assert surveyed_elbo(loaded.model, some) == pytest.approx(expected, rel=0.05)
    if "clustering" in loaded.metrics:
        assert isinstance(loaded.model, MixtureModel)
        scores = Assignments(shown, responsibilities(loaded.model, shown.images)).scores()
        for name in ("accuracy", "nmi", "ari"):
            kept = loaded.metrics["clustering"][name]
            difference = 0.0005 if len(shown) == num else 0.03
            assert scores["clustering"][name] == pytest.approx(kept, abs=difference), name
