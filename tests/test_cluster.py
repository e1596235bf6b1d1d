"""What cluster.py does with a trained model: tables, folders, few labels, anomalies."""

import csv
import errno
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any
from unicodedata import normalize

import cluster
import train
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.data.splits import Dataset, Splits
from mlx_gmvae.errors import InputError
from mlx_gmvae.evaluation.labelled import choose_labelled, classify
from mlx_gmvae.evaluation.scores import anomaly_scores, responsibilities
from mlx_gmvae.models import MixtureModel
from mlx_gmvae.report import plots, sorted_folders
from mlx_gmvae.report.assignments import Assignments
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
    options = "--model vae --arch mlp --hidden_dims 64 --latent_dims 2 --dataset digits"
    options += " --classes 1 4 8 --epochs 40 --lr 3e-3 --save_every 100"
    with without_drawing():
        assert train.main([*options.split(), "--outdir", str(folder)]) == 0
    return folder


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
    digits_run: Path, tmp_path: Path, drawn: dict[str, Any]
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
    assert len(np.unique(points["by label"], axis=0)) == 359
    assert sorted(map(tuple, points["by label"])) == sorted(
        map(tuple, points["by predicted class"])
    )


def test_components_are_shown_under_the_names_of_their_classes(
    digits_run: Path, digits: Splits
) -> None:
    model = load_model(digits_run / "model.npz").model
    assert isinstance(model, MixtureModel)
    images = digits.test.images
    classes = classify(model, digits.train, images, num_per_class=5, seed=0)
    assert len(classes.gaussians.names) == 10
    clusters = responsibilities(model, images).argmax(axis=1)
    predicted = np.array(classes.names)[classes.values.argmax(axis=1)]
    by_component = np.array(classes.gaussians.names)[clusters]
    assert (by_component == predicted).mean() > 0.9  # all, but where two components share a class


def test_few_labels_are_those_of_training_images_alone(
    digits_run: Path, digits: Splits, tmp_path: Path
) -> None:
    """Whatever the labels of the images are that are classified."""
    (train_part, test), answers = digits, []
    assert train_part.labels is not None and test.labels is not None
    for name, labels in (("true", test.labels), ("wrong", (test.labels + 3) % 10)):
        np.savez(tmp_path / f"{name}.npz", images=train_part.images, labels=train_part.labels,
                 test_images=test.images, test_labels=labels)  # fmt: skip
        options = f"--model {digits_run}/model.npz --dataset {tmp_path}/{name}.npz --split test"
        assert cluster.main(f"{options} --labelled 5 --outdir {tmp_path}/{name}".split()) == 0
        answers.append([row["predicted"] for row in rows_of(tmp_path / name / "assignments.csv")])
    assert answers[0] == answers[1]
    right = np.mean([int(answer) for answer in answers[0]] == test.labels)
    assert right > 0.5


def test_labelled_examples_are_as_many_of_each_class(digits: Splits) -> None:
    rows = choose_labelled(digits.train, 7, seed=3)
    assert digits.train.labels is not None
    assert np.bincount(digits.train.labels[rows]).tolist() == [7] * 10
    assert len(set(rows)) == 70
    np.testing.assert_array_equal(choose_labelled(digits.train, 7, seed=3), rows)
    assert (choose_labelled(digits.train, 7, seed=4) != rows).any()
    with pytest.raises(InputError, match="only"):
        choose_labelled(digits.train, 1000, seed=0)


def test_anomalies_are_what_does_not_look_like_the_training_images(
    digits_run: Path, digits: Splits
) -> None:
    """Digits against upside-down photographs of nothing in particular: pixels shuffled."""
    model = load_model(digits_run / "model.npz").model
    images = digits.test.images
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
    digits_run: Path, digits: Splits, tmp_path: Path, sheets: Sheets
) -> None:
    options = f"--model {digits_run}/model.npz --split test --anomalies 12 --outdir {tmp_path}"
    assert cluster.main(options.split()) == 0
    scores = [float(row["anomaly"]) for row in rows_of(tmp_path / "assignments.csv")]
    assert max(scores) > np.median(scores) > 0
    expected = anomaly_scores(load_model(digits_run / "model.npz").model, digits.test.images)
    np.testing.assert_allclose(scores, expected, atol=0.001)
    title, (section,) = sheets["anomalies.png"]
    assert title == "the 12 most anomalous of 359 images, highest score first"
    places = places_of(section.images, digits.test.images)
    assert [scores[place] for place in places] == sorted(scores, reverse=True)[:12]
    assert section.captions == [
        [f"{scores[place]:.1f} nats", f"image {digits.test.index[place]}"] for place in places
    ]


def test_classes_keep_files_of_their_own_where_case_and_accents_do_not_count() -> None:
    names = ("Bird", "bird", "caf\u00e9", "cafe\u0301", "bird_1", "a/b", "a_b", "fish")
    dataset = Dataset("few", np.zeros((8, 2, 2, 1), np.uint8), None, np.arange(8))
    found = Assignments(dataset, np.eye(8), names)
    files = [found.name(number) for number in range(8)]
    assert files[0] == "class_Bird_0" and files[4] == "class_bird_1" and files[7] == "class_fish"
    as_macos_compares = [normalize("NFD", name).casefold() for name in files]
    assert len(set(as_macos_compares)) == 8
    assert not any("/" in name for name in files)


