"""The contract that every model keeps, and the GMVAE's loss against a naive oracle."""

from typing import Any

from mlx_gmvae.config import ModelConfig
from mlx_gmvae.config.model import LIKELIHOODS
from mlx_gmvae.models import MODELS, LatentVariableModel, MixtureModel, build_model
from mlx_gmvae.models.distributions import Normal
from mlx_gmvae.models.mixture_model import TRIES

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map
from scipy import stats

POSTERIORS = {"gmvae": ["amortised", "bayes"]}
VARIANTS = [
    (model, arch, posterior, likelihood)
    for model in MODELS
    for arch in ("conv", "mlp")
    for posterior in POSTERIORS.get(model, ["amortised"])
    for likelihood in LIKELIHOODS
]
# The bound is the same function of encoder and decoder whatever their layers.
BOUNDED = [variant for variant in VARIANTS if variant[1] == "mlp"]


def make(
    model: str, arch: str, posterior: str, likelihood: str, **options: Any
) -> LatentVariableModel:
    mx.random.seed(0)
    config = ModelConfig(
        model=model, arch=arch, posterior=posterior, likelihood=likelihood, image_size=(9, 6),
        channels=3, latent_dims=4, K=5, w_dims=3, hidden_dims=16, max_filters=8, **options,
    )  # fmt: skip
    return build_model(config)


@pytest.fixture(params=VARIANTS, ids="-".join)
def model(request: pytest.FixtureRequest) -> LatentVariableModel:
    return make(*request.param)


@pytest.fixture
def x() -> mx.array:
    return mx.array(np.random.default_rng(1).random((6, 9, 6, 3), dtype=np.float32))


def test_elbo_is_the_sum_of_its_terms(model: LatentVariableModel, x: mx.array) -> None:
    elbo = model.elbo(x)
    assert elbo.loss.shape == ()
    assert "reconstruction" in elbo.terms
    assert elbo.loss.item() == pytest.approx(sum(v.item() for v in elbo.terms.values()), rel=1e-5)
    assert all(float(v) > -1e-5 for name, v in elbo.terms.items() if name.startswith("kl_"))


def test_more_draws_estimate_the_same_elbo(x: mx.array) -> None:
    one, many = make(*VARIANTS[-1]), make(*VARIANTS[-1], mc_samples=50)
    average = np.mean([one.elbo(x).loss.item() for _ in range(100)])
    assert many.elbo(x).loss.item() == pytest.approx(average, rel=0.02)


def test_shapes(model: LatentVariableModel, x: mx.array) -> None:
    q = model.encode(x)
    assert isinstance(q, Normal)
    assert q.mean.shape == q.log_var.shape == (6, 4)
    assert model.decode(q.mean).shape == x.shape
    assert model.decode(mx.zeros((2, 7, 4))).shape == (2, 7, 9, 6, 3)
    assert model.reconstruct(x).shape == x.shape
    assert model.sample(3).shape == (3, 9, 6, 3)


def test_pixels_lie_in_the_unit_interval(model: LatentVariableModel, x: mx.array) -> None:
    for images in (model.reconstruct(x), model.sample(5)):
        assert 0 <= float(images.min()) <= float(images.max()) <= 1


@pytest.mark.parametrize("model", BOUNDED, ids="-".join, indirect=True)
def test_importance_bound_is_above_the_elbo_and_rises(
    model: LatentVariableModel, x: mx.array
) -> None:
    # Larger weights than at random initialisation make the gaps larger than the noise.
    model.update(tree_map(lambda value: 2 * value, model.parameters()))
    mx.random.seed(0)
    elbo = -float(model.elbo(mx.concatenate([x] * 100)).loss)
    few, many = (
        float(model.importance_bound(mx.concatenate([x] * 10), samples).mean())
        for samples in (5, 100)
    )
    assert elbo < few < many


def test_every_parameter_gets_a_gradient(model: LatentVariableModel, x: mx.array) -> None:
    def loss(parameters: dict[str, Any]) -> mx.array:
        model.update(parameters)
        return model.elbo(x).loss

    if hasattr(model, "mixture"):  # equal components get no gradient of their own
        model.mixture.mean = mx.random.normal(model.mixture.mean.shape)
    gradients = dict(tree_flatten(mx.grad(loss)(model.trainable_parameters())))
    for name, gradient in gradients.items():
        assert float(mx.abs(gradient).max()) > 0, f"{name} is dead"


