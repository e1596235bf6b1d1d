"""What cluster.py does with a trained model: tables, folders, few labels, anomalies."""

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import cluster
import train
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.data.splits import Dataset, Splits
from mlx_gmvae.evaluation.scores import anomaly_scores, responsibilities
from mlx_gmvae.models import MixtureModel
from mlx_gmvae.report import plots
from mlx_gmvae.report.sheets import Section
from mlx_gmvae.runs.checkpoint import load_model

import mlx.core as mx
import numpy as np
import pytest
from conftest import without_drawing
from pictures import kinds_in
from PIL import Image
from sklearn.metrics import roc_auc_score

Sheets = dict[str, tuple[str, list[Section]]]

SMALL = "--arch mlp --hidden_dims 8 --latent_dims 3 --K 2 --epochs 1"


@pytest.fixture(scope="module")
def plane_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 2-D dense VAE of ones, fours and eights, on the bundled digits."""
    folder = tmp_path_factory.mktemp("plane") / "run"
    options = "--model vae --arch mlp --hidden_dims 32 --latent_dims 2 --dataset digits"
    options += " --classes 1 4 8 --epochs 10 --lr 1e-2 --save_every 100"
    with without_drawing():
        assert train.main([*options.split(), "--outdir", str(folder)]) == 0
    return folder


@pytest.fixture
def few(few_digits: None) -> Dataset:
    """The test images that `--dataset digits` means here."""
    return load_dataset("digits").test


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def places_of(shown: np.ndarray, images: np.ndarray) -> list[int]:
    """Where among all images each one is that a picture shows."""
    place_of = {image.tobytes(): place for place, image in enumerate(images)}
    assert len(place_of) == len(images)
    return [place_of[image.tobytes()] for image in shown]


def assert_sheet_is_of(
    sheet: tuple[str, list[Section]],
    rows: list[dict[str, str]],
    images: np.ndarray,
    column: str,
    kind: str,
) -> None:
    """A contact sheet has the most and the least confident images of its kind, in order."""
    members = sorted(
        (float(row["confidence"]) for row in rows if row[column] == kind), reverse=True
    )
    title, (typical, doubtful) = sheet
    assert f": {len(members)} images, mean confidence {np.mean(members):.3f}" in title
    places = [places_of(section.images, images) for section in (typical, doubtful)]
    shown = [*places[0], *places[1]]
    assert all(rows[place][column] == kind for place in shown)
    assert len(set(shown)) == len(shown) == min(100, len(members))
    first, last = ([float(rows[place]["confidence"]) for place in part] for part in places)
    assert len(last) == min(10, len(members) // 4)
    assert first == members[: len(first)]
    assert last == members[::-1][: len(last)]


def test_each_sheet_has_the_images_of_its_cluster(
    digits_run: Path, digits: Splits, tmp_path: Path, drawn: dict[str, Any], sheets: Sheets
) -> None:
    assert (
        cluster.main(f"--model {digits_run}/model.npz --split test --outdir {tmp_path}".split())
        == 0
    )
    rows = rows_of(tmp_path / "assignments.csv")
    model = load_model(digits_run / "model.npz").model
    assert isinstance(model, MixtureModel)
    q = responsibilities(model, digits.test.images)
    assert [int(row["cluster"]) for row in rows] == q.argmax(axis=1).tolist()
    confidence = [float(row["confidence"]) for row in rows]
    np.testing.assert_allclose(confidence, q.max(axis=1), atol=1e-5)
    for kind in {row["cluster"] for row in rows}:
        sheet = sheets[f"cluster_{int(kind):02d}.png"]
        assert_sheet_is_of(sheet, rows, digits.test.images, "cluster", kind)
    by_cluster, by_label = drawn["latent.png"].axes
    assert kinds_in(by_cluster) == Counter(row["cluster"] for row in rows)
    assert kinds_in(by_label) == Counter(row["label"] for row in rows)


def test_few_labels_name_the_classes_of_a_plain_vae(
    plane_run: Path, tmp_path: Path, drawn: dict[str, Any], sheets: Sheets
) -> None:
    options = f"--model {plane_run}/model.npz --labelled 10 --outdir {tmp_path}"
    assert cluster.main(options.split()) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    scores = metrics["classification"]
    assert set(scores) == {"accuracy", "precision", "recall", "f1_macro", "f1_micro"}
    assert scores["f1_macro"] > 0.6  # chance is 0.33
    assert scores["f1_micro"] == pytest.approx(scores["accuracy"])
    rows = rows_of(tmp_path / "assignments.csv")
    right = np.mean([row["predicted"] == row["label"] for row in rows])
    assert right == pytest.approx(scores["accuracy"])
    counts = np.array(metrics["confusion"]["counts"])
    assert metrics["confusion"]["labels"] == ["1", "4", "8"]
    assert counts.sum() == len(rows)
    assert np.trace(counts) == round(right * len(rows))
    images = load_dataset("digits", classes=["1", "4", "8"]).test.images
    for name in ("1", "4", "8"):
        assert_sheet_is_of(sheets[f"class_{name}.png"], rows, images, "predicted", name)
    (axis,) = drawn["confusion.png"].axes
    shown = {tuple(map(round, text.get_position())): text.get_text() for text in axis.texts}
    assert shown == {(c, r): str(counts[r, c]) for r in range(3) for c in range(3)}
    predicted, label = drawn["latent.png"].axes
    assert (predicted.get_title(), label.get_title()) == ("by predicted class", "by label")
    assert kinds_in(predicted) == Counter(row["predicted"] for row in rows)
    assert kinds_in(label) == Counter(row["label"] for row in rows)


def test_few_labels_name_the_components_of_a_mixture(
    digits_run: Path, few: Dataset, tmp_path: Path, drawn: dict[str, Any]
) -> None:
    options = f"--model {digits_run}/model.npz --split test --labelled 5 --outdir {tmp_path} --tsne"
    assert cluster.main(options.split()) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["classification"]["accuracy"] > 0.5
    rows = rows_of(tmp_path / "assignments.csv")
    for name in ("latent.png", "latent_tsne.png"):
        predicted, label = drawn[name].axes
        assert kinds_in(predicted) == Counter(row["predicted"] for row in rows)
        assert kinds_in(label) == Counter(row["label"] for row in rows)
    assert not drawn["latent_tsne.png"].axes[0].lines  # t-SNE has no place for ellipses
    assert len(drawn["latent.png"].axes[0].patches) == 3 * 10
    points = {
        axis.get_title(): np.concatenate([dots.get_offsets() for dots in axis.collections])
        for axis in drawn["latent_tsne.png"].axes
    }
    assert len(np.unique(points["by label"], axis=0)) == len(few)
    assert sorted(map(tuple, points["by label"])) == sorted(
        map(tuple, points["by predicted class"])
    )


def test_anomalies_are_what_does_not_look_like_the_training_images(
    digits_run: Path, few: Dataset
) -> None:
    """Digits against upside-down photographs of nothing in particular: pixels shuffled."""
    model = load_model(digits_run / "model.npz").model
    images = few.images
    strange = np.random.default_rng(0).permuted(images.reshape(len(images), -1), axis=1)
    both = np.concatenate([images, strange.reshape(images.shape)])
    is_strange = np.arange(len(both)) >= len(images)
    for kind in ("deviance", "importance", "elbo"):
        scores = anomaly_scores(model, both, kind)
        assert roc_auc_score(is_strange, scores) > 0.95
        np.testing.assert_array_equal(scores, anomaly_scores(model, both, kind))
        others = anomaly_scores(model, both, kind, seed=1)  # by other draws, of the same images
        assert (scores != others).mean() > 0.9 and np.corrcoef(scores, others)[0, 1] > 0.95
    bound, elbo = (anomaly_scores(model, images, kind) for kind in ("importance", "elbo"))
    assert bound.mean() < elbo.mean()


def test_anomaly_scores_are_saved_and_the_worst_shown(
    digits_run: Path, few: Dataset, tmp_path: Path, sheets: Sheets
) -> None:
    options = f"--model {digits_run}/model.npz --split test --anomalies 12 --outdir {tmp_path}"
    assert cluster.main(options.split()) == 0
    scores = [float(row["anomaly"]) for row in rows_of(tmp_path / "assignments.csv")]
    assert max(scores) > np.median(scores) > 0
    expected = anomaly_scores(load_model(digits_run / "model.npz").model, few.images)
    np.testing.assert_allclose(scores, expected, atol=0.001)
    title, (section,) = sheets["anomalies.png"]
    assert title == "the 12 most anomalous of 60 images, highest score first"
    places = places_of(section.images, few.images)
    assert [scores[place] for place in places] == sorted(scores, reverse=True)[:12]
    assert section.captions == [
        [f"{scores[place]:.1f} nats", f"image {few.index[place]}"] for place in places
    ]


def test_ctrl_c_in_what_takes_long_loses_nothing(
    digits_run: Path,
    few: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "assignments.csv").write_text("index,cluster,confidence\n")
    (tmp_path / "latent_tsne.png").touch()  # of an earlier call, which knew other clusters
    monkeypatch.setattr(plots, "tsne", interrupt)
    options = f"--model {digits_run}/model.npz --split test --tsne --explorer --outdir {tmp_path}"
    assert cluster.main([*options.split(), "--sort_into", str(tmp_path / "sorted")]) == 130
    assert len(rows_of(tmp_path / "assignments.csv")) == len(few)
    assert "clustering" in json.loads((tmp_path / "metrics.json").read_text())
    assert len(list((tmp_path / "sorted").rglob("*.png"))) == len(few)
    assert (tmp_path / "latent.png").exists() and not (tmp_path / "latent_tsne.png").exists()
    assert "test: accuracy" in capsys.readouterr().out


@pytest.mark.usefixtures("few_digits")
def test_results_of_an_earlier_call_go_and_everything_else_stays(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c"
    out.mkdir()
    of_others = {"cluster_1.png", "cluster_001.png", "cluster_12.png.bak", "my_cluster_12.png",
                 "class_photo.png", "explorer.htm", "Anomalies.txt"}  # fmt: skip
    for name in of_others | {"explorer.html", "cluster_12.png"}:
        (out / name).write_text("the user's own")
    model = f"--model {digits_run}/model.npz --split test --outdir {out}"
    every = "--labelled 5 --anomalies 4 --tsne --explorer"
    assert cluster.main([*model.split(), *every.split()]) == 0
    ours = {path.name for path in out.iterdir()} - of_others
    assert ours >= {"confusion.png", "anomalies.png", "latent_tsne.png", "class_7.png"}
    assert (out / "cluster_12.png").exists()  # nothing said that it was ours
    saved = [line for line in capsys.readouterr().out.splitlines() if line.startswith("saved ")]
    sheets = len(list(out.glob("class_?.png")))
    for name in ours - {"cluster_12.png"}:
        listed = f"class_*.png ({sheets})" if name.startswith("class_") else name
        assert any(listed in line for line in saved), name

    assert cluster.main(model.split()) == 0
    left = {path.name for path in out.iterdir()} - of_others
    sizes = json.loads((out / "metrics.json").read_text())["cluster_sizes"]
    sheet_names = {f"cluster_{k:02d}.png" for k, size in enumerate(sizes) if size}
    assert left == {
        "assignments.csv", "metrics.json", "latent.png", "dendrogram.png", "summary.html",
        *sheet_names,
    }  # fmt: skip
    assert of_others <= {path.name for path in out.iterdir()}


@pytest.mark.draws
def test_one_image_can_be_clustered_and_named_by_foreign_classes(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 6), np.uint8)
    np.savez(tmp_path / "few.npz", images=images, labels=["a", "a", "b$x$", "b$x$"],
             test_images=images[:1], test_labels=["unknown"])  # fmt: skip
    data = f"--dataset {tmp_path}/few.npz"
    small = "--arch mlp --hidden_dims 8 --latent_dims 3 --K 2 --epochs 1"
    with without_drawing():
        assert train.main([*data.split(), *small.split(), "--outdir", str(tmp_path / "run")]) == 0
    options = f"--model {tmp_path}/run/model.npz --labelled 1 --tsne --explorer --anomalies 3"
    assert cluster.main([*options.split(), "--outdir", str(tmp_path / "c")]) == 0
    confusion = json.loads((tmp_path / "c/metrics.json").read_text())["confusion"]
    assert confusion["labels"] == ["a", "b$x$", "unknown"]
    assert np.array(confusion["counts"]).sum(axis=1).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--labelled 0", "--labelled is 0"),
        ("--labelled 1000", "only"),
        ("--anomalies 0", "--anomalies is 0"),
        ("--hard_links", "no effect without --sort_into"),
        ("--hard_links --sort_into s", "a folder of image files"),
        ("--seed -1", "seed is -1"),
        ("--anomaly_score elbo", "no effect without --anomalies"),
    ],
)
def test_flags_without_sense_are_refused(
    flags: str, message: str, digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = f"--model {digits_run}/model.npz --split test --outdir {tmp_path} {flags}"
    assert cluster.main(options.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_latents_are_saved_with_the_names_of_their_images(
    digits_run: Path, few: Dataset, tmp_path: Path
) -> None:
    options = f"--model {digits_run}/model.npz --split test --save_latents --outdir {tmp_path}"
    assert cluster.main(options.split()) == 0
    z = np.load(tmp_path / "latents.npy")
    model = load_model(digits_run / "model.npz").model
    expected = np.array(model.encode(mx.array(few.images / 255)).mean)
    np.testing.assert_allclose(z, expected, atol=1e-4)
    rows = rows_of(tmp_path / "latents.csv")
    assert list(rows[0]) == ["index", "z1", "z2", "z3", "z4"]
    assert [int(row["index"]) for row in rows] == few.index.tolist()
    table = [[float(row[f"z{number}"]) for number in range(1, 5)] for row in rows]
    np.testing.assert_allclose(table, z, rtol=1e-6)


def test_a_vae_scores_anomalies_without_labels(
    plane_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = f"--model {plane_run}/model.npz --outdir {tmp_path}"
    assert cluster.main(options.split()) == 2
    assert "--anomalies N" in capsys.readouterr().err
    assert cluster.main([*options.split(), "--anomalies", "3"]) == 0
    rows = rows_of(tmp_path / "assignments.csv")
    assert {row["cluster"] for row in rows} == {"0"}
    assert len({row["anomaly"] for row in rows}) > len(rows) / 2
    assert "clustering" not in json.loads((tmp_path / "metrics.json").read_text())


def folder_of_pictures(folder: Path, num: int) -> list[str]:
    """Files of random pixels, in the order of their names."""
    folder.mkdir(parents=True)
    files = []
    for number, pixels in enumerate(np.random.default_rng(num).integers(0, 256, (num, 8, 8))):
        files.append(str(folder / f"{number:02d}.png"))
        Image.fromarray(pixels.astype(np.uint8)).save(files[-1])
    return files


def test_a_folder_without_a_split_is_shown_whole_in_the_order_of_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = folder_of_pictures(tmp_path / "in", 30)
    options = f"--dataset {tmp_path}/in {SMALL} --data_dir {tmp_path}/kept --outdir {tmp_path}/run"
    assert train.main(options.split()) == 0
    assert json.loads((tmp_path / "run/metrics.json").read_text())["images"] == 6
    page = (tmp_path / "run/summary.html").read_text()
    assert sum(map(int, re.findall(r"<figcaption>cluster \d\d: (\d+)", page))) == 30
    assert "6 held-out test images; clusters and anomalies are of all 30." in page
    assert "The most anomalous of 30 images" in page

    model = f"--model {tmp_path}/run/model.npz --data_dir {tmp_path}/kept --outdir {tmp_path}/c"
    capsys.readouterr()
    assert cluster.main([*model.split(), "--save_latents"]) == 0
    said = f"all 30 images of {tmp_path}/in (24 of them used in training)"
    assert f"{said} in clusters of" in capsys.readouterr().out
    assert said.replace(f"{tmp_path}/", "") in (tmp_path / "c/summary.html").read_text()
    rows = rows_of(tmp_path / "c/assignments.csv")
    assert [row["file"] for row in rows] == files
    assert [row["file"] for row in rows_of(tmp_path / "c/latents.csv")] == files
    held_out = {row["file"] for row in rows if row["split"] == "test"}
    metrics = json.loads((tmp_path / "c/metrics.json").read_text())
    assert (metrics["split"], metrics["images"], metrics["trained_on"]) == ("all", 30, 24)

    assert cluster.main([*model.split(), "--split", "test"]) == 0
    rows = rows_of(tmp_path / "c/assignments.csv")
    assert {row["file"] for row in rows} == held_out and "split" not in rows[0]


def test_a_set_with_a_test_split_is_shown_by_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, num in (("train", 20), ("test", 4)):
        folder_of_pictures(tmp_path / "in" / name, num)
    options = f"--dataset {tmp_path}/in {SMALL} --data_dir {tmp_path}/kept --outdir {tmp_path}/run"
    assert train.main(options.split()) == 0
    assert "are of 4 held-out test images." in (tmp_path / "run/summary.html").read_text()
    model = f"--model {tmp_path}/run/model.npz --data_dir {tmp_path}/kept --outdir {tmp_path}/c"
    assert cluster.main(model.split()) == 0
    assert len(rows_of(tmp_path / "c/assignments.csv")) == 4
    assert cluster.main([*model.split(), "--split", "all"]) == 0
    kinds = Counter(row["split"] for row in rows_of(tmp_path / "c/assignments.csv"))
    assert kinds == {"train": 20, "test": 4}
