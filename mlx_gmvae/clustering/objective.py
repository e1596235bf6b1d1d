"""Neighbour pairs: the objective that makes q(y|x) a clustering.

The ELBO alone penalises the information that clustering needs: averaged over images,
KL(q(y|x) || 1/K) = I(x;y) + KL(mean q(y|x) || 1/K). This term keeps the balance and rewards
agreement instead. An image x and one of its nearest neighbours x' are distorted, and

    L_pair = mean[-log sum_y q(y|Tx) q(y|T'x')] + balance * KL(mean q(y|.) || p(y)) - log K

where p(y) are the sizes to expect. For uniform ones the KL is log K - H(mean q(y|.)), so that a
balance of 1 makes it the disagreement less the entropy of the mean, as in mutual information.
No labels are used. Which images are neighbours, `neighbours` finds. With `parts` the same loss
also makes many small parts. If the clusters that those are put together to are others than those
of q(y|x), as where classes are of unequal size, q(y|x) learns them from then on:

    L_taught = mean[-sum_y p(y|T'x') log q(y|Tx)],  p(y|x) = sum of q(part|x) over the parts of y

and when it has, goes on by L_pair with the sizes that were found as those to expect.
"""

import math

import mlx.core as mx
import numpy as np

from ..config import TrainConfig
from ..device import distributed
from ..errors import InputError
from ..models.base import MixtureModel
from ..models.distributions import log_responsibilities
from .augment import Augmentation, kinds_of, without_strokes
from .heads import Heads
from .parts import Parts, Stage

BALANCES = ("auto", "uniform", "free")
GROUPED = 0.4  # of the epochs, after which parts are put together
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


def is_time_to_group(config: TrainConfig, epoch: int) -> bool:
    """Whether parts are to be put together after so many epochs."""
    return epoch >= GROUPED * config.epochs


class PairObjective:
    """The loss above on a mixture model's q(y|x), for a balance prior over K components.

    `balance` is "auto" or "uniform", "free" (uniform, and lambda falls during training), or K
    numbers with commas between them. With `heads`, each of them in place of the classifier's last
    layer has terms of its own. With `parts`, the heads are asked until those are grouped.
    """

    def __init__(
        self,
        model: MixtureModel,
        balance: str,
        augment: str,
        heads: Heads | None = None,
        parts: Parts | None = None,
    ):
        self.model = model
        self.log_prior = log_balance_prior(balance, model.config.K)
        kinds = kinds_of(augment)
        self._first, self._then = Augmentation(kinds), Augmentation(without_strokes(kinds))
        self.heads = heads
        self.parts = parts
        self.stage = Stage.DIVIDING

    @property
    def distort(self) -> Augmentation:
        """How images and partners are distorted: more gently once clusters are known."""
        return self._first if self.stage == Stage.DIVIDING else self._then

    def draw(self, num: int) -> mx.array | None:
        """What tells the distortions of `num` images apart; None where there are none."""
        return None if self.model.sees_features else self.distort.draw(num)

    def distorted(self, images: mx.array, drawn: mx.array | None = None) -> mx.array:
        """Float images by `distort`; small ones are enlarged first, as turning few pixels blurs.

        Features of a frozen encoder stay as they are.
        """
        if self.model.sees_features:
            return images
        if self.model.has_classifier:
            images = self.model.classifier.enlarged(images)
        return self.distort(images, drawn)

    def train_terms(
        self,
        x: mx.array,
        partners: mx.array,
        balance: mx.array,
        teaching: mx.array,
        drawn: mx.array | None = None,
    ) -> tuple[mx.array, dict[str, mx.array]]:
        """The scalar to minimise, and the terms of q(y|x) as it is in use, nats.

        Of what q(y|x) sees of images and of their partners: float pixels (B, H, W, C), distorted
        by `drawn` or at random, or features (B, F).
        `balance` and `teaching` are the weights of this step.
        """
        pairs = self.distorted(mx.concatenate([x, partners]), drawn)
        if self.heads is None and self.parts is None:
            log_q = self.model.log_probabilities_of(pairs)
            (terms,) = _shared_terms([(log_q, self.log_prior)])
            return self.loss(terms, balance), terms
        features = self.model.classifier.features(pairs)
        is_taught = self.parts is not None and self.stage == Stage.TEACHING
        layer = self.model.classifier.out if is_taught or self.heads is None else self.heads
        asked = [(log_responsibilities(layer(features)), self._log_sizes())]
        if self.parts is not None and self.stage in (Stage.DIVIDING, Stage.TEACHING):
            asked.append(_of_equal_size(self.parts(features)))
        terms, *of_parts = _shared_terms(asked)
        loss = mx.array(0.0)
        if self.parts is not None and of_parts:
            loss = teaching * self._recorded(self.parts, self.loss(of_parts[0], balance)).mean()
        if self.heads is not None and not is_taught:
            losses = self._recorded(self.heads, self.loss(terms, balance))
            return loss + losses.mean(), {n: t[self.heads.chosen] for n, t in terms.items()}
        if self.parts is not None and is_taught:
            loss = loss + teaching * self._taught(self.parts, features, asked[0][0])
            return loss + (1 - teaching) * self.loss(terms, balance), terms
        return loss + self.loss(terms, balance), terms

    def terms(self, log_q: mx.array) -> dict[str, mx.array]:
        """The parts of the loss, of log q(y|x) (2 B, ..., K) of images and then partners, nats.

        Scalars, or one number per head.
        """
        half = len(log_q) // 2
        return pair_terms(log_q[:half], log_q[half:], self._log_sizes())

    def _log_sizes(self) -> mx.array:
        """log p(y), (K,): the sizes to expect, which are those that were found if there are any."""
        if self.parts is not None and self.stage == Stage.TEACHING:
            return mx.log(self.parts.sizes)
        return self.log_prior

    def loss(self, terms: dict[str, mx.array], weight: float | mx.array) -> mx.array:
        """The loss above, for balance = `weight`.

        Of its KL terms one comes with the constant, as the entropy that `pair_terms` explains.
        """
        return terms["pair"] - terms["entropy"] + (weight - 1) * terms["imbalance"]

    def part_loss(self, x: mx.array, partners: mx.array, weight: mx.array) -> mx.array:
        """The loss above for the parts alone, of distorted images and their partners."""
        assert self.parts is not None
        pairs = self.distorted(mx.concatenate([x, partners]))
        asked = [_of_equal_size(self.parts(self.model.classifier.features(pairs)))]
        (terms,) = _shared_terms(asked)
        return self._recorded(self.parts, self.loss(terms, weight)).mean()

    def _recorded(self, heads: Heads, losses: mx.array) -> mx.array:
        if heads.training:
            # Running losses of several processes are averaged together with the gradients.
            (heads.record if distributed.size() == 1 else heads.follow)(losses)
        return losses

    def _taught(self, parts: Parts, features: mx.array, log_q: mx.array) -> mx.array:
        """L_taught, of log q(y|x) (2 B, K) of images and then partners."""
        known = mx.stop_gradient(parts.clusters(features))
        half = len(known) // 2
        partners = mx.concatenate([known[half:], known[:half]])
        return -(partners * log_q).sum(axis=-1).mean()


