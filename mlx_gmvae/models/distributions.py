"""Diagonal Normals, image likelihoods, and Bayes' rule over mixture components.

Shape letters used throughout the package: `B` batch, `H W C` image, `D` latent_dims,
`K` components, `M` w_dims. All densities are in nats and summed over the last axis
(latents) or the last three (images).
"""

import math
from functools import partial
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn

from ..device.parallel import current_stream, on_cpu, over_batch

LOG_2PI = math.log(2 * math.pi)
LOG_VAR_RANGE = (-8.0, 6.0)
BIN = 1 / 255  # distance between neighbouring 8-bit values
HALF_BIN = 0.5 * BIN
FIRST_LOG_SCALE = -2.5  # a scale of 21 grey levels
LOG_SCALE_RANGE = (-7.0, 1.0)


class Normal(NamedTuple):
    """N(mean, diag(exp(log_var))) over the last axis; the leading axes broadcast.

    >>> standard = Normal(mx.zeros((1, 3)), mx.zeros((1, 3)))
    >>> moved = Normal(mx.ones((1, 3)), mx.zeros((1, 3)))
    >>> moved.kl(standard).item()
    1.5
    """

    mean: mx.array
    log_var: mx.array

    @classmethod
    def from_network(cls, output: mx.array) -> "Normal":
        """Split a layer's output (..., 2D) into mean and clamped log variance (..., D)."""
        mean, log_var = mx.split(output, 2, axis=-1)
        return cls(mean, mx.clip(log_var, *LOG_VAR_RANGE))

    def sample(self) -> mx.array:
        """Draw one reparameterised sample, shaped like the mean (Kingma & Welling 2013, eq. 4)."""
        return self.mean + mx.exp(0.5 * self.log_var) * self.noise()

    def noise(self) -> mx.array:
        """Draw the standard normal noise of `sample`, shaped like the mean."""
        return mx.random.normal(self.mean.shape)

    def log_prob(self, value: mx.array) -> mx.array:
        """Return log N(value; mean, var), nats, summed over the last axis.

        It is -1/2 sum_d [(value - mean)^2 / var + log var + log 2 pi].
        """
        squared = (value - self.mean) ** 2 * mx.exp(-self.log_var)
        return -0.5 * (squared + self.log_var + LOG_2PI).sum(axis=-1)

    def kl(self, other: "Normal") -> mx.array:
        """Return KL(self || other) in closed form, nats, summed over the last axis."""
        log_ratio = self.log_var - other.log_var
        squared = (self.mean - other.mean) ** 2 * mx.exp(-other.log_var)
        return 0.5 * (mx.exp(log_ratio) + squared - 1 - log_ratio).sum(axis=-1)

    def kl_standard(self) -> mx.array:
        """Return KL(self || N(0, I)), nats (Kingma & Welling 2013, appendix B)."""
        return 0.5 * (mx.exp(self.log_var) + self.mean**2 - 1 - self.log_var).sum(axis=-1)


