"""Sub-clusters and their merge: affinities with known answers, and as the teacher of q(y|x)."""

import json
from pathlib import Path
from typing import Any

import train
from mlx_gmvae.clustering import merge as merge_module
from mlx_gmvae.clustering import sub_clusters as module
from mlx_gmvae.clustering.merge import (
    Merge,
    affinity,
    agglomerative,
    largest_conductance,
    merged_clusters,
    renumbered,
    spectral,
)
from mlx_gmvae.clustering.phases import Merged
from mlx_gmvae.clustering.sub_clusters import SubClusters, num_sub_clusters
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.models import GMVAE
from mlx_gmvae.training.api import new_trainer
from mlx_gmvae.training.earlier_states import from_0_2
from mlx_gmvae.training.schedule import distillation_weight

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

rng = np.random.default_rng(0)


def blocks(number_of_each: list[int], within: float, between: float) -> tuple[np.ndarray, ...]:
    """Affinity of sub-clusters of equal size, high within a class, and the class of each."""
    classes = np.repeat(np.arange(len(number_of_each)), number_of_each)
    noise = rng.uniform(0.8, 1.2, (len(classes), len(classes)))
    joint = np.where(classes[:, None] == classes, within, between) * (noise + noise.T) / 2
    np.fill_diagonal(joint, 1)
    return joint / joint.sum(), classes


def test_affinities_are_counted_pairs() -> None:
    """One-hot sub-clusters: the share of all (image, neighbour) pairs, both ways round."""
    part, graph = rng.integers(0, 4, 50), rng.integers(0, 50, (50, 3))
    expected = np.zeros((4, 4))
    for image in range(50):
        for neighbour in graph[image]:
            expected[part[image], part[neighbour]] += 1
            expected[part[neighbour], part[image]] += 1
    found = affinity(np.eye(4)[part], graph)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-6)
    alone = affinity(np.eye(4)[part], np.empty((50, 0), np.int32))
    np.testing.assert_allclose(alone, np.diag(np.bincount(part) / 50), atol=1e-6)


@pytest.mark.parametrize("join", [spectral, agglomerative, merged_clusters])
def test_blocks_of_equal_size_are_found(join) -> None:  # type: ignore[no-untyped-def]
    joint, classes = blocks([5, 5, 5, 5], 0.2, 0.01)
    assert adjusted_rand_score(classes, join(joint, 4)) == 1


def test_classes_of_unequal_size_are_neither_cut_nor_joined() -> None:
    """A chain of twelve sub-clusters, each like the next four only, beside three small classes."""
    classes = np.repeat(np.arange(4), [12, 2, 1, 1])
    steps = np.abs(np.subtract.outer(np.arange(16), np.arange(16)))
    joint = np.where((classes[:, None] == classes) & (steps <= 4), 0.3, 0.002)
    np.fill_diagonal(joint, 1)
    joint[13:15, 13:15] += np.array([[0, 0.05], [0.05, 0]])  # small classes that are a bit alike
    joint /= joint.sum()
    assert adjusted_rand_score(classes, agglomerative(joint, 4)) == 1
    assert adjusted_rand_score(classes, spectral(joint, 4)) < 1
    assert adjusted_rand_score(classes, merged_clusters(joint, 4)) == 1


def test_conductance_is_the_share_of_the_smaller_ones_neighbours() -> None:
    part, graph = rng.integers(0, 6, 200), rng.integers(0, 200, (200, 5))
    clusters = np.array([0, 0, 0, 1, 1, 2])
    joint = affinity(np.eye(6)[part], graph)
    found = largest_conductance(joint, clusters)
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
    np.testing.assert_array_equal(renumbered(clusters, used, part, 3), [1, 1, 2, 2, 0, 0])


@pytest.mark.parametrize(
    ("clusters", "images", "expected"), [(10, 60_000, 50), (10, 200, 20), (10, 100, 0), (1, 99, 0)]
)
def test_sub_clusters_are_more_than_clusters_and_hold_ten_images(
    clusters: int, images: int, expected: int
) -> None:
    assert num_sub_clusters(clusters, 5, images) == expected


def test_a_cluster_is_as_likely_as_its_sub_clusters() -> None:
    sub_clusters = SubClusters(nn.Linear(7, 2), 5)
    groups = np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1]]
    sub_clusters.take(Merge(groups, np.array([0.4, 0.6]), np.array(0.5), np.array(0.9)))
    features = mx.random.normal((3, 7))
    q = np.array(mx.softmax(sub_clusters(features)[:, sub_clusters.chosen.item()], axis=-1))
    expected = np.stack([q[:, [0, 3]].sum(1), q[:, [1, 2, 4]].sum(1)], axis=1)
    np.testing.assert_allclose(sub_clusters.probabilities(features), expected, rtol=1e-5)


