"""Paths and planes in latent space."""

from mlx_gmvae.config import ModelConfig
from mlx_gmvae.errors import InputError
from mlx_gmvae.evaluation.traversal import interpolation, manifold
from mlx_gmvae.models import LatentVariableModel, MixtureModel, build_model

import mlx.core as mx
import numpy as np
import pytest
from scipy import stats


def make(model: str, latent_dims: int = 2) -> LatentVariableModel:
    mx.random.seed(0)
    config = ModelConfig(
        model=model, arch="mlp", hidden_dims=16, image_size=(8, 8), latent_dims=latent_dims
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
    assert interpolation(make("vae"), 0, 1, 7).shape == (7, 8, 8, 1)
    with pytest.raises(InputError, match="no sample 1000"):
        interpolation(make("vae"), 0, 1000, 7)


def test_the_manifold_of_a_vae_is_the_inverse_normal_cdf() -> None:
    model = make("vae")
    images = manifold(model, 3)
    corner = stats.norm.ppf(0.02)
    z = mx.array([[corner, -corner], [0, 0], [-corner, corner]], dtype=mx.float32)
    # Top left, middle, bottom right of the picture: the second axis runs upwards.
    np.testing.assert_allclose(images[[0, 4, 8]], model.image(z), atol=1e-5)


def test_the_manifold_of_a_mixture_covers_its_samples() -> None:
    assert manifold(make("vade"), 4).shape == (16, 8, 8, 1)
    with pytest.raises(InputError, match="this one has 3"):
        manifold(make("gmvae", 3), 4)
