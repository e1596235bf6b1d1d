"""Clusters from the features of a frozen encoder: the loss, the vote, and when nothing is there."""

from pathlib import Path

import mlx_gmvae as mg
from mlx_gmvae.clustering import frozen
from mlx_gmvae.clustering.frozen import Voters, head_losses, train_on_features, vote_order
from mlx_gmvae.clustering.neighbours import nearest, smoothed
from mlx_gmvae.config import ModelConfig
from mlx_gmvae.data.splits import Splits
from mlx_gmvae.evaluation.metrics import matching_accuracy
from mlx_gmvae.models.networks import FeatureClassifier

import mlx.core as mx
import numpy as np
import pytest

rng = np.random.default_rng(0)
ENCODER = Path(__file__).parent / "encoders" / "dinov2"


def classifier(dims: int, num_clusters: int) -> FeatureClassifier:
    return FeatureClassifier(
        ModelConfig(classifier="features", feature_dims=dims, K=num_clusters, image_size=(8, 8))
    )


def test_pointwise_mutual_information_is_its_formula() -> None:
    voters = Voters(classifier(6, 3), 5)
    assert voters.mean.shape == (5, 3)
    x = mx.random.normal((10, 6))
    log_q = np.array(voters(x))
    np.testing.assert_allclose(np.exp(log_q).sum(axis=-1), 1, rtol=1e-5)
    mean = 0.9 / 3 + 0.1 * np.exp(log_q).mean(axis=0)
    found = voters.information_loss(x).item()
    products = np.exp(0.6 * (log_q[:5] + log_q[5:])) / mean
    assert found == pytest.approx(-np.log(products.sum(axis=-1)).mean(), rel=1e-5)
    np.testing.assert_allclose(voters.mean, mean, rtol=1e-5)


def test_the_loss_of_a_head_tells_which_is_better() -> None:
    clusters = rng.integers(0, 3, 300)
    near = np.stack([rng.choice(np.flatnonzero(clusters == c), 12) for c in clusters])
    good = 0.9 * np.eye(3)[clusters] + 0.1 / 3
    cut = 0.9 * np.eye(3)[rng.integers(0, 3, 300)] + 0.1 / 3
    losses = head_losses(np.stack([cut, good, np.full((300, 3), 1 / 3)], axis=1), near)
    assert losses.argmin() == 1


def test_heads_agree_on_numbers_before_they_vote() -> None:
    clusters = rng.integers(0, 4, 200)
    numbers = [rng.permutation(4) for _ in range(6)]
    q = np.stack([np.eye(4)[number[clusters]] for number in numbers], axis=1)
    order = vote_order(0.9 * q + 0.025)
    voted = np.take_along_axis(q, order[None], axis=-1)
    assert (voted == voted[:, :1]).all()


def test_blobs_of_unequal_size_are_found_whatever_the_weights_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frozen, "STEPS", 120)
    monkeypatch.setattr(frozen, "VOTE_STEPS", 60)
    sizes = [100, 75, 60, 50]
    labels = np.repeat(np.arange(4), sizes)
    centres = 3 * np.random.default_rng(1).normal(size=(4, 16))
    features = (centres[labels] + rng.normal(size=(len(labels), 16))).astype(np.float32)
    graph = nearest(smoothed(features), 25)
    found = []
    for _ in range(2):
        network = classifier(16, 4)
        before = np.array(mx.random.state[0])  # type: ignore[index]
        assert train_on_features(network, features, graph, 8, seed=0)
        np.testing.assert_array_equal(np.array(mx.random.state[0]), before)  # type: ignore[index]
        found.append(np.array(network(mx.array(features))))
    np.testing.assert_array_equal(found[0], found[1])
    assert matching_accuracy(labels, found[0].argmax(axis=1)) > 0.97
    assert not train_on_features(network, features, graph, 8, 0, should_stop=lambda: True)


def test_smoothing_brings_neighbours_of_one_class_together() -> None:
    labels = rng.integers(0, 5, 600)
    centres = np.random.default_rng(2).normal(size=(5, 24))
    features = (centres[labels] + 1.6 * rng.normal(size=(600, 24))).astype(np.float32)
    plain = features - features.mean(axis=0)
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    shares = [
        (labels[nearest(points, 25)] == labels[:, None]).mean()
        for points in (plain, smoothed(features))
    ]
    assert shares[1] > shares[0] + 0.03
    np.testing.assert_allclose(np.linalg.norm(smoothed(features), axis=1), 1, rtol=1e-5)


def test_an_estimator_clusters_by_an_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(frozen, "STEPS", 60)
    monkeypatch.setattr(frozen, "VOTE_STEPS", 40)
    images = np.repeat([[[[230, 30, 30]]], [[[20, 40, 220]]]], 40, axis=0).repeat(24, 1)
    images = (images.repeat(24, 2) + rng.integers(-20, 20, (80, 24, 24, 3))).clip(0, 255)
    images = images.astype(np.uint8)
    clusterer = mg.GMVAEClusterer(
        2, encoder=str(ENCODER), max_iter=1, latent_dims=2, random_state=0,
        model_options={"arch": "mlp", "hidden_dims": 16},
    ).fit(images)  # fmt: skip
    assert matching_accuracy(np.repeat([0, 1], 40), clusterer.labels_) == 1
    assert clusterer.model_.config.classifier == "features"
    np.testing.assert_array_equal(clusterer.predict(images), clusterer.labels_)
    with pytest.raises(ValueError, match="encoder has no effect on a table"):
        mg.GMVAEClusterer(2, encoder=str(ENCODER)).fit(rng.normal(size=(50, 3)))


def test_a_loss_of_a_phase_that_never_comes_is_refused(digits: Splits) -> None:
    model = mg.build_model(image_size=(8, 8), K=3, arch="mlp", hidden_dims=8)
    images = digits.train.images[:200]
    for losses, message in (
        ({"pairs": print}, "phase is 'pairs'; choose one of overcluster, distil, refine"),
        ({"refine": 3}, "the loss of phase refine is 3; give a function"),
    ):
        with pytest.raises(mg.InputError, match=message):
            mg.train(model, images, epochs=1, losses=losses, verbose=False)  # type: ignore[arg-type]
