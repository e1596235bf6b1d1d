"""Runs of train.py in stages: mutual learning, VaDE, early stopping, summaries, progress."""

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import generate
import train
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.data.splits import Splits
from mlx_gmvae.device.randomness import random_rows
from mlx_gmvae.report import plots
from mlx_gmvae.runs.checkpoint import load_model

import mlx.core as mx
import numpy as np
import pytest
from pictures import cells, kinds_in, read
from PIL import Image, ImageSequence

SMALL = "--dataset digits --arch mlp --hidden_dims 64 --latent_dims 4"


def run(folder: Path, options: str) -> Path:
    assert train.main([*SMALL.split(), *options.split(), "--outdir", str(folder)]) == 0
    return folder


@pytest.fixture
def few(few_digits: None) -> Splits:
    """The images that `--dataset digits` means here."""
    return load_dataset("digits")


@pytest.fixture
def unrendered(drawn: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Diagrams as they would be drawn, which takes longest."""

    def save_figure(figure: Any, path: Path) -> None:
        drawn[path.name] = figure
        Image.new("RGB", (8, 8)).save(path)

    monkeypatch.setattr(plots, "save_figure", save_figure)
    return drawn


def test_mutual_learning_keeps_and_compares_every_iteration(
    tmp_path: Path, few: Splits, unrendered: dict[str, Any]
) -> None:
    folder = run(tmp_path / "run", "--model vae-gmm --mutual_iterations 2 --epochs 3")
    with (folder / "iterations.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["iteration"] for row in rows] == ["0", "1", "2"]
    assert all(float(row["elbo"]) < 0 < float(row["accuracy"]) < 1 for row in rows)
    for name in ("elbo", "accuracy"):
        (axis,) = unrendered[f"{name}.png"].axes
        x, y = axis.lines[0].get_data()
        assert list(x) == [0, 1, 2] and list(y) == [float(row[name]) for row in rows]
    labels = Counter(map(str, few.test.label_names))
    for name in ("latent_pca", "latent_tsne"):
        first_panel, last_panel = unrendered[f"{name}.png"].axes
        assert first_panel.get_title() == "iteration 0 (no mutual learning)"
        assert last_panel.get_title() == "iteration 2"
        assert kinds_in(first_panel) == kinds_in(last_panel) == labels
    first, last = (folder / "iterations" / f"iteration_{number:02d}.npz" for number in (0, 2))
    assert generate.main(
        f"--model {first} --cluster 3 --num 5 --outfile {tmp_path}/s.png".split()
    ) == 0  # fmt: skip
    kept, final = load_model(last).model.arrays(), load_model(folder / "model.npz").model.arrays()
    for name, value in final.items():
        np.testing.assert_array_equal(kept[name], value)


def test_vade_finds_more_than_chance(tmp_path: Path) -> None:
    options = "--dataset digits --classes 0 1 2 --model vade --K 3 --arch mlp --hidden_dims 128"
    options += " --latent_dims 4 --epochs 12 --pretrain_epochs 9 --lr 5e-3 --augment none"
    options += " --save_every 99"
    assert train.main([*options.split(), "--outdir", str(tmp_path / "run")]) == 0
    folder = tmp_path / "run"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["clustering"]["accuracy"] > 0.6


@pytest.mark.usefixtures("few_digits")
def test_early_stopping_keeps_the_best_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], unrendered: dict[str, Any]
) -> None:
    options = "--model vae --epochs 400 --lr 0.01 --early_stopping 5 --lr_schedule constant"
    folder = run(tmp_path / "run", options)
    with (folder / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    losses = [float(row["validation"]) for row in history]
    bound = next(a for a in unrendered["curves.png"].axes if a.get_title() == "negative bound")
    training, validation = bound.lines
    assert validation.get_label() == "validation"
    assert list(validation.get_data()[0]) == [int(row["epoch"]) for row in history]
    assert list(validation.get_data()[1]) == losses
    terms = [float(row["reconstruction"]) + float(row["kl_z"]) for row in history]
    assert list(training.get_data()[1]) == terms
    assert len(losses) == int(np.argmin(losses)) + 6 < 400
    assert f"weights of epoch {np.argmin(losses) + 1}," in capsys.readouterr().out
    best, kept = load_model(folder / "best.npz").model, load_model(folder / "model.npz").model
    for name, value in best.arrays().items():
        np.testing.assert_array_equal(kept.arrays()[name], value)


@pytest.mark.usefixtures("few_digits")
def test_a_finished_run_resumes_as_if_it_had_not_been_measured(tmp_path: Path) -> None:
    """Measuring draws noise and, with early stopping, loads the best weights: neither may stay."""
    options = "--model vae --batchsize 128 --lr_schedule constant --early_stopping 50 --epochs"
    whole, parts = run(tmp_path / "whole", f"{options} 4"), run(tmp_path / "parts", f"{options} 2")
    finished = f"--resume {parts}"
    assert train.main(finished.split()) == 2
    assert train.main([*finished.split(), "--epochs", "4"]) == 0
    ours, theirs = (load_model(folder / "model.npz").model.arrays() for folder in (whole, parts))
    for name, value in ours.items():
        np.testing.assert_array_equal(theirs[name], value)


@pytest.mark.usefixtures("few_digits")
def test_an_earlier_run_is_given_up_only_when_nothing_can_be_refused(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", "--epochs 1 --batchsize 128 --heads 2 --augment none")
    before = sorted(path.name for path in folder.rglob("*"))
    (tmp_path / "shares.txt").write_text("1 2 3")
    wrong = f"--overwrite --balance {tmp_path}/shares.txt --outdir {folder}"
    assert train.main([*SMALL.split(), *wrong.split()]) == 2
    assert sorted(path.name for path in folder.rglob("*")) == before
    run(folder, "--model vae --epochs 1 --batchsize 128 --overwrite")
    assert not (folder / "reconstructions/clusters").exists()


def test_several_seeds_are_a_run_that_is_not_overwritten_silently(tmp_path: Path) -> None:
    (tmp_path / "run/seed_0").mkdir(parents=True)
    (tmp_path / "run/seed_0/state.npz").write_bytes(b"")
    options = f"--seeds 2 --epochs 1 --outdir {tmp_path}/run"
    assert train.main([*SMALL.split(), *options.split()]) == 2


def assert_reconstructions(picture: np.ndarray, folder: Path, digits: Splits) -> None:
    """Fifty random test images, a row of ten above that of what the run's model makes of them."""
    model, test = load_model(folder / "model.npz").model, digits.test.images
    images = test[random_rows(len(test), 50)]
    rows = cells(picture, 8, 8, 10).reshape(5, 2, 10, 8, 8, 1)
    np.testing.assert_array_equal(rows[:, 0].reshape(images.shape), images)
    expected = np.array(model.reconstruct(mx.array(images / 255))) * 255
    np.testing.assert_allclose(rows[:, 1].reshape(images.shape), expected, atol=1)


def test_summaries_can_be_read_by_tensorboard(tmp_path: Path, few: Splits) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = run(
        tmp_path / "run", "--model vae --epochs 3 --batchsize 128 --save_every 1 --tensorboard"
    )
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    with (folder / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    written = [(event.step, event.value) for event in events.Scalars("loss")]
    expected = [(int(row["epoch"]), pytest.approx(float(row["loss"]), rel=1e-6)) for row in history]
    assert written == expected
    pictures = events.Images("reconstructions")
    assert [picture.step for picture in pictures] == [1, 2, 3]
    with Image.open(io.BytesIO(pictures[-1].encoded_image_string)) as shown:
        assert_reconstructions(np.array(shown), folder, few)


@pytest.mark.draws
def test_progress_is_animated_and_overwriting_starts_anew(tmp_path: Path, few: Splits) -> None:
    cheap = "--heads 2 --augment none --descriptor pixels --batchsize 128 --save_every 1"
    folder = run(tmp_path / "run", f"{cheap} --epochs 3")
    with Image.open(folder / "progress.gif") as animation:
        shown = ImageSequence.all_frames(animation, lambda frame: frame.convert("RGB"))
        assert animation.info["loop"] == 0  # for ever
    assert len(shown) == 3
    for epoch, frame in enumerate(shown, start=1):
        saved = read(folder / f"progress/epoch_{epoch:04d}.png")
        # 256 colours are enough for greys, up to the one that stands for what did not change.
        np.testing.assert_allclose(np.array(frame).astype(int), saved.astype(int), atol=4)
    last, width = read(folder / "progress/epoch_0003.png")[16:, :, 0], 10 * 58 + 2
    assert_reconstructions(last[: 10 * 58 + 2, :width], folder, few)
    samples = cells(last[: 10 * 58 + 2, width + 2 :], 8, 8, 10)
    np.testing.assert_array_equal(samples, cells(read(folder / "samples.png"), 8, 8, 10))
    run(folder, f"{cheap} --epochs 2 --overwrite")
    with Image.open(folder / "progress.gif") as animation:
        assert len(ImageSequence.all_frames(animation)) == 2
    assert len(list((folder / "reconstructions/clusters").iterdir())) == 2
