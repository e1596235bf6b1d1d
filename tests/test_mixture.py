"""The mixture over latents against scipy, and its fit against components that are known."""

from mlx_gmvae.errors import InputError
from mlx_gmvae.models.mixture import GaussianMixture

import mlx.core as mx
import numpy as np
import pytest
from scipy import stats

WEIGHTS = np.array([0.2, 0.3, 0.5])
MEANS = np.array([[0.0, 0.0], [4.0, -4.0], [-5.0, 3.0]])
VARIANCES = np.array([[1.0, 0.5], [0.2, 0.3], [0.6, 2.0]])


@pytest.fixture
def mixture() -> GaussianMixture:
    mixture = GaussianMixture(3, 2)
    mixture.set(WEIGHTS, MEANS, VARIANCES)
    return mixture


def test_density_and_responsibilities(mixture: GaussianMixture) -> None:
    z = np.random.default_rng(0).normal(0, 3, (50, 2))
    joint = np.stack(
        [
            weight * stats.multivariate_normal(mean, np.diag(variance)).pdf(z)
            for weight, mean, variance in zip(WEIGHTS, MEANS, VARIANCES, strict=True)
        ],
        axis=1,
    )
    points = mx.array(z.astype(np.float32))
    np.testing.assert_allclose(mixture.log_joint(points), np.log(joint), rtol=1e-4)
    np.testing.assert_allclose(mixture.log_prob(points), np.log(joint.sum(axis=1)), rtol=1e-4)
    expected = joint / joint.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mx.exp(mixture.log_responsibilities(points)), expected, atol=1e-4)


def test_it_starts_as_a_standard_normal() -> None:
    z = mx.random.normal((20, 4))
    expected = stats.multivariate_normal(np.zeros(4), np.eye(4)).logpdf(np.array(z))
    np.testing.assert_allclose(GaussianMixture(7, 4).log_prob(z), expected, rtol=1e-5)


def test_samples_and_a_fit_to_them_recover_the_mixture(mixture: GaussianMixture) -> None:
    mx.random.seed(0)
    z = np.array(mixture.latent_of(mixture.sample_components(20_000)))
    fitted = GaussianMixture(3, 2)
    fitted.fit(z, seed=0)
    order = [int(np.argmin(((np.array(fitted.mean) - mean) ** 2).sum(axis=1))) for mean in MEANS]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(np.array(fitted.mean)[order], MEANS, atol=0.1)
    np.testing.assert_allclose(np.exp(fitted.log_var)[order], VARIANCES, atol=0.15)
    np.testing.assert_allclose(np.exp(fitted.log_weights)[order], WEIGHTS, atol=0.02)


def test_fewer_images_than_components_are_refused() -> None:
    with pytest.raises(InputError, match="K = 7"):
        GaussianMixture(7, 2).fit(np.zeros((3, 2)), seed=0)
