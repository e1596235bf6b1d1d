"""The pair loss of SCAN: its terms, and the expected sizes of clusters.

An image x and one of its nearest neighbours x' are augmented (T, T'), and

    L_pair = mean[-log sum_y q(y|Tx) q(y|T'x')] + balance * KL(mean q(y|.) || p(y)) - log K

where p(y) are the expected sizes. For uniform sizes the KL is log K - H(mean q(y|.)): this is the
loss of Van Gansbeke et al. 2020 (SCAN, arXiv:2005.12320, eq. 2). A balance of 1 is that of mutual
information.
"""

import math

import mlx.core as mx
import numpy as np

from ..device import distributed
from ..errors import InputError
from ..models.distributions import log_responsibilities

BALANCES = ("auto", "uniform", "free")


def pair_loss(terms: dict[str, mx.array], balance: float | mx.array) -> mx.array:
    """Return L_pair of `pair_terms`, nats.

    The entropy of `pair_terms` is log K - KL, so it contains one KL term and the constant.
    """
    return terms["pair"] - terms["entropy"] + (balance - 1) * terms["imbalance"]


def pair_terms(
    log_q: mx.array,
    log_q_partner: mx.array,
    log_prior: mx.array,
    mean: mx.array | None = None,
) -> dict[str, mx.array]:
    """Return the disagreement of pairs, the entropy of the mean, and its KL from the prior, nats.

    The entropy is relative to the prior, log K - KL(mean || prior), so it is largest where the mean
    equals the prior. For a uniform prior it is H(mean).

    log q(y|x) of images and of partners are (B, ..., K), and each term has the axes between. `mean`
    is the mean of q(y|x) over a larger batch, of which these images are a shard, (..., K).
    """
    if mean is None:
        mean = mean_probabilities(log_q, log_q_partner)
    log_mean = mx.log(mx.maximum(mean, 1e-12))
    entropy = -(mean * log_mean).sum(axis=-1)
    # Exactly 0 for a uniform prior, so that training is the same as without a prior.
    log_skew = log_prior + math.log(log_prior.size)
    return {
        "pair": -mx.logsumexp(log_q + log_q_partner, axis=-1).mean(axis=0),
        "entropy": entropy + mean @ log_skew,
        "imbalance": -entropy - mean @ log_prior,
    }


def mean_probabilities(log_q: mx.array, log_q_partner: mx.array) -> mx.array:
    """Return the mean of q(y|x) over images and partners, (..., K), from log q (B, ..., K)."""
    return 0.5 * (mx.exp(log_q).mean(axis=0) + mx.exp(log_q_partner).mean(axis=0))


def batch_terms(asked: list[tuple[mx.array, mx.array]]) -> list[dict[str, mx.array]]:
    """Return `pair_terms` of each log q (2 B, ..., K) and log p (K,), over all processes.

    The first half of log q belongs to images, the second to their partners. Processes average their
    means of q in one exchange, since the entropy of the mean over a shard of the batch is lower
    than over the whole batch.
    """
    halves = [(log_q[: len(log_q) // 2], log_q[len(log_q) // 2 :]) for log_q, _ in asked]
    means = distributed.shared_means([mean_probabilities(*each) for each in halves])
    return [
        pair_terms(*each, log_prior, mean)
        for each, (_, log_prior), mean in zip(halves, asked, means, strict=True)
    ]


def of_equal_size(logits: mx.array) -> tuple[mx.array, mx.array]:
    """Return log q (2 B, ..., K) of logits, and log p (K,) of equal sizes."""
    return log_responsibilities(logits), log_balance_prior("uniform", logits.shape[-1])


def log_balance_prior(balance: str, num_components: int) -> mx.array:
    """Return log p(y), (K,), from the name or the numbers in `balance`. Raises InputError."""
    if balance in BALANCES:
        return mx.full((num_components,), -math.log(num_components))
    try:
        shares = np.array([float(part) for part in balance.split(",")])
    except ValueError:
        raise InputError(
            f"balance is {balance!r}; it must be {', '.join(BALANCES)}, or a comma-separated list "
            "of numbers"
        ) from None
    if len(shares) != num_components or not (np.isfinite(shares).all() and (shares > 0).all()):
        raise InputError(f"balance must be {num_components} numbers above 0, one per component")
    return mx.array(np.log(shares / shares.sum()))
