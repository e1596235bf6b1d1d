"""Sets of images that nobody would choose: few, copies of each other, one unlike all the rest."""

from typing import Any

from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.data.splits import Splits
from mlx_gmvae.models import GMVAE
from mlx_gmvae.training.api import new_trainer

import mlx.core as mx
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

rng = np.random.default_rng(0)


def clusters_of(images: np.ndarray, num_clusters: int, epochs: int, **options: Any) -> np.ndarray:
    """The clusters of uint8 images (N, 8, 8, 1) after training on them; the loss stays finite."""
    mx.random.seed(0)
    model = GMVAE(ModelConfig(image_size=(8, 8), K=num_clusters, arch="mlp", hidden_dims=32))
    config = TrainConfig(epochs=epochs, heads=3, **options)
    for record in (trainer := new_trainer(model, images, config)).run():
        assert np.isfinite(record["loss"])
    assert trainer.is_done
    model.eval()
    q = np.array(model.responsibilities(mx.array(images / 255)))
    np.testing.assert_allclose(q.sum(axis=1), 1, atol=1e-4)
    return q.argmax(axis=1)


@pytest.fixture(scope="module")
def noughts_and_ones(digits: Splits) -> tuple[np.ndarray, np.ndarray]:
    """120 images of two digits."""
    labels = np.asarray(digits.train.labels)
    rows = np.concatenate([np.flatnonzero(labels == digit)[:60] for digit in (0, 1)])
    return np.asarray(digits.train.images)[rows], labels[rows]


@pytest.mark.parametrize(("images", "clusters"), [(2, 2), (4, 3), (12, 10), (12, 50), (60, 59)])
def test_few_images_and_many_components(images: int, clusters: int, digits: Splits) -> None:
    found = clusters_of(np.asarray(digits.train.images)[:images], clusters, 3, batchsize=32)
    assert len(found) == images


def test_images_that_are_all_alike(digits: Splits) -> None:
    found = clusters_of(np.repeat(np.asarray(digits.train.images)[:1], 50, axis=0), 5, 3)
    assert len(set(found)) == 1


def test_copies_that_are_each_others_only_neighbours(
    noughts_and_ones: tuple[np.ndarray, np.ndarray],
) -> None:
    images, labels = (np.repeat(array[::6], 12, axis=0) for array in noughts_and_ones)
    noisy = np.clip(images.astype(int) + rng.integers(-2, 3, images.shape), 0, 255)
    found = clusters_of(noisy.astype(np.uint8), 2, 20, batchsize=64)
    assert adjusted_rand_score(labels, found) > 0.9


def test_one_odd_image_takes_no_cluster_for_itself(
    noughts_and_ones: tuple[np.ndarray, np.ndarray],
) -> None:
    images, labels = noughts_and_ones
    odd = rng.integers(200, 256, (1, 8, 8, 1), dtype=np.uint8)
    found = clusters_of(np.concatenate([images, odd]), 2, 25, batchsize=32)
    assert adjusted_rand_score(labels, found[:-1]) > 0.9
