"""Clusters put together of parts: from links with known answers, and as the teacher of q(y|x)."""

from pathlib import Path
from typing import Any

import train
from mlx_gmvae.clustering import parts as module
from mlx_gmvae.clustering.parts import (
    Grouping,
    Parts,
    Stage,
    by_cut,
    by_leaks,
    largest_leak,
    links,
    num_parts,
    numbered_like,
    put_together,
)
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.models import GMVAE
from mlx_gmvae.training.schedule import teaching_weight
from mlx_gmvae.training.trainer import Trainer

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

rng = np.random.default_rng(0)


def blocks(parts_of_each: list[int], within: float, between: float) -> tuple[np.ndarray, ...]:
    """Links of parts of equal size, strong within a class, and the class of each part."""
    classes = np.repeat(np.arange(len(parts_of_each)), parts_of_each)
    noise = rng.uniform(0.8, 1.2, (len(classes), len(classes)))
    joint = np.where(classes[:, None] == classes, within, between) * (noise + noise.T) / 2
    np.fill_diagonal(joint, 1)
    return joint / joint.sum(), classes


def test_links_are_counted_pairs() -> None:
    """One-hot parts: the share of all (image, neighbour) pairs, both ways round."""
    part, graph = rng.integers(0, 4, 50), rng.integers(0, 50, (50, 3))
    expected = np.zeros((4, 4))
    for image in range(50):
        for neighbour in graph[image]:
            expected[part[image], part[neighbour]] += 1
            expected[part[neighbour], part[image]] += 1
    found = links(np.eye(4)[part], graph)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-6)
    alone = links(np.eye(4)[part], np.empty((50, 0), np.int32))
    np.testing.assert_allclose(alone, np.diag(np.bincount(part) / 50), atol=1e-6)


@pytest.mark.parametrize("join", [by_cut, by_leaks, put_together])
def test_blocks_of_equal_size_are_found(join) -> None:  # type: ignore[no-untyped-def]
    joint, classes = blocks([5, 5, 5, 5], 0.2, 0.01)
    assert adjusted_rand_score(classes, join(joint, 4)) == 1


def test_classes_of_unequal_size_are_neither_cut_nor_joined() -> None:
    """A chain of twelve parts, linked to the next four only, beside three small classes."""
    classes = np.repeat(np.arange(4), [12, 2, 1, 1])
    steps = np.abs(np.subtract.outer(np.arange(16), np.arange(16)))
    joint = np.where((classes[:, None] == classes) & (steps <= 4), 0.3, 0.002)
    np.fill_diagonal(joint, 1)
    joint[13:15, 13:15] += np.array([[0, 0.05], [0.05, 0]])  # small classes that are a bit alike
    joint /= joint.sum()
    assert adjusted_rand_score(classes, by_leaks(joint, 4)) == 1
    assert adjusted_rand_score(classes, by_cut(joint, 4)) < 1
    assert adjusted_rand_score(classes, put_together(joint, 4)) == 1


def test_a_leak_is_the_share_of_the_smaller_ones_neighbours() -> None:
    part, graph = rng.integers(0, 6, 200), rng.integers(0, 200, (200, 5))
    clusters = np.array([0, 0, 0, 1, 1, 2])
    joint = links(np.eye(6)[part], graph)
    found = largest_leak(joint, clusters)
    of_image = clusters[part]
    expected = 0.0
    for one in range(3):
        for other in range(3):
            ends = np.stack([np.repeat(of_image, 5), of_image[graph.ravel()]])
            both_ways = np.concatenate([ends, ends[::-1]], axis=1)
            sizes = [(both_ways[0] == each).sum() for each in (one, other)]
            shared = ((both_ways[0] == one) & (both_ways[1] == other)).sum()
            if one != other and sizes[0] <= sizes[1]:
                expected = max(expected, shared / sizes[0])
    assert found == pytest.approx(expected, rel=1e-5)


def test_clusters_take_the_numbers_of_those_in_use() -> None:
    part = rng.integers(0, 6, 300)
    clusters = np.array([2, 2, 0, 0, 1, 1])
    used = np.array([1, 1, 2, 2, 0, 0])[part]
    np.testing.assert_array_equal(numbered_like(clusters, used, part, 3), [1, 1, 2, 2, 0, 0])


