"""Paths and planes in latent space."""

from mlx_gmvae.config import ModelConfig
from mlx_gmvae.errors import InputError
from mlx_gmvae.evaluation.traversal import interpolation, manifold
from mlx_gmvae.models import LatentVariableModel, MixtureModel, build_model
from mlx_gmvae.models.vade import VaDE

import mlx.core as mx
import numpy as np
import pytest
from scipy import optimize, stats


def make(model: str, latent_dims: int = 2, K: int = 10) -> LatentVariableModel:
    mx.random.seed(0)
    config = ModelConfig(
        model=model, arch="mlp", hidden_dims=16, image_size=(8, 8), latent_dims=latent_dims, K=K
    )
    return build_model(config)


def test_a_path_between_components_ends_at_their_centres() -> None:
    model = make("gmvae")
    assert isinstance(model, MixtureModel)
    images = interpolation(model, 3, 7, 5)
    ends = model.image(model.component_latents()[mx.array([3, 7])])
    np.testing.assert_allclose(images[[0, -1]], ends, atol=1e-5)
    with pytest.raises(InputError, match="no component 10"):
        interpolation(model, 0, 10, 5)


def test_a_vae_goes_from_sample_to_sample() -> None:
    model = make("vae")
    mx.random.seed(3)
    images = interpolation(model, 5, 999, 7)
    mx.random.seed(3)
    z = np.array(mx.random.normal((1000, 2)))
    path = np.linspace(z[5], z[999], 7)
    np.testing.assert_allclose(images, model.image(mx.array(path)), atol=1e-5)
    with pytest.raises(InputError, match="no sample 1000"):
        interpolation(make("vae"), 0, 1000, 7)


def test_the_manifold_of_a_vae_is_the_inverse_normal_cdf() -> None:
    model = make("vae")
    images = manifold(model, 3)
    corner = stats.norm.ppf(0.02)
    z = mx.array([[corner, -corner], [0, 0], [-corner, corner]], dtype=mx.float32)
    # Top left, middle, bottom right of the picture: the second axis runs upwards.
    np.testing.assert_allclose(images[[0, 4, 8]], model.image(z), atol=1e-5)


def test_the_manifold_of_a_mixture_covers_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantiles of each axis, found by root-finding in the mixture's distribution function."""
    model = make("vade", K=3)
    assert isinstance(model, VaDE)
    weights = np.array([0.5, 0.3, 0.2])
    means, deviations = np.array([[-3.0, 1.0], [0.0, -2.0], [4.0, 0.5]]), np.array([0.5, 1, 2])
    model.mixture.set(weights, means, np.repeat(deviations[:, None] ** 2, 2, axis=1))
    monkeypatch.setattr(type(model), "image", lambda self, z: z)  # the places instead of images
    places = manifold(model, 4).reshape(4, 4, 2)

    def quantile(axis: int, share: float) -> float:
        def excess(value: float) -> float:
            return weights @ stats.norm.cdf(value, means[:, axis], deviations) - share

        return optimize.brentq(excess, -20, 20)

    shares = np.linspace(0.02, 0.98, 4)
    columns, rows = ([quantile(axis, share) for share in shares] for axis in (0, 1))
    for row in range(4):
        np.testing.assert_allclose(places[row, :, 0], columns, atol=0.15)
        np.testing.assert_allclose(places[row, :, 1], rows[3 - row], atol=0.15)
    with pytest.raises(InputError, match="this one has 3"):
        manifold(make("gmvae", 3), 4)
