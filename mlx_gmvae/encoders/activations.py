"""Attention and activation functions, on the CPU computed from additions and products only.

On the CPU, MLX's exponential and error function take 14 and 30 ns per element, an addition 0.1 ns.
On a GPU MLX's own functions are used.
"""

import math
from collections.abc import Callable, Sequence

import mlx.core as mx
import mlx.nn as nn

from ..device.parallel import on_cpu

LOG2_E = math.log2(math.e)
SMALLEST_EXPONENT = -126.0  # of a normal float32
ROUNDING, MANTISSA_BITS = 1.5 * 2**23, 23
# Polynomial for 2^x on [-1/2, 1/2], constant term first; fitted to a relative error of 2.6e-6.
POWER_OF_TWO = (0.99999926, 0.69312181, 0.24024745, 0.05591786, 0.0095701)
# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.28:
# erfc(x) = (1 + a1 x + ... + a6 x^6)^-16 for x >= 0, with an error below 3e-7.
ERFC = (1.0, 0.0705230784, 0.0422820123, 0.0092705272, 0.0001520143, 0.0002765672, 0.0000430638)
# The same for erfc(x / sqrt(2)) / 2, the upper tail of the normal distribution.
NORMAL_TAIL = [2 ** (1 / 16) * a / math.sqrt(2) ** power for power, a in enumerate(ERFC)]
TANH_SLOPE, TANH_CUBIC = math.sqrt(2 / math.pi), 0.044715  # of the tanh approximation of GELU


def attention(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    """Return softmax(Q K^T / sqrt(d)) V of each head, (B, h, n, d).

    Queries are (B, h, n, d), keys and values (B, h, N, d).
    """
    scale = queries.shape[-1] ** -0.5
    if not on_cpu():
        return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale)
    scores = (queries * (scale * LOG2_E)) @ keys.swapaxes(-1, -2)  # (B, h, n, N)
    weights = power_of_two(scores - scores.max(axis=-1, keepdims=True))
    # A product with ones is faster than a sum along the last axis.
    return (weights @ values) / (weights @ mx.ones((keys.shape[-2], 1)))


def gelu(x: mx.array) -> mx.array:
    """Return GELU, x P(N(0, 1) <= x)."""
    if not on_cpu():
        return nn.gelu(x)
    size = mx.abs(x)
    tail = _polynomial(size, NORMAL_TAIL)
    for _ in range(4):  # to the 16th power
        tail = tail * tail
    return mx.maximum(x, 0) - size / tail


def gelu_tanh(x: mx.array) -> mx.array:
    """Return the tanh approximation of GELU, which is x sigmoid(2 u)."""
    return _times_sigmoid(x, (2 * TANH_SLOPE) * (x + TANH_CUBIC * x * x * x))


def quick_gelu(x: mx.array) -> mx.array:
    """Return x sigmoid(1.702 x), the GELU of CLIP."""
    return _times_sigmoid(x, 1.702 * x)


def silu(x: mx.array) -> mx.array:
    """Return SiLU, x sigmoid(x)."""
    return _times_sigmoid(x, x)


ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {  # by their names in config.json
    "gelu": gelu,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_new": gelu_tanh,
    "quick_gelu": quick_gelu,
    "silu": silu,
    "swish": silu,
}


def power_of_two(x: mx.array) -> mx.array:
    """Return 2^x for x <= 0, with a relative error of 3e-6; values below 1e-38 become 1e-38.

    2^x is 2^n 2^f with a whole number n and f in [-1/2, 1/2]. A float as large as ROUNDING has no
    fractional bits, so adding it rounds x to n. The last bits of the sum then hold n; they are
    shifted and added to the exponent of 2^f.
    """
    x = mx.maximum(x, SMALLEST_EXPONENT)
    shifted = x + ROUNDING
    fraction = x - (shifted - ROUNDING)
    exponent = shifted.view(mx.int32) << MANTISSA_BITS
    return (_polynomial(fraction, POWER_OF_TWO).view(mx.int32) + exponent).view(mx.float32)


def _times_sigmoid(x: mx.array, logits: mx.array) -> mx.array:
    """Return x sigmoid(logits), for logits with the sign of x."""
    if not on_cpu():
        return x * mx.sigmoid(logits)
    # sigmoid(-|u|) = e / (1 + e), and sigmoid(u) = 1 - sigmoid(-u).
    e = power_of_two(-LOG2_E * mx.abs(logits))
    return mx.maximum(x, 0) - mx.abs(x) * (e / (1 + e))


def _polynomial(x: mx.array, coefficients: Sequence[float]) -> mx.array:
    """Return c0 + c1 x + c2 x^2 + ..., by Horner's rule."""
    value = x * coefficients[-1] + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        value = value * x + coefficient
    return value
