"""The layers are the plain ones: same values, same gradients, odd and even sizes, in parts too."""

from collections.abc import Callable
from typing import Any

from mlx_gmvae.device import parallel
from mlx_gmvae.device.backend import as_on_gpu
from mlx_gmvae.device.parallel import over_batch
from mlx_gmvae.models import layers, products
from mlx_gmvae.models.layers import Dense, DownsampleConv2d, UpsampleConv2d, activated, leaky_relu

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

SIZES = [(8, 8), (7, 8), (8, 5), (7, 9), (2, 3)]


def strided_conv(layer: DownsampleConv2d, x: mx.array) -> mx.array:
    return mx.conv2d(x, layer.weight, stride=2, padding=1) + layer.bias


def nearest_then_conv(layer: UpsampleConv2d, x: mx.array) -> mx.array:
    big = mx.repeat(mx.repeat(x, 2, axis=1), 2, axis=2)
    return mx.conv2d(big, layer.weight, padding=1) + layer.bias


@pytest.mark.on_cpu("where a gradient is written by hand")
@pytest.mark.parametrize("shape", [(6, 7), (2, 3, 7)])
def test_a_dense_layer_is_mlxs_own_and_its_gradient_lies_as_the_weights_do(
    shape: tuple[int, ...],
) -> None:
    layer, plain = Dense(7, 5), nn.Linear(7, 5)
    plain.update(layer.parameters())
    x = mx.random.normal(shape)
    np.testing.assert_allclose(layer(x), plain(x), atol=1e-6)

    def gradients(of: nn.Linear) -> Any:
        def loss(weights: dict[str, Any], x: mx.array) -> mx.array:
            of.update(weights)
            return mx.sin(of(x)).sum()

        return mx.grad(loss, argnums=(0, 1))(plain.trainable_parameters(), x)

    (ours, dx), (expected, expected_dx) = gradients(layer), gradients(plain)
    for name, gradient in expected.items():
        np.testing.assert_allclose(ours[name], gradient, atol=1e-5)
    np.testing.assert_allclose(dx, expected_dx, atol=1e-5)
    assert np.array(ours["weight"], copy=False).flags.c_contiguous


@pytest.mark.parametrize(
    "form",
    [
        *(
            pytest.param(form, marks=pytest.mark.on_cpu("how products are made there"))
            for form in ("windows", "blocks")
        ),
        "for a GPU",
    ],
)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("make", "plain"),
    [(DownsampleConv2d, strided_conv), (UpsampleConv2d, nearest_then_conv)],
)
def test_layer_equals_its_plain_form(
    make: Callable[[int, int], nn.Module],
    plain: Callable[[Any, mx.array], mx.array],
    size: tuple[int, int],
    form: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layers, "on_cpu", lambda: form != "for a GPU")
    if form == "blocks":
        monkeypatch.setattr(products, "SMALLEST_GRID", 1)
        monkeypatch.setattr(products, "FEWEST_CHANNELS", 1)
    mx.random.seed(0)
    layer = make(3, 5)
    layer.bias = mx.random.normal((5,))
    x = mx.random.normal((2, *size, 3))
    expected = plain(layer, x)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)

    probe = mx.random.normal(expected.shape)  # a generic direction of the output

    def gradients(function: Callable[[mx.array], mx.array]) -> Any:
        def loss(parameters: dict[str, Any], x: mx.array) -> mx.array:
            layer.update(parameters)
            return (function(x) * probe).sum()

        return mx.grad(loss, argnums=(0, 1))(layer.trainable_parameters(), x)

    (ours, ours_x), (theirs, theirs_x) = gradients(layer), gradients(lambda x: plain(layer, x))
    np.testing.assert_allclose(ours_x, theirs_x, atol=1e-4)
    for name in ("weight", "bias"):
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_the_formulation_for_gpus_is_the_same(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "on_cpu", lambda: False)
    x = mx.random.normal((2, *size, 3))
    down, up = DownsampleConv2d(3, 5), UpsampleConv2d(3, 5)
    np.testing.assert_allclose(down(x), strided_conv(down, x), atol=1e-5)
    np.testing.assert_allclose(up(x), nearest_then_conv(up, x), atol=1e-5)


@pytest.mark.parametrize("make", [DownsampleConv2d, UpsampleConv2d])
def test_a_bias_in_the_same_pass_as_leaky_relu(
    make: Callable[[int, int], DownsampleConv2d | UpsampleConv2d],
) -> None:
    mx.random.seed(0)
    layer, x = make(3, 5), mx.random.normal((2, 6, 7, 3))
    layer.bias = mx.random.normal((5,))

    def loss(parameters: dict[str, Any], x: mx.array) -> mx.array:
        layer.update(parameters)
        return (activated(layer, x) ** 2).sum()

    function = mx.value_and_grad(loss, argnums=(0, 1))
    value, (gradients, dx) = function(layer.trainable_parameters(), x)
    with as_on_gpu():
        other, (others, other_dx) = function(layer.trainable_parameters(), x)
    np.testing.assert_allclose(value, other, rtol=1e-5)
    np.testing.assert_allclose(dx, other_dx, atol=1e-4)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, others[name], rtol=1e-4, atol=1e-3)


def test_upsample_is_mlx_nearest() -> None:
    layer, x = UpsampleConv2d(2, 2), mx.random.normal((1, 3, 4, 2))
    big = nn.Upsample(scale_factor=2, mode="nearest")(x)
    expected = mx.conv2d(big, layer.weight, padding=1)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def test_leaky_relu_and_its_gradient() -> None:
    x, probe = mx.random.normal((2, 50)), mx.random.normal((50,))
    np.testing.assert_allclose(leaky_relu(x), nn.leaky_relu(x, 0.01), atol=1e-7)
    ours = mx.grad(lambda x: (leaky_relu(x) * probe).sum())(x)
    theirs = mx.grad(lambda x: (nn.leaky_relu(x, 0.01) * probe).sum())(x)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("transform", [mx.compile, lambda function: function])
def test_a_batch_in_parts_gives_the_same(
    transform: Callable[[Callable], Callable], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients of two layers and leaky relu, on one stream and on three."""
    down, up = DownsampleConv2d(2, 4), UpsampleConv2d(4, 1)
    x, weights = mx.random.normal((70, 6, 8, 2)), [down.weight, up.weight]

    def loss(weights: list[mx.array], x: mx.array) -> mx.array:
        down.weight, up.weight = weights
        once = over_batch(lambda x: up(leaky_relu(down(x))), x)
        return (once**2).sum() + over_batch(up, over_batch(down, x)).sum()

    results = []
    for num in (1, 3):
        monkeypatch.setattr(parallel, "cores", lambda num=num: num)
        step = transform(mx.value_and_grad(loss, argnums=(0, 1)))
        value, (d_weights, dx) = step(weights, x)
        results.append([np.array(each) for each in (value, *d_weights, dx)])
    for whole, parts in zip(*results, strict=True):
        np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-3)
