"""--K auto: the number of clusters, from affinities with a known answer and from images."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import train
from mlx_gmvae.clustering.merge import conductance_by_number, cut_by_number
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.errors import InputError
from mlx_gmvae.runs.checkpoint import load_model
from mlx_gmvae.training import select_k as module
from mlx_gmvae.training.select_k import (
    SelectedK,
    largest_apart,
    limits_by_cut,
    select_k,
    steps_to_find,
)

import numpy as np
import pytest

rng = np.random.default_rng(0)


def test_conductances_are_shares_of_the_smaller_ones_neighbours() -> None:
    """Three clusters of 0.5, 0.3 and 0.2; the last two share 0.04, all else 0.01."""
    joint = np.array([[0.0, 0.01, 0.01], [0.01, 0.0, 0.04], [0.01, 0.04, 0.0]])
    joint += np.diag(np.array([0.5, 0.3, 0.2]) - joint.sum(axis=1))
    found = conductance_by_number(joint)
    assert found == pytest.approx({3: 0.04 / 0.2, 2: 0.02 / 0.5})


def test_the_number_is_the_largest_of_low_conductance() -> None:
    limits = dict.fromkeys(range(2, 7), 0.085)
    assert largest_apart({5: 0.3, 4: 0.2, 3: 0.02, 2: 0.01}, limits) == 3
    assert largest_apart({5: 0.3, 4: 0.2, 3: 0.02, 2: 0.01}, limits | {4: 0.21}) == 4
    assert largest_apart({3: 0.3, 2: 0.2}, limits) == 1
    # Single ones that are small or large by chance do not count.
    assert largest_apart({6: 0.4, 5: 0.08, 4: 0.2, 3: 0.02, 2: 0.01}, limits) == 3
    assert largest_apart({6: 0.4, 5: 0.05, 4: 0.04, 3: 0.09, 2: 0.01}, limits) == 5
    line = SelectedK(3, {4: 0.2, 3: 0.02, 2: 0.01}, limits).describe()
    assert line.startswith("K = 3: of 3 clusters the two most alike share 2.0%")
    assert line.endswith("of 4 clusters 20.0%")
    alone = SelectedK(1, {3: 0.6, 2: 0.5}, limits).describe()
    assert alone.startswith("K = 1: of two clusters, the smaller shares 50.0%")


def test_limits_follow_how_often_neighbours_are_wrong() -> None:
    """Of perfect neighbours 8.5 %, of bad ones 1.1 times the share that is cut, to 18 %."""
    assert limits_by_cut({2: 0.0, 3: 0.05, 4: 0.1, 5: 0.4}) == pytest.approx(
        {2: 0.085, 3: 0.085, 4: 0.11, 5: 0.18}
    )


def test_the_cut_is_the_share_of_neighbours_in_different_clusters() -> None:
    joint = np.array([[0.0, 0.01, 0.01], [0.01, 0.0, 0.04], [0.01, 0.04, 0.0]])
    joint += np.diag(np.array([0.5, 0.3, 0.2]) - joint.sum(axis=1))
    assert cut_by_number(joint) == pytest.approx({3: 0.12, 2: 0.04})


def blobs(num: int, kinds: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 12, 12, 1) of a bright square at one of `kinds` places, and neighbours."""
    which = rng.integers(0, kinds, num)
    images = rng.integers(0, 60, (num, 12, 12, 1), dtype=np.uint8)
    for image, kind in zip(images, which, strict=True):
        row, column = divmod(int(kind), 2)
        image[6 * row : 6 * row + 5, 6 * column : 6 * column + 5] += 150
    graph = np.stack([rng.choice(np.flatnonzero(which == kind), 5) for kind in which])
    return images, graph


