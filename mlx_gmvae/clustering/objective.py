"""Neighbour pairs: the objective that makes q(y|x) a clustering.

The ELBO alone penalises the information that clustering needs: averaged over images,
KL(q(y|x) || 1/K) = I(x;y) + KL(mean q(y|x) || 1/K). This term keeps the balance and rewards
agreement instead. An image x and one of its nearest neighbours x' are distorted, and

    L_pair = mean[-log sum_y q(y|Tx) q(y|T'x')] + balance * KL(mean q(y|.) || p(y)) - log K

where p(y) are the sizes to expect. For uniform ones the KL is log K - H(mean q(y|.)), so that a
balance of 1 makes it the disagreement less the entropy of the mean, as in mutual information.
No labels are used. Which images are neighbours, `neighbours` finds.
"""

import math

import mlx.core as mx
import numpy as np

from ..config import TrainConfig
from ..device import distributed
from ..errors import InputError
from ..models.base import MixtureModel
from ..models.distributions import log_responsibilities
from .augment import draw_maps, random_affine
from .heads import Heads

SPREAD_FIRST = 0.25  # of the epochs, in which free clusters are still asked to be of equal size
FREE_BALANCE = 0.8


def balance_weight(config: TrainConfig, epochs_done: float) -> float:
    """The pair objective's lambda: `pair_balance`, or with free sizes falling from there to 0.8.

    1 is what mutual information asks for; a little less, and components that share their
    neighbours are given up. From the start that would let classes merge which a first spread over
    all components keeps apart.
    """
    if config.balance != "free":
        return config.pair_balance
    fall = min(1.0, epochs_done / (SPREAD_FIRST * config.epochs))
    return config.pair_balance + fall * (FREE_BALANCE - config.pair_balance)


class PairObjective:
    """The loss above on a mixture model's q(y|x), for a balance prior over K components.

    `balance` is "uniform", "free" (uniform, and lambda falls during training), or K numbers with
    commas between them. With `heads`, each of them in place of the classifier's last layer has
    terms of its own.
    """

    def __init__(
        self,
        model: MixtureModel,
        balance: str,
        augment: str,
        heads: Heads | None = None,
    ):
        self.model = model
        self.log_prior = log_balance_prior(balance, model.config.K)
        self.distorts = augment == "affine"
        self.heads = heads

    def draw(self, num: int) -> mx.array | None:
        """The distortions of `num` images and their partners, or None."""
        return draw_maps(2 * num) if self.distorts else None

    def distort(self, x: mx.array, maps: mx.array | None = None) -> mx.array:
        """Images as the classifier sees them in training, by `draw`'s maps or new ones."""
        return random_affine(x, maps) if self.distorts else x

    def terms(
        self, x: mx.array, partners: mx.array, maps: mx.array | None = None
    ) -> dict[str, mx.array]:
        """The parts of the loss on float images (B, H, W, C) and their partners, nats.

        Scalars, or one number per head.
        """
        pairs = self.distort(mx.concatenate([x, partners]), maps)
        if self.heads is None:
            log_q = self.model.log_cluster_probabilities(pairs)
        else:
            log_q = log_responsibilities(self.heads(self.model.classifier.features(pairs)))
        return pair_terms(log_q[: len(x)], log_q[len(x) :], self.log_prior)

    def loss(self, terms: dict[str, mx.array], weight: float | mx.array) -> mx.array:
        """The loss above, for balance = `weight`.

        Of its KL terms one comes with the constant, as the entropy that `pair_terms` explains.
        """
        return terms["pair"] - terms["entropy"] + (weight - 1) * terms["imbalance"]

    def train_terms(
        self, x: mx.array, partners: mx.array, weight: mx.array, maps: mx.array | None = None
    ) -> tuple[mx.array, dict[str, mx.array]]:
        """The scalar to minimise, a mean over heads, and the terms of the head in use."""
        terms = self.terms(x, partners, maps)
        losses = self.loss(terms, weight)
        if self.heads is None:
            return losses, terms
        if self.heads.training:
            self.heads.record(distributed.average(mx.stop_gradient(losses)))
        return losses.mean(), {name: each[self.heads.chosen] for name, each in terms.items()}


def pair_terms(
    log_q: mx.array, log_q_partner: mx.array, log_prior: mx.array
) -> dict[str, mx.array]:
    """Disagreement of pairs, entropy of the mean, and its KL from the prior, nats.

    The entropy is relative to the prior, log K - KL(mean || prior), so that it is largest where the
    mean is the prior; for a uniform prior it is the plain one, H(mean).

    Of log q(y|x), (B, ..., K), and of the partners': each term has the shape between.
    """
    mean = 0.5 * (mx.exp(log_q).mean(axis=0) + mx.exp(log_q_partner).mean(axis=0))
    log_mean = mx.log(mx.maximum(mean, 1e-12))
    entropy = -(mean * log_mean).sum(axis=-1)
    # Exactly 0 for a uniform prior, which so trains as if there were no other.
    log_skew = log_prior + math.log(log_prior.size)
    return {
        "pair": -mx.logsumexp(log_q + log_q_partner, axis=-1).mean(axis=0),
        "entropy": entropy + mean @ log_skew,
        "imbalance": -entropy - mean @ log_prior,
    }


def log_balance_prior(balance: str, num_components: int) -> mx.array:
    """log p(y), (K,), from its name or its numbers. Raises InputError."""
    if balance in ("uniform", "free"):
        return mx.full((num_components,), -math.log(num_components))
    try:
        shares = np.array([float(part) for part in balance.split(",")])
    except ValueError:
        raise InputError(
            f"balance is {balance!r}; it must be uniform, free, or numbers with commas between"
        ) from None
    if len(shares) != num_components or not (np.isfinite(shares).all() and (shares > 0).all()):
        raise InputError(f"balance must be {num_components} numbers above 0, one per component")
    return mx.array(np.log(shares / shares.sum()))