def test_mixture_contract(model: LatentVariableModel, x: mx.array) -> None:
    if not isinstance(model, MixtureModel):
        with pytest.raises(ValueError, match="no components"):
            model.sample(2, component=0)
        return
    responsibilities = model.responsibilities(x)
    assert responsibilities.shape == (6, 5)
    np.testing.assert_allclose(responsibilities.sum(axis=1), np.ones(6), atol=1e-5)
    np.testing.assert_array_equal(responsibilities, model.responsibilities(x))
    assert model.component_latents().shape == (5, 4)
    assert model.sample(3, component=4).shape == (3, 9, 6, 3)


def test_components_may_be_numbered_anew(model: LatentVariableModel, x: mx.array) -> None:
    if not isinstance(model, MixtureModel):
        pytest.skip("no components")
    model.eval()
    if "mixture" in model:
        rng = np.random.default_rng(0)
        shape, num = (model.config.K, model.config.latent_dims), model.config.K
        model.mixture.set(rng.random(num), rng.normal(size=shape), 0.5 + rng.random(shape))
    q, centres = np.array(model.responsibilities(x)), np.array(model.component_latents())
    mx.random.seed(0)
    bound = np.array(model.importance_bound(x, 3))
    order = np.roll(np.arange(model.config.K), 1)
    model.permute_components(order)
    np.testing.assert_allclose(np.array(model.responsibilities(x)), q[:, order], atol=1e-5)
    np.testing.assert_allclose(np.array(model.component_latents()), centres[order], atol=1e-6)
    mx.random.seed(0)
    np.testing.assert_allclose(np.array(model.importance_bound(x, 3)), bound, rtol=1e-4)


def test_component_samples_come_from_that_component() -> None:
    model = make("gmvae", "mlp", "amortised", "bernoulli")
    far = mx.arange(5)[:, None] * mx.full((5, 4), 100.0)
    bias = mx.concatenate([far, mx.zeros((5, 4))], axis=1).flatten()
    model.prior.out.weight = mx.zeros_like(model.prior.out.weight)
    model.prior.out.bias = bias
    for component in range(5):
        z = np.array(model.sample_latent(200, component))
        np.testing.assert_allclose(z.mean(0), 100 * component, atol=0.5)
    z = np.array(model.sample_latent(2000))
    shares = np.bincount(np.rint(z.mean(1) / 100).astype(int), minlength=5) / 2000
    np.testing.assert_allclose(shares, 0.2, atol=0.05)