@pytest.mark.parametrize(("different", "outcome"), [(0.5, "agreed"), (-1, "distil")])
def test_in_time_the_sub_clusters_are_merged(
    different: float, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two kinds of images, one nine times as frequent: equal sizes would cut it."""
    is_rare = np.arange(200) % 10 == 0
    images = np.where(is_rare, 200, 40)[:, None, None, None] + rng.integers(0, 20, (200, 8, 8, 1))
    when: list[int] = []
    merge_sub_clusters = module.merge_sub_clusters

    def noted(*arguments):  # type: ignore[no-untyped-def]
        when.append(trainer.epoch)
        return merge_sub_clusters(*arguments)

    monkeypatch.setattr("mlx_gmvae.training.trainer.merge_sub_clusters", noted)
    monkeypatch.setattr(merge_module, "DIFFERENT", different)
    mx.random.seed(0)
    model = GMVAE(ModelConfig(image_size=(8, 8), K=2, arch="mlp", hidden_dims=32))
    trainer = new_trainer(
        model, images.astype(np.uint8), TrainConfig(epochs=16, batchsize=40, heads=5, lr=3e-3)
    )
    assert trainer.phase == "overcluster"
    for _ in trainer.run():
        pass
    assert when == [7]
    model.eval()
    clusters = np.array(model.responsibilities(mx.array(images / 255))).argmax(axis=1)
    assert adjusted_rand_score(is_rare, clusters) == 1
    assert trainer.objective.sub_clusters is not None and trainer.merged is not None
    assert trainer.merged.outcome == outcome
    assert trainer.phase == ("refine" if outcome == "agreed" else "distil")
    assert set(trainer.compiled) == {"overcluster", trainer.phase}
    np.testing.assert_allclose(trainer.objective.sub_clusters.sizes.sum(), 1, rtol=1e-5)
    assert len(trainer.history) == 16


@pytest.mark.usefixtures("few_digits")
def test_what_became_of_the_sub_clusters_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--dataset digits --arch mlp --hidden_dims 32 --K 4 --epochs 5 --batchsize 48"
    options += " --save_every 9 --heads 2"
    assert train.main([*options.split(), "--outdir", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = (number for number, line in enumerate(lines) if "20 sub-clusters merged" in line)
    assert lines[line + 1].startswith("Epoch    3")
    shares = [int(word[:-1]) for word in lines[line].split() if word.endswith("%")]
    assert len(shares) == 4 and shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=5)
    (decided,) = (line for line in lines if line.startswith("decided by the images: augment"))
    made_with = json.loads((tmp_path / "run/metrics.json").read_text())["made_with"]
    assert made_with["decided"]["augment"] in decided
    assert (
        "strokes: " in decided
        and "% of pixels are near their image's darkest or lightest, strokes need 50%" in decided
    )


def test_the_best_copy_is_merged_by_however_little(monkeypatch: pytest.MonkeyPatch) -> None:
    model = GMVAE(ModelConfig(image_size=(8, 8), K=2, arch="mlp", hidden_dims=16))
    sub_clusters = SubClusters(model.classifier.out, 4)
    sub_clusters.running_loss = mx.array([-1.0, -1.001, -0.5])
    model.eval()
    images = rng.integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    of_all = module.affinities(model, sub_clusters, images, np.arange(30)[:, None])
    features = model.classifier.features(mx.array(images / 255))
    for copy, found in enumerate(of_all):
        q = np.array(mx.softmax(sub_clusters(features)[:, copy], axis=-1))
        np.testing.assert_allclose(found, q.T @ q / 30, atol=1e-5)

    seen: list[np.ndarray] = []

    def noted(affinity: np.ndarray, num_clusters: int) -> np.ndarray:
        seen.append(affinity)
        return merged_clusters(affinity, num_clusters)

    monkeypatch.setattr(module, "merged_clusters", noted)
    module.merge_sub_clusters(model, sub_clusters, images, np.arange(30)[:, None])
    assert sub_clusters.chosen.item() == 1
    np.testing.assert_allclose(seen[0], of_all[1], atol=1e-5)


def small_trainer(epochs: int, *neighbours: Any) -> Any:
    images = np.random.default_rng(0).integers(0, 256, (120, 8, 8, 1), dtype=np.uint8)
    model = GMVAE(ModelConfig(image_size=(8, 8), K=2, arch="mlp", hidden_dims=16))
    return new_trainer(
        model, images, TrainConfig(epochs=epochs, batchsize=40, heads=4), *neighbours
    )


def merge_of(trainer: Any, agreement: float) -> Merge:
    num = len(trainer.objective.sub_clusters.groups)
    groups = np.eye(2, dtype=np.float32)[[0, 1] * (num // 2)]
    return Merge(groups, np.array([0.5, 0.5]), np.array(agreement), np.array(0.9))


def test_the_head_that_the_merge_confirms_stays_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = small_trainer(16)
    heads, chosen = trainer.objective.heads, trainer.objective.heads.chosen.item()
    found = merge_of(trainer, 0.99)
    monkeypatch.setattr("mlx_gmvae.training.trainer.merge_sub_clusters", lambda *_: found)
    trainer._merge()
    losses = np.zeros(4)
    losses[(chosen + 1) % 4] = -5.0
    for _ in range(500):
        heads.record(mx.array(losses))
    assert heads.chosen.item() == chosen
    assert trainer.phase == "refine"


def test_the_layer_that_is_taught_goes_on_with_the_moments_of_the_chosen_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As they would be of its own loss: while heads compete, each has a share of the mean."""
    trainer = small_trainer(10)
    epochs = trainer.run()
    for _ in range(4):
        next(epochs)
    heads, optimizer = trainer.objective.heads, trainer.optimizer
    out = optimizer.state["model"]["classifier"]["out"]
    assert float(mx.abs(out["weight"]["v"]).max()) == 0
    found = merge_of(trainer, 0.5)
    monkeypatch.setattr("mlx_gmvae.training.trainer.merge_sub_clusters", lambda *_: found)
    trainer._merge()
    assert trainer.phase == "distil"
    of_heads = optimizer.state["heads"]
    for name in ("weight", "bias"):
        for moment, factor in (("m", 4), ("v", 16)):
            wanted = factor * of_heads[name][moment][heads.chosen]
            np.testing.assert_allclose(out[name][moment], wanted, rtol=1e-6)
            assert float(mx.abs(wanted).max()) > 0
    arrays, progress = trainer.state()
    arrays["trained.sub_clusters.chosen"] = mx.array(-1)
    with pytest.raises(ValueError, match="there is no head -1"):
        trainer.restore(arrays, progress)


@pytest.mark.parametrize(("clusters", "agreement"), [(10, 0.94), (30, 0.98), (3, 0.8)])
def test_they_teach_where_half_a_cluster_differs(clusters: int, agreement: float) -> None:
    groups = np.eye(clusters, dtype=np.float32).repeat(2, axis=0)
    sizes = np.full(clusters, 1 / clusters)
    for share, together, outcome in (
        (agreement, 0.9, "distil"),
        (agreement, 0.7, "doubted"),
        (agreement + 0.04, 0.7, "agreed"),
    ):
        merge = Merge(groups, sizes, np.array(min(share, 1)), np.array(together))
        assert merge.outcome == outcome


@pytest.fixture(scope="module")
def trained() -> Any:
    """A trainer after its 10 epochs."""
    trainer = small_trainer(10)
    for _ in trainer.run():
        pass
    return trainer


def test_they_teach_once_even_if_a_run_is_resumed_for_more_epochs(trained: Any) -> None:
    """What they teach was true of the features of that time."""
    assert distillation_weight(None, 9) == 1
    assert trained.merged is not None and trained.merged.window == (4, 6)
    arrays, progress = trained.state()
    longer = small_trainer(40, trained.neighbours)
    longer.restore(arrays, progress)
    assert longer.merged == trained.merged and longer.phase == trained.phase
    for done, weight in ((3, 1), (4, 1), (4.5, 0.75), (6, 0), (10, 0)):
        assert distillation_weight(longer.merged, done) == weight


def test_a_state_of_version_0_2_is_restored(trained: Any) -> None:
    """There the phase was kept as arrays, and sub-clusters were called parts."""
    arrays, progress = trained.state()
    earlier = {n.replace(".sub_clusters.", ".parts."): value for n, value in arrays.items()}
    earlier["trained.parts.stage"] = mx.array(2)
    earlier["trained.parts.lesson"] = mx.array([4.0, 6.0])
    before = {k: v for k, v in progress.items() if k not in ("merged", "has_codebook")}
    other = small_trainer(10, trained.neighbours)
    other.restore(earlier, before | {"has_patches": False})
    assert other.merged == Merged("distil", (4.0, 6.0)) and other.phase == "distil"
    found, _ = other.state()
    for name, value in arrays.items():
        np.testing.assert_array_equal(np.array(found[name]), np.array(value), err_msg=name)
    same, _ = from_0_2(arrays, progress)
    assert same.keys() == arrays.keys()
