"""Corrections that the classifier learns, and models that have a curation inside."""

import json
from pathlib import Path

import cluster
import mlx_gmvae as mg
from mlx_gmvae.clustering.corrections import learn_corrections
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.data.splits import Dataset
from mlx_gmvae.evaluation.scores import responsibilities
from mlx_gmvae.models import MixtureModel
from mlx_gmvae.report.curation import Curation
from mlx_gmvae.runs.checkpoint import load_model

import numpy as np
import pytest

MODEL = Path(__file__).resolve().parent.parent / "pretrained/gmvae_digits_K10_dims_0008.npz"
DIGITS = load_dataset("digits", image_size=(28, 28))


def predicted(model: Path, images: np.ndarray) -> np.ndarray:
    return mg.load(model).predict(images)


def right_clusters() -> np.ndarray:
    """The cluster of each class in the pretrained model."""
    found = predicted(MODEL, DIGITS.train.images)
    counts = [np.bincount(found[DIGITS.train.labels == digit], minlength=10) for digit in range(10)]
    clusters = np.argmax(counts, axis=1)
    assert len(set(clusters)) == 10
    return clusters


def test_corrections_mend_images_that_nobody_corrected() -> None:
    model, right = load_model(MODEL).model, right_clusters()
    assert isinstance(model, MixtureModel)
    train, test = DIGITS.train.take(np.arange(700)), DIGITS.test
    rows = np.argsort(mg.load(MODEL).responsibilities(train.images).max(axis=1))[:50]
    wanted = right[train.labels]
    corrected = dict(zip(rows.tolist(), wanted[rows].tolist(), strict=True))
    assert learn_corrections(model, train.images, corrected)
    before, after = predicted(MODEL, test.images), mg.Model(model).predict(test.images)
    right_before, right_after = (np.sum(each == right[test.labels]) for each in (before, after))
    assert right_after >= right_before + 3
    assert np.mean(after == before) > 0.97
    np.testing.assert_array_equal(mg.Model(model).predict(train.images[rows]), wanted[rows])


def test_the_layer_minimises_its_two_cross_entropies() -> None:
    """With the present clusters of all images and, half as much, with the corrected ones."""
    model, images = load_model(MODEL).model, DIGITS.train.images[:60]
    assert isinstance(model, MixtureModel)
    before = responsibilities(model, images)
    rows = np.argsort(before.max(axis=1))[:6]
    wanted = before[rows].argsort(axis=1)[:, -2]  # the second most probable
    assert learn_corrections(model, images, dict(zip(rows.tolist(), wanted.tolist(), strict=True)))
    after = responsibilities(model, images)
    of_all = (after - before).mean(axis=0)
    of_corrected = (after[rows] - np.eye(10)[wanted]).mean(axis=0)
    assert np.abs(of_corrected).max() > 0.01
    np.testing.assert_allclose(of_all + 0.5 * of_corrected, 0, atol=2e-3)  # gradient of the bias


def test_without_corrections_or_a_classifier_nothing_changes() -> None:
    model = load_model(MODEL).model
    assert isinstance(model, MixtureModel)
    before = np.array(model.classifier.out.weight)
    assert not learn_corrections(model, DIGITS.train.images[:9], {})
    np.testing.assert_array_equal(model.classifier.out.weight, before)
    by_bayes = mg.build_model(image_size=(28, 28), K=10, posterior="bayes").network
    assert isinstance(by_bayes, MixtureModel)
    assert not learn_corrections(by_bayes, DIGITS.train.images[:9], {0: 1})


@pytest.fixture
def few(few_digits: None) -> Dataset:
    """The test images that `--dataset digits` means here."""
    return load_dataset("digits").test


def test_a_saved_model_has_names_merges_and_corrections(
    few: Dataset, digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, model = few, digits_run / "model.npz"
    before = predicted(model, dataset.images)
    row = int(np.flatnonzero(before == 3)[0])
    other = int(np.flatnonzero(before == 7)[0])
    decided = Curation(
        10, {0: "mine", 4: "four"}, ((0, 1),),
        {dataset.relative_name(row): 7, dataset.relative_name(other): None},
    )  # fmt: skip
    (tmp_path / "c.json").write_text(json.dumps(decided.to_json()))
    saved = tmp_path / "curated.safetensors"
    common = f"--split test --dataset digits --outdir {tmp_path / 'out'}"
    command = f"--model {model} --curation {tmp_path / 'c.json'} --save_model {saved} {common}"
    assert cluster.main(command.split()) == 0
    assert "names and merges stored, 1 corrections learned" in capsys.readouterr().out
    # Without --curation, the model's own is used; an image put there stays there.
    assert cluster.main(f"--model {saved} {common}".split()) == 0
    assert (
        "2 names, 10 clusters merged into 9, 2 of 2 moved images found" in capsys.readouterr().out
    )
    lines = (tmp_path / "out/assignments.csv").read_text().splitlines()
    names = {line.split(",")[lines[0].split(",").index("name")] for line in lines[1:]}
    assert {"mine", "four", "none"} <= names
    loaded = mg.load(saved)
    assert loaded.metrics == {}  # those of the trained layer are not this one's
    assert loaded.data["curation"]["names"] == {"0": "mine", "4": "four"}
    # Also through a copy that Python wrote.
    loaded.save(tmp_path / "copy.npz")
    assert mg.load(tmp_path / "copy.npz").data["curation"] == loaded.data["curation"]


def test_what_means_nothing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.json").write_text(json.dumps(Curation(10).to_json()))
    for options, problem in [
        ("--save_model m.npz", "--save_model has no effect without --curation"),
        (f"--curation {tmp_path / 'c.json'} --save_model m.txt", "must end in .npz or"),
        (f"--curation {tmp_path / 'c.json'} --save_model {MODEL}", "would replace --model"),
    ]:
        assert cluster.main(f"--model {MODEL} {options}".split()) == 2
        assert problem in capsys.readouterr().err


def test_a_damaged_curation_in_a_model_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = mg.load(MODEL)
    loaded.data["curation"] = {"curation": 1, "clusters": 10, "names": {"10": "x"}}
    loaded.save(tmp_path / "m.npz")
    assert cluster.main(f"--model {tmp_path / 'm.npz'} --outdir {tmp_path / 'o'}".split()) == 2
    assert "m.npz has cluster '10'; clusters are 0 to 9" in capsys.readouterr().err


def test_other_results_are_those_of_the_model_that_assigned(
    few: Dataset, digits_run: Path, tmp_path: Path
) -> None:
    dataset, model = few, digits_run / "model.npz"
    moved: dict[str, int | None] = {dataset.relative_name(row): 3 for row in range(40)}
    (tmp_path / "c.json").write_text(json.dumps(Curation(10, moved=moved).to_json()))
    common = f"--model {model} --dataset digits --split test --curation {tmp_path / 'c.json'}"
    for name, more in (("without", ""), ("with", f"--save_model {tmp_path / 'm.npz'}")):
        options = f"{common} --anomalies 5 --anomaly_score elbo --outdir {tmp_path / name} {more}"
        assert cluster.main(options.split()) == 0
    tables = [(tmp_path / name / "assignments.csv").read_text() for name in ("without", "with")]
    assert tables[0] == tables[1] and "anomaly" in tables[0]
    changed = mg.load(tmp_path / "m.npz").responsibilities(dataset.images)
    assert not np.allclose(changed, mg.load(model).responsibilities(dataset.images))
