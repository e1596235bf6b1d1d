"""The rearranged layers are the plain ones: same values, same gradients, odd and even sizes."""

from mlx_gmvae.layers import DownsampleConv2d, UpsampleConv2d, depth_to_space, space_to_depth

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


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("make", "plain"),
    [(DownsampleConv2d, strided_conv), (UpsampleConv2d, nearest_then_conv)],
)
def test_layer_equals_its_plain_form(make, plain, size) -> None:  # type: ignore[no-untyped-def]
    mx.random.seed(0)
    layer = make(3, 5)
    layer.bias = mx.random.normal((5,))
    x = mx.random.normal((2, *size, 3))
    expected = plain(layer, x)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)

    probe = mx.random.normal(expected.shape)  # a generic direction of the output

    def gradients(function):  # type: ignore[no-untyped-def]
        def loss(parameters, x):  # type: ignore[no-untyped-def]
            layer.update(parameters)
            return (function(x) * probe).sum()

        return mx.grad(loss, argnums=(0, 1))(layer.trainable_parameters(), x)

    (ours, ours_x), (theirs, theirs_x) = gradients(layer), gradients(lambda x: plain(layer, x))
    np.testing.assert_allclose(ours_x, theirs_x, atol=1e-4)
    for name in ("weight", "bias"):
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-4)


def test_space_to_depth_is_inverted_by_depth_to_space() -> None:
    x = mx.random.normal((2, 6, 4, 3))
    deep = space_to_depth(x)
    assert deep.shape == (2, 3, 2, 12)
    np.testing.assert_array_equal(deep[1, 2, 1, 3:6], x[1, 4, 3])  # row 0, column 1 of its block
    np.testing.assert_array_equal(depth_to_space(deep), x)


def test_upsample_is_mlx_nearest() -> None:
    layer, x = UpsampleConv2d(2, 2), mx.random.normal((1, 3, 4, 2))
    big = nn.Upsample(scale_factor=2, mode="nearest")(x)
    expected = mx.conv2d(big, layer.weight, padding=1)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)