def test_samples_of_a_component_are_recognised_as_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that q(y|x) gives to another component is drawn again, but not for ever."""
    model = make("gmvae", "mlp", "amortised", "bernoulli")
    raw = model.image(model.sample_latent(400, 2))
    threshold = mx.array(np.median(np.array(raw).mean(axis=(1, 2, 3))))

    def by_brightness(x: mx.array) -> mx.array:
        is_bright = (x.mean(axis=(1, 2, 3)) > threshold).astype(mx.float32)[:, None]
        return mx.log(mx.concatenate([1 - is_bright, 0 * is_bright, is_bright], axis=1) + 1e-6)

    monkeypatch.setattr(type(model), "log_cluster_probabilities", lambda self, x: by_brightness(x))
    share = (by_brightness(model.sample(400, 2)).argmax(axis=1) == 2).mean()
    assert float(share) > 1 - 2 * 0.5**TRIES
    assert model.sample(10, 1).shape == (10, 9, 6, 3)  # nothing is ever recognised as 1


@pytest.mark.parametrize("posterior", ["amortised", "bayes"])
def test_gmvae_loss_is_the_brute_force_sum(posterior: str, x: mx.array) -> None:
    """The paper's bound, written naively in float64 with explicit loops over images and y."""
    model = make("gmvae", "mlp", posterior, "bernoulli")
    config, images = model.config, np.array(x, np.float64)
    q = model.posterior(x)
    mx.random.seed(7)
    terms = model.elbo_terms(x, q)

    mx.random.seed(7)  # the model draws z first, then w
    draw_z, draw_w = (np.array(mx.random.normal(part.mean.shape), np.float64) for part in q[:2])
    mean_z, var_z, mean_w, var_w = (
        np.array(value, np.float64) for part in q[:2] for value in (part.mean, mx.exp(part.log_var))
    )
    z, w = mean_z + np.sqrt(var_z) * draw_z, mean_w + np.sqrt(var_w) * draw_w
    pixels = 1 / (1 + np.exp(-np.array(model.decode(mx.array(z)), np.float64)))
    prior = model.prior(mx.array(w))
    mean_p, var_p = (np.array(v, np.float64) for v in (prior.mean, mx.exp(prior.log_var)))

    for i in range(len(images)):
        density = np.array(
            [
                np.prod(stats.norm.pdf(z[i], mean_p[i, y], np.sqrt(var_p[i, y])))
                for y in range(config.K)
            ]
        )
        if posterior == "bayes":
            q_y = density / density.sum()
        else:
            scores = np.exp(np.array(q.y_logits[i], np.float64))
            q_y = scores / scores.sum()
        kl_z = kl_y = 0.0
        for y in range(config.K):
            kl_component = 0.0
            for d in range(config.latent_dims):
                ratio = var_z[i, d] / var_p[i, y, d]
                shift = (mean_z[i, d] - mean_p[i, y, d]) ** 2 / var_p[i, y, d]
                kl_component += 0.5 * (ratio + shift - 1 - np.log(ratio))
            kl_z += q_y[y] * kl_component
            kl_y += q_y[y] * np.log(q_y[y] / (1 / config.K))
        kl_w = 0.5 * np.sum(var_w[i] + mean_w[i] ** 2 - 1 - np.log(var_w[i]))
        reconstruction = -np.sum(
            images[i] * np.log(pixels[i]) + (1 - images[i]) * np.log(1 - pixels[i])
        )
        expected = {"reconstruction": reconstruction, "kl_z": kl_z, "kl_w": kl_w, "kl_y": kl_y}
        for name, value in expected.items():
            assert terms[name][i].item() == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("name", ["vade", "vae-gmm"])
def test_vade_loss_is_the_brute_force_sum(name: str, x: mx.array) -> None:
    """Jiang et al.'s bound in float64, at the same draw of z."""
    model = make(name, "mlp", "amortised", "bernoulli")
    rng = np.random.default_rng(3)
    weights, means = rng.dirichlet(np.ones(5)), rng.normal(size=(5, 4))
    variances = rng.uniform(0.5, 2, (5, 4))
    model.mixture.set(weights, means, variances)
    q = model.posterior(x)
    mx.random.seed(7)
    terms = model.elbo_terms(x, q)
    mx.random.seed(7)
    z = np.array(q.sample(), np.float64)
    mean, var = np.array(q.mean, np.float64), np.exp(np.array(q.log_var, np.float64))
    joint = weights * np.prod(stats.norm.pdf(z[:, None], means, np.sqrt(variances)), axis=-1)
    q_y = joint / joint.sum(axis=1, keepdims=True)
    ratio = var[:, None] / variances
    shift = (mean[:, None] - means) ** 2 / variances
    kl = 0.5 * (ratio + shift - 1 - np.log(ratio)).sum(axis=-1)
    np.testing.assert_allclose(terms["kl_z"], (q_y * kl).sum(axis=1), rtol=1e-3)
    np.testing.assert_allclose(
        terms["kl_y"], (q_y * np.log(q_y / weights)).sum(axis=1), rtol=1e-3, atol=1e-4
    )


def test_mutual_learning_starts_from_the_plain_vae(x: mx.array) -> None:
    """With K copies of N(0, I) the bound is the VAE's, and no gradient moves the mixture."""
    model = make("vae-gmm", "mlp", "amortised", "bernoulli")
    terms = model.elbo(x).terms
    assert terms["kl_z"].item() == pytest.approx(model.encode(x).kl_standard().mean().item())
    assert terms["kl_y"].item() == pytest.approx(0, abs=1e-6)
    trainable = dict(tree_flatten(model.trainable_parameters()))
    assert trainable and not any(name.startswith("mixture") for name in trainable)