def test_images_are_sorted_into_folders_and_the_originals_stay(tmp_path: Path) -> None:
    photos = np.random.default_rng(0).integers(0, 256, (6, 5, 5, 3), np.uint8)
    files = []
    for number, photo in enumerate(photos):
        path = tmp_path / "in" / str(number % 2) / "same_name.png"
        path = path.with_stem(f"same_name_{number // 2}")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(path)
        files.append(str(path))
    dataset = Dataset(str(tmp_path / "in"), photos, None, np.arange(6), files=tuple(files))
    found = Assignments(dataset, np.eye(3)[[0, 1, 0, 0, 1, 0]])
    for links in (False, True):
        sorted_folders.prepare(dataset, tmp_path / f"out_{links}", hard_links=links)
        sorted_folders.sort_into(found, tmp_path / f"out_{links}", hard_links=links)
        names = {
            folder.name: sorted(path.name for path in folder.iterdir())
            for folder in (tmp_path / f"out_{links}").iterdir()
            if folder.name != "metadata.csv"
        }
        assert {name: len(each) for name, each in names.items()} == {
            "cluster_00": 4, "cluster_01": 2, "cluster_02": 0,
        }  # fmt: skip
        copy = tmp_path / f"out_{links}" / "cluster_01" / "000004_same_name_2.png"
        assert copy.read_bytes() == Path(files[4]).read_bytes()
        assert copy.samefile(files[4]) == links
    assert all(Path(path).exists() for path in files)
    with pytest.raises(InputError, match="not an empty folder"):
        sorted_folders.prepare(dataset, tmp_path / "out_True")
    with pytest.raises(InputError, match="the folder of the images"):
        sorted_folders.prepare(dataset, tmp_path / "in" / "sorted")


def test_a_folder_that_cannot_hold_links_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    image = np.zeros((1, 2, 2, 1), np.uint8)
    dataset = Dataset(str(tmp_path / "in"), image, None, np.arange(1), files=("in/a.png",))
    with pytest.raises(InputError, match=r"cannot hold hard links to in/a.png .*leave out"):
        sorted_folders.prepare(dataset, tmp_path / "out", hard_links=True)
    assert not (tmp_path / "out").exists()


def test_sorting_is_refused_before_anything_is_scored(
    digits_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def score(*args: object) -> None:
        raise AssertionError("scored")

    monkeypatch.setattr("mlx_gmvae.cli.cluster.responsibilities", score)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    model = f"--model {digits_run}/model.npz --split test"
    options = f"{model} --outdir {tmp_path}/c --sort_into {tmp_path}/full"
    assert cluster.main(options.split()) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_ctrl_c_in_what_takes_long_loses_nothing(
    digits_run: Path,
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
    assert len(rows_of(tmp_path / "assignments.csv")) == 359
    assert "clustering" in json.loads((tmp_path / "metrics.json").read_text())
    assert len(list((tmp_path / "sorted").rglob("*.png"))) == 359
    assert (tmp_path / "latent.png").exists() and not (tmp_path / "latent_tsne.png").exists()
    assert "test: accuracy" in capsys.readouterr().out


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


def test_images_of_arrays_are_sorted_as_pictures(digits_run: Path, tmp_path: Path) -> None:
    model = f"--model {digits_run}/model.npz --split test"
    options = f"{model} --outdir {tmp_path}/c --sort_into {tmp_path}/sorted"
    assert cluster.main(options.split()) == 0
    rows = rows_of(tmp_path / "c/assignments.csv")
    digits = load_dataset("digits").test
    for row, image in list(zip(rows, digits.images, strict=True))[:20]:
        name = f"cluster_{int(row['cluster']):02d}/{int(row['index']):06d}.png"
        with Image.open(tmp_path / "sorted" / name) as saved:
            np.testing.assert_array_equal(np.array(saved), image[..., 0])
    assert len(list((tmp_path / "sorted").rglob("*.png"))) == len(rows)


def test_one_image_can_be_clustered_and_named_by_foreign_classes(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 6), np.uint8)
    np.savez(tmp_path / "few.npz", images=images, labels=["a", "a", "b$x$", "b$x$"],
             test_images=images[:1], test_labels=["unknown"])  # fmt: skip
    data = f"--dataset {tmp_path}/few.npz"
    small = "--arch mlp --hidden_dims 8 --latent_dims 3 --K 2 --epochs 1"
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
    digits_run: Path, digits: Splits, tmp_path: Path
) -> None:
    options = f"--model {digits_run}/model.npz --split test --save_latents --outdir {tmp_path}"
    assert cluster.main(options.split()) == 0
    z = np.load(tmp_path / "latents.npy")
    model = load_model(digits_run / "model.npz").model
    expected = np.array(model.encode(mx.array(digits.test.images / 255)).mean)
    np.testing.assert_allclose(z, expected, atol=1e-4)
    rows = rows_of(tmp_path / "latents.csv")
    assert list(rows[0]) == ["index", "z1", "z2", "z3", "z4"]
    assert [int(row["index"]) for row in rows] == digits.test.index.tolist()
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