def test_the_number_is_that_of_the_blobs(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = 4
    monkeypatch.setattr(module, "STEPS", 150)
    images, graph = blobs(600, kinds)
    model = ModelConfig(image_size=(12, 12), arch="mlp", hidden_dims=32)
    training = TrainConfig(batchsize=64, augment="none", descriptor="hog", lr=3e-3)
    found, _ = select_k(model, training, images, graph)
    assert found.clusters == kinds
    assert found.conductances[kinds] < 0.02 < 0.1 < found.conductances[kinds + 1]


def test_conductances_are_the_mean_over_the_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEPS", 20)
    curves: list[dict[int, float]] = []

    def noted(affinity: np.ndarray) -> dict[int, float]:
        curves.append(conductance_by_number(affinity))
        return curves[-1]

    monkeypatch.setattr(module, "conductance_by_number", noted)
    images, graph = blobs(300, 3)
    model = ModelConfig(image_size=(12, 12), arch="mlp", hidden_dims=16)
    found, _ = select_k(model, TrainConfig(augment="none", descriptor="hog"), images, graph)
    assert len(curves) == 8 and curves[0] != curves[1]
    expected = {k: np.mean([curve[k] for curve in curves]) for k in curves[0]}
    assert found.conductances == pytest.approx(expected)


@pytest.mark.parametrize(("few", "is_learned"), [(120, True), (119, False)])
def test_only_of_few_images_the_neighbours_are_learned_and_the_limit_follows_them(
    few: int, is_learned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEPS", 20)
    monkeypatch.setattr(module, "FEW_IMAGES", few)
    monkeypatch.setattr(module, "limits_by_cut", lambda cuts: dict.fromkeys(cuts, 0.15))
    learned = Mock(side_effect=module.learned_graph)
    monkeypatch.setattr(module, "learned_graph", learned)
    images, graph = blobs(120, 2)
    model = ModelConfig(image_size=(12, 12), arch="mlp", hidden_dims=16)
    training = TrainConfig(augment="affine", descriptor="hog", batchsize=32)
    found, _ = select_k(model, training, images, graph)
    assert learned.called == is_learned
    assert set(found.limits.values()) == {0.15 if is_learned else module.LOW_CONDUCTANCE}


@pytest.mark.parametrize(
    ("images", "batch", "steps"),
    [(60, 32, 100), (200, 32, 250), (640, 32, 800), (60_000, 128, 1404)],
)
def test_few_images_take_fewer_steps(images: int, batch: int, steps: int) -> None:
    assert steps_to_find(images, TrainConfig(batchsize=batch)) == steps


def test_too_few_images_cannot_tell() -> None:
    images, graph = blobs(50, 2)
    with pytest.raises(InputError, match="50 images are too few to find a number of clusters"):
        select_k(ModelConfig(image_size=(12, 12)), TrainConfig(), images, graph)


def test_a_search_that_diverges_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEPS", 10)
    images, graph = blobs(100, 2)
    model = ModelConfig(image_size=(12, 12), arch="mlp", hidden_dims=8)
    training = TrainConfig(batchsize=64, augment="none", descriptor="hog", lr=1e30)
    with pytest.raises(InputError, match="the search for a number of clusters diverged"):
        select_k(model, training, images, graph)


@pytest.mark.draws
def test_the_model_has_as_many_components_and_the_run_a_curve(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    drawn: dict[str, Any],
) -> None:
    monkeypatch.setattr(module, "STEPS", 150)
    monkeypatch.setattr("mlx_gmvae.cli.train.evaluate", lambda run: None)
    np.savez(tmp_path / "blobs.npz", images=blobs(400, 3)[0])
    options = "--arch mlp --hidden_dims 32 --batchsize 64 --augment none --lr 3e-3 --epochs 1"
    command = f"--dataset {tmp_path}/blobs.npz --K auto --heads 2 {options} --outdir {tmp_path}/run"
    assert train.main(command.split()) == 0
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if "K = 3: of 3" in line or " steps" in line]
    assert lines[0] == "finding the number of clusters: 100 steps before the training"
    assert lines[1].startswith("100 steps: about ")
    assert [line.split()[0] for line in lines[2:11]] == [str(10 * n) for n in range(1, 10)]
    assert all(" of 100 steps | Left " in line for line in lines[2:11])
    assert lines[11].startswith("K = 3: of 3 clusters")
    assert load_model(tmp_path / "run/model.npz").model.config.K == 3
    header, *rows = (tmp_path / "run/select_k.csv").read_text().splitlines()
    assert header == "clusters,conductance,limit" and rows[0].startswith("2,") and len(rows) >= 5
    (axis,) = drawn["select_k.png"].axes
    values, fitted, limit, chosen = axis.lines
    assert list(values.get_xdata()) == [int(row.split(",")[0]) for row in rows]
    np.testing.assert_allclose(values.get_ydata(), [float(row.split(",")[1]) for row in rows])
    assert (np.diff(fitted.get_ydata()) >= 0).all()
    np.testing.assert_allclose(limit.get_ydata(), [float(row.split(",")[2]) for row in rows])
    assert set(limit.get_ydata()) == {module.LOW_CONDUCTANCE} and set(chosen.get_xdata()) == {3}
    width, height = drawn["select_k.png"].canvas.get_width_height()
    for text in (axis.title, axis.xaxis.label, axis.yaxis.label):
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--model vae", "K has no effect with model vae"),
        ("--posterior bayes", "give --K a number"),
        ("--pair_weight 0", "give --K a number"),
    ],
)
def test_models_without_parts_cannot_find_it(
    flags: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"--dataset digits --K auto --outdir {tmp_path}/run {flags}"
    assert train.main(command.split()) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
