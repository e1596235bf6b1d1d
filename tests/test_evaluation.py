"""A trained model over a whole set: what is measured repeats itself and leaves no trace."""

from pathlib import Path
from typing import Any

import train
from mlx_gmvae.cli import run_callbacks
from mlx_gmvae.config import ModelConfig
from mlx_gmvae.device.randomness import random_key, random_rows
from mlx_gmvae.evaluation.scores import anomaly_scores, component_gaussians, generative_scores
from mlx_gmvae.models import LatentVariableModel, MixtureModel, build_model
from mlx_gmvae.models.distributions import Gaussian
from mlx_gmvae.report.model_summary import reconstructions_block
from mlx_gmvae.runs.checkpoint import load_model, save_model

import mlx.core as mx
import numpy as np
import pytest
from scipy import special, stats
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


def test_components_have_the_covariances_of_their_draws() -> None:
    model = build_model(
        ModelConfig(model="vade", arch="mlp", image_size=(8, 8), hidden_dims=8, latent_dims=2, K=2)
    )
    assert isinstance(model, MixtureModel)
    means, variances = np.array([[0.0, 5.0], [-3.0, 1.0]]), np.array([[4.0, 0.25], [0.09, 9.0]])
    model.mixture.set(np.array([0.9, 0.1]), means, variances)
    before = np.array(random_key())
    found = component_gaussians(model)
    np.testing.assert_array_equal(np.array(random_key()), before)
    assert found.names == ["0", "1"]
    deviations = np.sqrt(variances)
    np.testing.assert_allclose((found.means - means) / deviations, 0, atol=0.1)
    for covariance, deviation in zip(found.covariances, deviations, strict=True):
        correlation = covariance / np.outer(deviation, deviation)
        np.testing.assert_allclose(correlation, np.eye(2), atol=0.15)


def dense_vae(side: int = 8, **options: object) -> LatentVariableModel:
    """An untrained VAE whose images depend much on its latents."""
    mx.random.seed(0)
    config = {"arch": "mlp", "image_size": (side, side), "channels": 1, "hidden_dims": 16}
    model = build_model(
        ModelConfig.from_dict({"model": "vae", "latent_dims": 2} | config | options)
    )
    model.load_weights([(name, 4 * value) for name, value in model.arrays().items()])
    model.eval()
    return model


def two_classes(num: int) -> np.ndarray:
    """`num` grey images, whose bounds are all alike, then as many of noise."""
    noise = np.random.default_rng(1).integers(0, 2, (num, 8, 8, 1)) * 255
    return np.concatenate([np.full_like(noise, 127), noise]).astype(np.uint8)


def test_figures_do_not_depend_on_the_order_of_the_images() -> None:
    """Sorted by class, the first 128 are of one class."""
    model, images = dense_vae(), two_classes(400)
    orders = [np.arange(800), *(random_rows(800, 800, seed) for seed in (1, 2, 3))]
    found = [generative_scores(model, images[order]) for order in orders]
    in_order, *gaps = (each["importance_bound"] - each["elbo"] for each in found)
    assert in_order == pytest.approx(np.mean(gaps), rel=0.2)


def test_pictures_of_sorted_images_are_not_of_one_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = two_classes(400)
    (picture,) = reconstructions_block(dense_vae(), images).pictures
    assert isinstance(picture.content, np.ndarray)
    is_grey = (picture.content[:10, ..., 0] == 127).all(axis=(1, 2))
    assert 0 < is_grey.sum() < 10

    pictured = []
    save_progress = run_callbacks.save_progress

    def noted(*args: Any, **names: Any) -> dict[str, np.ndarray]:
        pictured.append(args[2])
        return save_progress(*args, **names)

    monkeypatch.setattr(run_callbacks, "save_progress", noted)
    np.savez(tmp_path / "sorted.npz", images=images)
    options = "--model vae --arch mlp --hidden_dims 8 --latent_dims 2 --epochs 1"
    where = ["--dataset", f"{tmp_path}/sorted.npz", "--outdir", f"{tmp_path}/run"]
    assert train.main([*options.split(), *where]) == 0
    (originals,) = pictured
    is_grey = (originals == 127).all(axis=(1, 2, 3))
    assert 20 < is_grey.sum() < 44 and 0 < is_grey[:4].sum() < 4


def test_bits_per_dimension_are_those_of_a_lossless_code() -> None:
    """Of a Gaussian by its mass in each bin, of 256 values; none of a Bernoulli."""
    rng = np.random.default_rng(0)
    mean, x = rng.uniform(0.3, 0.7, (2, 5, 4, 4, 1))
    x = np.rint(255 * x) / 255
    edges = [stats.norm.cdf(x + half, mean, 0.1) for half in (0.5 / 255, -0.5 / 255)]
    expected = -np.log(edges[0] - edges[1]).sum(axis=(1, 2, 3))
    likelihood = Gaussian(0.1)
    log_prob = np.array(likelihood.log_prob(mx.array(mean), mx.array(x)))
    assert likelihood.log_bins is not None
    np.testing.assert_allclose(-log_prob + 16 * likelihood.log_bins, expected, rtol=1e-3)
    assert Gaussian(0.001).log_bins is None  # the bins' masses are no products any more

    images = two_classes(10)
    scores = generative_scores(dense_vae(likelihood="gaussian", sigma=0.2), images)
    nats = -scores["elbo"] / 64 + np.log(255)
    assert scores["bits_per_dim"] == pytest.approx(nats / np.log(2))
    logistic = generative_scores(dense_vae(likelihood="logistic"), images)
    assert logistic["bits_per_dim"] == pytest.approx(-logistic["elbo"] / 64 / np.log(2))
    assert "bits_per_dim" not in generative_scores(dense_vae(), images)


@pytest.mark.parametrize(("likelihood", "expected"), [("bernoulli", None), ("gaussian", 8.716)])
def test_bits_in_old_files_are_read_as_what_they_are(
    likelihood: str, expected: float | None, tmp_path: Path
) -> None:
    """Up to 0.2.0 they were the bound's, whatever the likelihood."""
    nats = -64 * 0.5
    old = {"elbo": nats, "bits_per_dim": -nats / np.log(2) / 64}
    save_model(tmp_path / "old.npz", dense_vae(likelihood=likelihood), metrics={"generative": old})
    found = load_model(tmp_path / "old.npz").metrics["generative"]
    assert found["elbo"] == nats
    assert found.get("bits_per_dim") == (expected and pytest.approx(expected, abs=0.001))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "logistic"])
def test_the_deviance_is_the_bound_without_what_images_cost_themselves(likelihood: str) -> None:
    model, images = dense_vae(likelihood=likelihood), two_classes(20)
    bound, deviance = (anomaly_scores(model, images, kind) for kind in ("importance", "deviance"))
    x = images.reshape(40, -1) / 255
    itself = {
        "bernoulli": -(special.entr(x) + special.entr(1 - x)).sum(axis=1),
        "gaussian": np.full(40, 64 * stats.norm.logpdf(0, 0, model.config.sigma)),
    }
    if likelihood in itself:
        np.testing.assert_allclose(deviance, bound + itself[likelihood], atol=0.01)
    # Grey is a Bernoulli's least likely image even where it is reconstructed without error.
    assert (deviance > 0).all() and np.isfinite(deviance).all()