def clamped(x: mx.array, low: float, high: float) -> mx.array:
    """Clip a parameter, but keep gradients that move it back into the range.

    The gradient of `mx.clip` is 0 outside the range, so a parameter that leaves it never returns.
    """
    stream = current_stream()

    @mx.custom_function
    def clip(x: mx.array) -> mx.array:
        return mx.clip(x, low, high)

    @clip.vjp
    def gradient(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
        with mx.stream(stream):
            # Descent moves against the gradient: a negative gradient raises a value.
            is_free = (x >= low) & (x <= high)
            leads_back = ((x < low) & (cotangent < 0)) | ((x > high) & (cotangent > 0))
            return mx.where(is_free | leads_back, cotangent, 0)

    return clip(x)  # type: ignore[return-value]


def with_same_noise(q: Any, num: int) -> Any:
    """Return `q`, of Normals over (B * num, D), with the same noise (num, D) for each image."""

    class Tiled(Normal):
        def noise(self) -> mx.array:
            rows, dims = self.mean.shape
            return mx.tile(mx.random.normal((num, dims)), (rows // num, 1))

    if isinstance(q, Normal):
        return Tiled(*q)
    return type(q)(*(with_same_noise(each, num) for each in q)) if isinstance(q, tuple) else q


def standard_normal_log_prob(value: mx.array) -> mx.array:
    """Return log N(value; 0, I), nats, summed over the last axis."""
    return -0.5 * (value**2 + LOG_2PI).sum(axis=-1)


def log_responsibilities(log_joint: mx.array) -> mx.array:
    """Apply Bayes' rule: return log p(y | .) from log p(y, .) along the last axis (..., K).

    log p(y|z) = log p(y) + log p(z|y) - logsumexp_y'[log p(y') + log p(z|y')]. It is finite
    even if z is far from all components.

    >>> mx.exp(log_responsibilities(mx.array([-1e4, -1e4]))).tolist()
    [0.5, 0.5]
    """
    # Far from all components the logs are huge and nearly equal. Subtracting the largest first
    # keeps rounding errors small.
    relative = log_joint - mx.stop_gradient(log_joint.max(axis=-1, keepdims=True))
    return relative - mx.logsumexp(relative, axis=-1, keepdims=True)


def categorical_kl_uniform(log_q: mx.array) -> mx.array:
    """Return KL(q || uniform) = sum_y q log q + log K over the last axis of log q (..., K)."""
    return (mx.exp(log_q) * log_q).sum(axis=-1) + math.log(log_q.shape[-1])


class Bernoulli(NamedTuple):
    """Independent Bernoulli pixels; the decoder's output is their logits.

    Grey pixels in [0, 1] are used as expected values, which gives the usual cross-entropy.
    """

    def log_prob(self, logits: mx.array, x: mx.array) -> mx.array:
        """Return sum [x l - softplus(l)] over H, W, C: minus the cross-entropy, from logits."""
        if not on_cpu():  # on a GPU this is two kernels, forward and backward
            return (x * logits - mx.logaddexp(logits, 0)).sum(axis=(-3, -2, -1))
        return over_batch(_cross_entropy(), *mx.broadcast_arrays(logits, x))

    def mean(self, logits: mx.array) -> mx.array:
        """Return the expected pixels in [0, 1]."""
        return mx.sigmoid(logits)

    def saturated_log_prob(self, x: mx.array) -> mx.array:
        """Return log p(x) of the saturated model, whose mean is x: minus the pixels' entropy."""
        inside = mx.clip(x, 1e-7, 1 - 1e-7)
        return (x * mx.log(inside) + (1 - x) * mx.log1p(-inside)).sum(axis=(-3, -2, -1))

    @property
    def log_bins(self) -> None:
        """None: the cross-entropy of grey values is not a code length, however it is scaled."""
        return None


def _cross_entropy():  # type: ignore[no-untyped-def]
    """Return the function sum [x l - softplus(l)] with gradient x - sigmoid(l), for a CPU stream.

    Both are computed from exp(-|l|). These two passes take a fifth of the time of logaddexp and its
    automatic gradient.
    """
    stream = current_stream()

    @mx.custom_function
    def function(logits: mx.array, x: mx.array) -> mx.array:
        return (x * logits - _softplus_of(logits, _exp_minus_abs(logits))).sum(axis=(-3, -2, -1))

    @function.vjp
    def gradients(primals, cotangent, _):  # type: ignore[no-untyped-def]
        logits, x = primals
        with mx.stream(stream):
            cotangent = cotangent[..., None, None, None]
            return cotangent * (x - _sigmoid_of(logits, _exp_minus_abs(logits))), cotangent * logits

    return function


def _softplus():  # type: ignore[no-untyped-def]
    """Return the function log(1 + exp(x)) with gradient sigmoid(x), computed in the same way."""
    stream = current_stream()

    @mx.custom_function
    def function(x: mx.array) -> mx.array:
        return _softplus_of(x, _exp_minus_abs(x))

    @function.vjp
    def gradient(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
        with mx.stream(stream):
            return cotangent * _sigmoid_of(x, _exp_minus_abs(x))

    return function


def _exp_minus_abs(x: mx.array) -> mx.array:
    # On the CPU, a power of 2 is three times as fast as exp in MLX.
    return mx.power(2.0, mx.abs(x) * (-1 / math.log(2)))


def _softplus_of(x: mx.array, small: mx.array) -> mx.array:
    return mx.maximum(x, 0) + mx.log(1 + small)


def _sigmoid_of(x: mx.array, small: mx.array) -> mx.array:
    return mx.maximum(x > 0, small) / (1 + small)


class Gaussian(NamedTuple):
    """Independent Gaussian pixels with one fixed `sigma`; the decoder's output is the mean."""

    sigma: float

    def log_prob(self, mean: mx.array, x: mx.array) -> mx.array:
        """Return sum log N(x; mean, sigma^2) over H, W, C."""
        pixels = math.prod(x.shape[-3:])
        squared = ((x - mean) ** 2).sum(axis=(-3, -2, -1)) / self.sigma**2
        return -0.5 * squared - pixels * (0.5 * LOG_2PI + math.log(self.sigma))

    def mean(self, mean: mx.array) -> mx.array:
        """Return the expected pixels, clipped to [0, 1]."""
        return mx.clip(mean, 0, 1)

    def saturated_log_prob(self, x: mx.array) -> mx.array:
        """Return log p(x) of the saturated model, whose mean is x: the same for all images."""
        return self.log_prob(x, x)

    @property
    def log_bins(self) -> float | None:
        """Return log 255, or None if `sigma` is below 1/255.

        The density at k/255, times the distance 1/255 between values, is the probability of k. For
        a smaller `sigma` the 256 products no longer sum to 1. Compare Theis et al. 2016, section
        3.1, where bins have width 1.
        """
        return -math.log(BIN) if self.sigma >= BIN else None


class Logistic(nn.Module):
    """Independent logistic pixels in 256 bins, with one learned scale per channel.

    The decoder's output is the location. The probability of a bin is the difference of the
    distribution function at its two ends; the first and the last bin include everything beyond
    them. This is the only likelihood here that is a distribution over the 256 values, so its nats
    are the length of a lossless code.

    Source: Salimans et al. 2017, "PixelCNN++", eq. 2, with one component.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.log_scale = mx.full((channels,), FIRST_LOG_SCALE)

    def log_prob(self, location: mx.array, x: mx.array) -> mx.array:
        """Return sum log [F(x + 1/510) - F(x - 1/510)] over H, W, C."""
        inverse = mx.exp(-mx.clip(self.log_scale, *LOG_SCALE_RANGE))

        def summed(location: mx.array, x: mx.array) -> mx.array:
            # Uses F(a) - F(b) = F(a) F(-b) (1 - exp(b - a)): no difference of nearly equal numbers.
            softplus = _softplus() if on_cpu() else partial(mx.logaddexp, 0)
            centred = (x - location) * inverse
            above = softplus(-(centred + HALF_BIN * inverse))
            below = softplus(centred - HALF_BIN * inverse)
            width = mx.log(-mx.expm1(-2 * HALF_BIN * inverse))
            is_first, is_last = x < HALF_BIN, x > 1 - HALF_BIN
            inside = width - mx.where(is_last, 0, above) - mx.where(is_first, 0, below)
            return (inside - mx.where(is_first | is_last, width, 0)).sum(axis=(-3, -2, -1))

        return over_batch(summed, *mx.broadcast_arrays(location, x))

    def mean(self, location: mx.array) -> mx.array:
        """Return the location, clipped to [0, 1]: the expected pixels, except near 0 and 1."""
        return mx.clip(location, 0, 1)

    def saturated_log_prob(self, x: mx.array) -> mx.array:
        """Return log p(x) of the saturated model, whose location is x."""
        return self.log_prob(x, x)

    @property
    def log_bins(self) -> float:
        """0: `log_prob` already returns log probabilities of the 256 values."""
        return 0.0


Likelihood = Bernoulli | Gaussian | Logistic


def make_likelihood(name: str, sigma: float, channels: int) -> Likelihood:
    """Return the likelihood with the name that a configuration gives."""
    if name == "logistic":
        return Logistic(channels)
    return Bernoulli() if name == "bernoulli" else Gaussian(sigma)