def _of_equal_size(logits: mx.array) -> tuple[mx.array, mx.array]:
    """Return log q (2 B, ..., K) of logits, and the log p (K,) of equal sizes."""
    return log_responsibilities(logits), log_balance_prior("uniform", logits.shape[-1])


def _shared_terms(asked: list[tuple[mx.array, mx.array]]) -> list[dict[str, mx.array]]:
    """Return `pair_terms` of each log q (2 B, ..., K) and log p (K,), over all processes.

    They exchange their means of q at once. The entropy of the mean over one share of a batch is
    lower, the more the smaller the share is.
    """
    halves = [(log_q[: len(log_q) // 2], log_q[len(log_q) // 2 :]) for log_q, _ in asked]
    means = distributed.shared_means([mean_probabilities(*each) for each in halves])
    return [
        pair_terms(*each, log_prior, mean)
        for each, (_, log_prior), mean in zip(halves, asked, means, strict=True)
    ]


def mean_probabilities(log_q: mx.array, log_q_partner: mx.array) -> mx.array:
    """Return the mean of q(y|x) over images and partners, (..., K), from log q (B, ..., K)."""
    return 0.5 * (mx.exp(log_q).mean(axis=0) + mx.exp(log_q_partner).mean(axis=0))


def pair_terms(
    log_q: mx.array,
    log_q_partner: mx.array,
    log_prior: mx.array,
    mean: mx.array | None = None,
) -> dict[str, mx.array]:
    """Disagreement of pairs, entropy of the mean, and its KL from the prior, nats.

    The entropy is relative to the prior, log K - KL(mean || prior), so that it is largest where the
    mean is the prior; for a uniform prior it is the plain one, H(mean).

    Of log q(y|x), (B, ..., K), and of the partners': each term has the shape between. `mean` is
    that of q(y|x) over a larger batch of which these images are a share, (..., K).
    """
    if mean is None:
        mean = mean_probabilities(log_q, log_q_partner)
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
    if balance in BALANCES:
        return mx.full((num_components,), -math.log(num_components))
    try:
        shares = np.array([float(part) for part in balance.split(",")])
    except ValueError:
        raise InputError(
            f"balance is {balance!r}; it must be {', '.join(BALANCES)}, or numbers with commas "
            "between"
        ) from None
    if len(shares) != num_components or not (np.isfinite(shares).all() and (shares > 0).all()):
        raise InputError(f"balance must be {num_components} numbers above 0, one per component")
    return mx.array(np.log(shares / shares.sum()))