@pytest.mark.parametrize(
    ("clusters", "images", "expected"), [(10, 60_000, 50), (10, 200, 20), (10, 100, 0), (1, 99, 0)]
)
def test_parts_are_more_than_clusters_and_hold_ten_images(
    clusters: int, images: int, expected: int
) -> None:
    assert num_parts(clusters, 5, images) == expected


def test_a_cluster_is_as_likely_as_its_parts() -> None:
    parts = Parts(nn.Linear(7, 2), 5)
    assert parts.stage_now == Stage.DIVIDING
    groups = np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1]]
    found = Grouping(groups, np.array([0.4, 0.6]), np.array(0.5), np.array(0.9))
    parts.put_together(found, (0, 1))
    assert parts.stage_now == Stage.TEACHING
    features = mx.random.normal((3, 7))
    q = np.array(mx.softmax(parts(features)[:, parts.chosen.item()], axis=-1))
    expected = np.stack([q[:, [0, 3]].sum(1), q[:, [1, 2, 4]].sum(1)], axis=1)
    np.testing.assert_allclose(parts.clusters(features), expected, rtol=1e-5)


@pytest.mark.parametrize(("different", "stage"), [(0.5, Stage.AGREED), (-1, Stage.TEACHING)])
def test_in_time_the_parts_become_the_teacher(
    different: float, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two kinds of images, one nine times as frequent: equal sizes would cut it."""
    is_rare = np.arange(400) % 10 == 0
    images = np.where(is_rare, 200, 40)[:, None, None, None] + rng.integers(0, 20, (400, 8, 8, 1))
    when: list[int] = []
    groups_of_parts = module.groups_of_parts

    def noted(model, parts, images, graph):  # type: ignore[no-untyped-def]
        when.append(trainer.epoch)
        return groups_of_parts(model, parts, images, graph)

    monkeypatch.setattr("mlx_gmvae.training.loss.groups_of_parts", noted)
    monkeypatch.setattr(module, "DIFFERENT", different)
    mx.random.seed(0)
    model = GMVAE(ModelConfig(image_size=(8, 8), K=2, arch="mlp", hidden_dims=32))
    trainer = new_trainer(model, images.astype(np.uint8), TrainConfig(epochs=16, batchsize=40))
    for _ in trainer.run():
        pass
    assert when == [7]
    model.eval()
    clusters = np.array(model.responsibilities(mx.array(images / 255))).argmax(axis=1)
    assert adjusted_rand_score(is_rare, clusters) == 1
    assert trainer.objective.parts is not None
    assert trainer.objective.parts.stage_now == stage
    assert trainer.objective.heads_compete == (stage == Stage.AGREED)
    np.testing.assert_allclose(trainer.objective.parts.sizes.sum(), 1, rtol=1e-5)
    assert len(trainer.history) == 16


def test_what_became_of_the_parts_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--dataset digits --arch mlp --hidden_dims 32 --K 10 --epochs 5 --save_every 9"
    assert train.main([*options.split(), "--outdir", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = (number for number, line in enumerate(lines) if "50 parts put together" in line)
    assert lines[line + 1].startswith("Epoch    3")
    shares = [int(word[:-1]) for word in lines[line].split() if word.endswith("%")]
    assert len(shares) == 10 and shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=5)


def test_the_best_copy_is_put_together_by_however_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = GMVAE(ModelConfig(image_size=(8, 8), K=2, arch="mlp", hidden_dims=16))
    parts = Parts(model.classifier.out, 4)
    parts.running_loss = mx.array([-1.0, -1.001, -0.5])
    model.eval()
    images = rng.integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    of_all = module.part_links(model, parts, images, np.arange(30)[:, None])
    features = model.classifier.features(mx.array(images / 255))
    for copy, found in enumerate(of_all):
        q = np.array(mx.softmax(parts(features)[:, copy], axis=-1))
        np.testing.assert_allclose(found, q.T @ q / 30, atol=1e-5)

    seen: list[np.ndarray] = []
    put_together = module.put_together

    def noted(links: np.ndarray, num_clusters: int) -> np.ndarray:
        seen.append(links)
        return put_together(links, num_clusters)

    monkeypatch.setattr(module, "put_together", noted)
    module.groups_of_parts(model, parts, images, np.arange(30)[:, None])
    assert parts.chosen.item() == 1
    np.testing.assert_allclose(seen[0], of_all[1], atol=1e-5)


def test_the_head_that_parts_confirm_stays_in_use() -> None:
    images = rng.integers(0, 256, (400, 8, 8, 1), dtype=np.uint8)
    model = GMVAE(ModelConfig(image_size=(8, 8), K=2, arch="mlp", hidden_dims=16))
    trainer = new_trainer(model, images, TrainConfig(epochs=16, batchsize=40))
    heads, parts = trainer.objective.heads, trainer.objective.parts
    assert heads is not None and parts is not None
    chosen = int(np.array(heads.chosen))
    groups = np.eye(2, dtype=np.float32)[[0, 1] * (len(parts.groups) // 2)]
    found = Grouping(groups, np.array([0.5, 0.5]), np.array(0.99), np.array(0.9))
    parts.put_together(found, (4, 6))
    trainer.objective.follow_parts()
    losses = np.zeros(20)
    losses[(chosen + 1) % 20] = -5.0
    for _ in range(500):
        heads.record(mx.array(losses))
    assert heads.chosen.item() == chosen
    assert trainer.objective.heads_compete


def test_the_layer_that_is_taught_goes_on_with_the_moments_of_the_best_head() -> None:
    images = rng.integers(0, 256, (400, 8, 8, 1), dtype=np.uint8)
    model = GMVAE(ModelConfig(image_size=(8, 8), K=2, arch="mlp", hidden_dims=16))
    trainer = new_trainer(model, images, TrainConfig(epochs=10, batchsize=40))
    epochs = trainer.run()
    for _ in range(4):
        next(epochs)
    heads, parts, moments = trainer.objective.heads, trainer.objective.parts, trainer.optimizer
    assert heads is not None and parts is not None
    out = moments.state["model"]["classifier"]["out"]  # type: ignore[index, call-overload]
    assert float(mx.abs(out["weight"]["v"]).max()) == 0
    groups = np.eye(2, dtype=np.float32)[[0, 1] * (len(parts.groups) // 2)]
    found = Grouping(groups, np.array([0.5, 0.5]), np.array(0.5), np.array(0.9))
    parts.put_together(found, (4, 6))
    trainer.objective.follow_parts()
    assert not trainer.objective.heads_compete
    trainer.trained.give_moments(moments)
    of_heads: Any = moments.state["heads"]
    for name in ("weight", "bias"):
        for moment in ("m", "v"):
            wanted = of_heads[name][moment][heads.chosen]
            np.testing.assert_array_equal(out[name][moment], wanted)
            assert float(mx.abs(wanted).max()) > 0
    arrays, progress = trainer.state()
    arrays["trained.parts.chosen"] = mx.array(-1)
    with pytest.raises(ValueError, match="there is no head -1"):
        trainer.restore(arrays, progress)


@pytest.mark.parametrize(("clusters", "agreement"), [(10, 0.94), (30, 0.98), (3, 0.8)])
def test_parts_teach_where_half_a_cluster_differs(clusters: int, agreement: float) -> None:
    parts = Parts(nn.Linear(4, clusters), 2 * clusters)
    groups = np.eye(clusters, dtype=np.float32).repeat(2, axis=0)
    sizes = np.full(clusters, 1 / clusters)
    for share, together, stage in (
        (agreement, 0.9, Stage.TEACHING),
        (agreement, 0.7, Stage.DOUBTED),
        (agreement + 0.04, 0.7, Stage.AGREED),
    ):
        found = Grouping(groups, sizes, np.array(min(share, 1)), np.array(together))
        parts.put_together(found, (4, 6))
        assert parts.stage_now == stage


def test_they_teach_once_even_if_a_run_is_resumed_for_more_epochs() -> None:
    """What they teach was true of the features of that time."""
    images = rng.integers(0, 256, (400, 8, 8, 1), dtype=np.uint8)
    model = GMVAE(ModelConfig(image_size=(8, 8), K=2, arch="mlp", hidden_dims=16))
    trainer = new_trainer(model, images, TrainConfig(epochs=10, batchsize=40))
    assert trainer.objective.lesson is None and teaching_weight(None, 9) == 1
    for _ in trainer.run():
        pass
    assert trainer.objective.lesson == (4, 6)
    arrays, progress = trainer.state()
    longer = new_trainer(
        GMVAE(model.config), images, TrainConfig(epochs=40, batchsize=40), trainer.neighbours
    )
    longer.restore(arrays, progress)
    assert longer.objective.lesson == (4, 6)
    for done, weight in ((3, 1), (4, 1), (4.5, 0.75), (6, 0), (10, 0)):
        assert teaching_weight(longer.objective.lesson, done) == weight
