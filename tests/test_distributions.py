"""Densities against scipy, divergences against Monte Carlo, Bayes' rule far from everything."""

import math
from collections.abc import Callable

from mlx_gmvae.models.distributions import (
    Bernoulli,
    Gaussian,
    Logistic,
    Normal,
    categorical_kl_uniform,
    clamped,
    log_responsibilities,
    standard_normal_log_prob,
)

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.optimizers import Adam
from scipy import stats

rng = np.random.default_rng(0)


def random_normal(*shape: int) -> Normal:
    mean, log_var = rng.normal(size=(2, *shape))
    return Normal(mx.array(mean), mx.array(log_var))


def test_normal_log_prob_is_scipys() -> None:
    normal, value = random_normal(5, 3), rng.normal(size=(5, 3))
    expected = stats.norm.logpdf(value, normal.mean, np.exp(0.5 * np.array(normal.log_var)))
    np.testing.assert_allclose(normal.log_prob(mx.array(value)), expected.sum(-1), rtol=1e-5)


def test_standard_normal_log_prob_is_scipys() -> None:
    value = rng.normal(size=(5, 3))
    expected = stats.norm.logpdf(value).sum(-1)
    np.testing.assert_allclose(standard_normal_log_prob(mx.array(value)), expected, rtol=1e-5)


def test_a_clamped_parameter_finds_its_way_back_into_the_range() -> None:
    x = mx.array([-9.0, -9.0, 0.0, 0.5, 7.0, 7.0])
    slope = mx.array([-1.0, 1.0, 2.0, -2.0, 3.0, -3.0])
    np.testing.assert_array_equal(clamped(x, -8, 6), np.clip(x, -8, 6))
    gradient = mx.grad(lambda x: (slope * clamped(x, -8, 6)).sum())(x)
    np.testing.assert_array_equal(gradient, [-1, 0, 2, -2, 3, 0])


def test_bernoulli_log_prob_is_scipys() -> None:
    logits = rng.normal(scale=3, size=(4, 5, 3, 2))
    x = rng.integers(0, 2, size=logits.shape)
    expected = stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-logits))).sum((1, 2, 3))
    log_prob = Bernoulli().log_prob(mx.array(logits), mx.array(x))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)


def test_bernoulli_log_prob_is_finite_for_extreme_logits() -> None:
    logits = mx.array([[[[1e4]]], [[[-1e4]]]])
    log_prob = Bernoulli().log_prob(logits, mx.zeros((2, 1, 1, 1)))
    np.testing.assert_allclose(log_prob, [-1e4, 0.0])


def test_bernoulli_gradient_is_pixel_minus_probability() -> None:
    logits, x = mx.array(rng.normal(scale=4, size=(3, 4, 5, 2))), mx.array(rng.random((3, 4, 5, 2)))
    weight = mx.array([1.0, -2.0, 0.5])
    log_prob = Bernoulli().log_prob
    gradients = mx.grad(lambda *pair: (weight * log_prob(*pair)).sum(), argnums=(0, 1))(logits, x)
    each = weight[:, None, None, None]
    np.testing.assert_allclose(gradients[0], each * (x - mx.sigmoid(logits)), atol=1e-6)
    np.testing.assert_allclose(gradients[1], each * logits, atol=1e-6)


def test_gaussian_log_prob_is_scipys() -> None:
    mean, x = rng.random((2, 4, 5, 3, 2))
    expected = stats.norm.logpdf(x, mean, 0.3).sum((1, 2, 3))
    log_prob = Gaussian(0.3).log_prob(mx.array(mean), mx.array(x))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-4)


@pytest.mark.parametrize("log_scale", [-6.0, -2.5, 0.5])
def test_logistic_log_prob_is_scipys(log_scale: float) -> None:
    levels = rng.integers(0, 256, (4, 5, 3, 3))
    levels.flat[:30] = [0] * 15 + [255] * 15
    location = rng.normal(0.5, 0.4, levels.shape)
    likelihood = Logistic(3)
    likelihood.log_scale = mx.full((3,), log_scale)
    scale = np.exp(log_scale)
    above, below = (stats.logistic.cdf((levels + d) / 255, location, scale) for d in (0.5, -0.5))
    if log_scale > -5:  # else scipy's differences are of nearly equal numbers
        shares = np.where(levels == 255, 1, above) - np.where(levels == 0, 0, below)
        found = likelihood.log_prob(mx.array(location), mx.array(levels / 255))
        np.testing.assert_allclose(found, np.log(shares).sum((1, 2, 3)), rtol=1e-4)
    # The 256 values together are certain, wherever the location is.
    every = mx.arange(256).reshape(256, 1, 1, 1) / 255
    for place in (-0.2, 0.0, 0.31, 1.0, 1.4):
        likelihood = Logistic(1)
        likelihood.log_scale = mx.full((1,), log_scale)
        log_probs = likelihood.log_prob(mx.full(every.shape, place), every)
        assert float(mx.exp(log_probs).sum()) == pytest.approx(1, abs=1e-4)


