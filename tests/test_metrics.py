"""Clustering scores against brute force, image scores against scikit-image."""

from itertools import permutations

from mlx_gmvae.evaluation import metrics

import numpy as np
import pytest
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
