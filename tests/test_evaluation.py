"""A trained model over a whole set: what is measured repeats itself and leaves no trace."""

from mlx_gmvae.config import ModelConfig
from mlx_gmvae.device.randomness import random_key
from mlx_gmvae.evaluation.scores import generative_scores
from mlx_gmvae.models import build_model

import mlx.core as mx
import numpy as np
import pytest
from scipy import special
from skimage.metrics import mean_squared_error, structural_similarity


@pytest.mark.parametrize("kind", ["vae", "gmvae"])
def test_measuring_leaves_the_random_state_as_it_was(kind: str, small_images: np.ndarray) -> None:
    config = ModelConfig(model=kind, arch="mlp", image_size=(9, 6), channels=3, hidden_dims=8)
    model = build_model(config)
    model.eval()
    before = np.array(random_key())
    scores = generative_scores(model, small_images)
    np.testing.assert_array_equal(np.array(random_key()), before)
    assert generative_scores(model, small_images) == scores
    terms = {"reconstruction", "kl_z"} | ({"kl_w", "kl_y"} if kind == "gmvae" else set())
    assert scores["elbo"] == pytest.approx(-sum(scores[name] for name in terms))


def test_scores_of_a_vae_are_scipys_and_scikit_images(small_images: np.ndarray) -> None:
    config = ModelConfig(
        model="vae", arch="mlp", image_size=(9, 6), channels=3, hidden_dims=8, latent_dims=2
    )
    model = build_model(config)
    model.eval()
    scores = generative_scores(model, small_images)
    x = small_images / 255
    q = model.encode(mx.array(x))
    mean, var = np.array(q.mean, np.float64), np.exp(np.array(q.log_var, np.float64))
    kl = 0.5 * (var + mean**2 - 1 - np.log(var)).sum(axis=1).mean()
    assert scores["kl_z"] == pytest.approx(kl, rel=1e-4)
    # The reconstruction is an average over noise: here over a hundred draws of z.
    rng = np.random.default_rng(0)
    z = mean + np.sqrt(var) * rng.normal(size=(100, *mean.shape))
    p = np.array(model.image(mx.array(z.reshape(-1, 2))), np.float64).reshape(100, *x.shape)
    cross_entropy = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=(2, 3, 4)).mean()
    assert scores["reconstruction"] == pytest.approx(cross_entropy, rel=0.01)
    assert scores["bits_per_dim"] == pytest.approx(
        (cross_entropy + kl) / np.log(2) / (9 * 6 * 3), rel=0.01
    )
    # log p(x) = log E_{z ~ p(z)} p(x|z), by brute force over the prior.
    prior = np.array(model.image(mx.array(rng.normal(size=(20_000, 2)))), np.float64)
    p = np.log(prior).reshape(20_000, -1) @ x.reshape(64, -1).T
    p += np.log1p(-prior).reshape(20_000, -1) @ (1 - x).reshape(64, -1).T
    evidence = (special.logsumexp(p, axis=0) - np.log(20_000)).mean()
    assert scores["importance_bound"] == pytest.approx(evidence, abs=0.05)
    assert scores["elbo"] < scores["importance_bound"]
    shown = np.array(model.reconstruct(mx.array(x)))
    errors = [mean_squared_error(a, b) for a, b in zip(x, shown, strict=True)]
    assert scores["mse"] == pytest.approx(np.mean(errors), rel=1e-4)
    similar = [
        structural_similarity(a, b, data_range=1, channel_axis=-1, win_size=5)
        for a, b in zip(x, shown.astype(np.float64), strict=True)
    ]
    assert scores["ssim"] == pytest.approx(np.mean(similar), abs=1e-4)