def test_the_logistic_scale_is_learned() -> None:
    """Residuals of a known scale, by Adam on the likelihood alone."""
    residuals = stats.logistic.rvs(scale=0.02, size=(100, 5, 5, 1), random_state=0)
    x = mx.array(np.rint((0.5 + residuals) * 255) / 255)
    likelihood, optimizer = Logistic(1), Adam(0.05)

    def loss(module: Logistic) -> mx.array:
        return -module.log_prob(mx.full(x.shape, 0.5), x).mean()

    for _ in range(200):
        _, gradients = nn.value_and_grad(likelihood, loss)(likelihood)
        optimizer.update(likelihood, gradients)
        mx.eval(likelihood.parameters(), optimizer.state)
    assert float(mx.exp(likelihood.log_scale)[0]) == pytest.approx(0.02, rel=0.1)


def test_densities_integrate_to_one() -> None:
    grid = mx.linspace(-12, 12, 4001)[:, None]
    density = mx.exp(Normal(mx.array([0.7]), mx.array([0.4])).log_prob(grid))
    assert abs(np.trapezoid(np.array(density), np.array(grid[:, 0])) - 1) < 1e-4


def monte_carlo_kl(
    q: Normal, log_p: Callable[[mx.array], mx.array], samples: int = 200_000
) -> float:
    mx.random.seed(0)
    wide = Normal(*(mx.broadcast_to(part, (samples, *part.shape)) for part in q))
    z = wide.sample()
    return float((q.log_prob(z) - log_p(z)).mean())


def test_kl_between_normals_is_the_monte_carlo_estimate() -> None:
    q, p = random_normal(3), random_normal(3)
    assert q.kl(p).item() == pytest.approx(monte_carlo_kl(q, p.log_prob), rel=0.02)
    assert q.kl(q).item() == pytest.approx(0, abs=1e-6)


def test_kl_to_standard_normal_is_the_monte_carlo_estimate() -> None:
    q = random_normal(3)
    estimate = monte_carlo_kl(q, standard_normal_log_prob)
    assert q.kl_standard().item() == pytest.approx(estimate, rel=0.02)
    standard = Normal(mx.zeros(3), mx.zeros(3))
    assert q.kl_standard().item() == pytest.approx(q.kl(standard).item(), rel=1e-5)


def test_categorical_kl_is_scipys_and_a_monte_carlo_estimate() -> None:
    q = rng.dirichlet(np.ones(7))
    kl = categorical_kl_uniform(mx.array(np.log(q))).item()
    assert kl == pytest.approx(stats.entropy(q, np.full(7, 1 / 7)), rel=1e-5)
    draws = rng.choice(7, size=200_000, p=q)
    assert kl == pytest.approx(np.log(q[draws] * 7).mean(), rel=0.02)
    assert categorical_kl_uniform(mx.full((7,), -math.log(7))).item() == pytest.approx(0, abs=1e-6)


def test_sample_has_the_distributions_moments() -> None:
    mx.random.seed(0)
    draws = Normal(mx.full((100_000,), 2.0), mx.full((100_000,), math.log(9))).sample()
    assert draws.mean().item() == pytest.approx(2, abs=0.05)
    assert mx.std(draws).item() == pytest.approx(3, abs=0.05)


def test_responsibilities_are_bayes_rule() -> None:
    weights, means, z = np.array([0.2, 0.5, 0.3]), np.array([-1.0, 0.5, 2.0]), 0.3
    joint = weights * stats.norm.pdf(z, means)
    found = mx.exp(log_responsibilities(mx.array(np.log(joint))))
    np.testing.assert_allclose(found, joint / joint.sum(), rtol=1e-5)


@pytest.mark.parametrize("distance", [0.0, 10.0, 1000.0])
def test_responsibilities_sum_to_one_however_far_away(distance: float) -> None:
    components = Normal(mx.array([[0.0], [1.0], [2.0]]), mx.zeros((3, 1)))
    log_q = log_responsibilities(components.log_prob(mx.array([[distance]])))
    assert mx.exp(log_q).sum().item() == pytest.approx(1, abs=1e-5)
    assert mx.isfinite(log_q).all().item()
