"""Clustering scores against brute force, image scores against scikit-image."""

from itertools import combinations, permutations

from mlx_gmvae.data.splits import Dataset
from mlx_gmvae.evaluation import metrics
from mlx_gmvae.report.assignments import Assignments, scores_title

import numpy as np
import pytest
from scipy import stats
from skimage.metrics import mean_squared_error, structural_similarity

rng = np.random.default_rng(0)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_matching_accuracy_is_the_best_permutation(classes: int) -> None:
    labels, clusters = rng.integers(0, classes, (2, 60))
    best = max(
        np.mean(np.array(mapping)[clusters] == labels) for mapping in permutations(range(classes))
    )
    assert metrics.matching_accuracy(labels, clusters) == pytest.approx(best)


def test_matching_accuracy_with_more_clusters_than_classes() -> None:
    labels, clusters = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 2, 1, 1, 3])
    assert metrics.matching_accuracy(labels, clusters) == pytest.approx(4 / 6)
    assert metrics.majority_accuracy(labels, clusters) == 1


def test_exemplar_accuracy_goes_by_the_most_confident_image_of_each_cluster() -> None:
    labels = np.array([0, 0, 1, 1, 1, 2])
    responsibilities = np.array(
        [[0.9, 0.1, 0], [0.8, 0.2, 0], [0.4, 0.6, 0], [0.3, 0.7, 0], [0.6, 0.4, 0], [0.05, 0.95, 0]]
    )
    # Cluster 0 is of class 0, cluster 1 of class 2 (where the majority is not), 2 is empty.
    assert metrics.exemplar_accuracy(labels, responsibilities) == pytest.approx(3 / 6)
    clusters = responsibilities.argmax(axis=1)
    assert metrics.majority_accuracy(labels, clusters) == pytest.approx(4 / 6)
    assert metrics.exemplar_accuracy(labels, np.eye(3)[labels]) == 1


def test_scores_of_a_relabelled_clustering_are_perfect() -> None:
    labels = rng.integers(0, 4, 50)
    scores = metrics.clustering_scores(labels, (labels + 1) % 4)
    assert set(scores) == {"accuracy", "majority_accuracy", "nmi", "ari"}
    assert all(score == pytest.approx(1) for score in scores.values())


def test_ari_and_nmi_are_counted_naively() -> None:
    """ARI from all pairs of images, NMI from all pairs of a class and a cluster."""
    labels = rng.integers(0, 3, 40)
    clusters = np.where(rng.random(40) < 0.6, labels, rng.integers(0, 5, 40))
    pairs = list(combinations(range(40), 2))
    both = sum(labels[i] == labels[j] and clusters[i] == clusters[j] for i, j in pairs)
    in_class = sum(labels[i] == labels[j] for i, j in pairs)
    in_cluster = sum(clusters[i] == clusters[j] for i, j in pairs)
    by_chance = in_class * in_cluster / len(pairs)
    scores = metrics.clustering_scores(labels, clusters)
    ari = (both - by_chance) / ((in_class + in_cluster) / 2 - by_chance)
    assert scores["ari"] == pytest.approx(ari)
    joint = np.array(
        [[np.mean((labels == a) & (clusters == b)) for b in range(5)] for a in range(3)]
    )
    apart = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    mutual = stats.entropy(joint.ravel(), apart.ravel())
    entropies = stats.entropy(joint.sum(axis=1)) + stats.entropy(joint.sum(axis=0))
    assert scores["nmi"] == pytest.approx(mutual / (entropies / 2))
    assert 0.1 < scores["ari"] < 0.9  # neither chance nor perfect


def test_scores_of_named_classes_are_counted_naively() -> None:
    labels = np.array(["a", "a", "a", "b", "b", "c"])
    predicted = np.array(["a", "a", "b", "b", "a", "b"])  # nothing is ever named c
    scores = metrics.classification_scores(labels, predicted)
    precision, recall = [2 / 3, 1 / 3, 0], [2 / 3, 1 / 2, 0]
    f1 = [2 / 3, 2 / (3 + 2), 0]
    assert scores == pytest.approx({
        "accuracy": 3 / 6, "precision": np.mean(precision), "recall": np.mean(recall),
        "f1_macro": np.mean(f1), "f1_micro": 3 / 6,
    })  # fmt: skip
    counts, rows = metrics.confusion_of(labels, predicted, ["a", "b"])
    assert rows == ["a", "b", "c"] and counts.tolist() == [[2, 1], [1, 1], [0, 1]]


def test_calibration_error_is_the_gap_of_each_bin() -> None:
    """Two bins by hand: 0.6 sure and right three times of four, 0.9 sure and always right."""
    sure = np.array([0.6, 0.6, 0.6, 0.6, 0.9, 0.9])
    clusters, labels = np.array([0, 0, 1, 1, 0, 1]), np.array([1, 1, 0, 1, 1, 0])
    responsibilities = np.stack([1 - sure, 1 - sure], axis=1)
    responsibilities[np.arange(6), clusters] = sure
    right = np.array([True, True, True, False, True, True])  # cluster 0 is class 1, 1 is 0
    expected = 4 / 6 * abs(right[:4].mean() - 0.6) + 2 / 6 * abs(1 - 0.9)
    assert metrics.calibration_error(labels, responsibilities) == pytest.approx(expected)
    assert metrics.calibration_error(labels, np.eye(2)[1 - labels]) == 0


@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 13, 3), (5, 6, 1), (7, 7, 2)])
def test_ssim_and_mse_are_scikit_images(shape: tuple[int, int, int]) -> None:
    images = rng.random((4, *shape))
    others = np.clip(images + rng.normal(scale=0.2, size=images.shape), 0, 1)
    window = min(7, min(shape[:2]) - 1 + min(shape[:2]) % 2)
    expected = [
        structural_similarity(a, b, data_range=1, channel_axis=-1, win_size=window)
        for a, b in zip(images, others, strict=True)
    ]
    np.testing.assert_allclose(metrics.ssim(images, others), expected, rtol=1e-6)
    expected = [mean_squared_error(a, b) for a, b in zip(images, others, strict=True)]
    np.testing.assert_allclose(metrics.mse(images, others), expected)


def test_ssim_of_an_image_with_itself_is_one() -> None:
    images = rng.random((2, 1, 3, 1))
    np.testing.assert_allclose(metrics.ssim(images, images), 1)


def test_the_best_possible_accuracy_is_said_where_there_are_more_classes_than_clusters() -> None:
    labels = np.repeat([0, 2, 3], [5, 3, 2])
    dataset = Dataset("d", np.zeros((10, 2, 2, 1), np.uint8), labels, np.arange(10), tuple("abcd"))
    clusters = (labels > 0).astype(int)
    scores = Assignments(dataset, np.eye(2)[clusters]).scores()
    assert scores["classes"] == 3
    assert scores["clustering"]["accuracy"] == 0.8
    assert scores["clustering"]["best_possible_accuracy"] == 0.8
    assert list(scores["clustering"])[:2] == ["accuracy", "best_possible_accuracy"]
    assert scores_title("test", scores) == "test, 2 clusters of 3 classes"
    for num in (3, 4):
        scores = Assignments(dataset, np.eye(num)[clusters]).scores()
        assert "best_possible_accuracy" not in scores["clustering"]
