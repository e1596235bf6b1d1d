"""The clustering objective: the loss of q(y|x) on pairs of neighbours, for each training phase.

The ELBO alone penalises the information that clustering needs: averaged over images,
KL(q(y|x) || 1/K) = I(x;y) + KL(mean q(y|x) || 1/K). The pair loss (SCAN, arXiv:2005.12320) keeps
the balance and rewards agreement instead. No labels are used. Several heads, of which the one with
the lowest loss is used, are an idea of Ji et al. 2019 (IIC, arXiv:1807.06653). New here is how
clusters of unequal sizes are learned: sub-clusters are merged by their neighbours. If the result
differs from q(y|x), they teach it by a pseudo-label loss,

    L_pseudo = mean[-sum_y p(y|T'x') log q(y|Tx)],  p(y|x) = sum of q over the sub-clusters of y

and from then on the expected sizes are those of the merged clusters.
"""

from collections.abc import Callable
from typing import NamedTuple

import mlx.core as mx

from ..device import distributed
from ..models.distributions import log_responsibilities
from ..models.mixture_model import MixtureModel
from .augment import Augmentation, kinds_of, without_strokes
from .heads import Heads
from .pair_loss import batch_terms, log_balance_prior, of_equal_size, pair_loss
from .phases import Phase
from .sub_clusters import SubClusters

Terms = dict[str, mx.array]


class Weights(NamedTuple):
    """Weights of the loss terms in one step, as arrays: Python floats would retrace the step.

    It is a NamedTuple, because that passes through `mx.compile` and `value_and_grad`.
    """

    kl: mx.array  # of the KL terms of the bound
    balance: mx.array  # lambda of the pair loss
    distillation: mx.array  # of the sub-clusters, once they are merged


class PairObjective:
    """Losses of a mixture model's q(y|x) on pairs, by phase.

    `balance` is "auto" or "uniform", "free" (uniform, and lambda falls during training), or K
    comma-separated numbers. Each of `heads` replaces the classifier's last layer and has its own
    loss. `loss` maps a phase to a function of augmented inputs of q(y|x), (2 B, H, W, C) or
    (2 B, F), and of the weights. The first half of the inputs are images (or features), the second
    half their partners. The function returns a scalar to minimise and named terms, nats.
    """

    def __init__(
        self,
        model: MixtureModel,
        balance: str,
        augment: str,
        heads: Heads | None = None,
        sub_clusters: SubClusters | None = None,
    ):
        self.model = model
        self.log_prior = log_balance_prior(balance, model.config.K)
        self.heads = heads
        self.sub_clusters = sub_clusters
        kinds = kinds_of(augment)
        strong, gentle = Augmentation(kinds), Augmentation(without_strokes(kinds))
        # After the merge there are no strokes: style may separate clusters again.
        self.augmentation: dict[Phase, Augmentation] = {
            "pairs": strong, "overcluster": strong, "distil": gentle, "refine": gentle,
        }  # fmt: skip
        self.loss: dict[Phase, Callable[[mx.array, Weights], tuple[mx.array, Terms]]] = {
            "pairs": self.pairs,
            "overcluster": self.overcluster,
            "distil": self.distil,
            "refine": self.pairs,
        }

    def pairs(self, x: mx.array, weights: Weights) -> tuple[mx.array, Terms]:
        """Return L_pair of q(y|x), or its mean over the heads, and the terms."""
        if self.heads is None:
            (terms,) = batch_terms([(self.model.log_probabilities_of(x), self.log_prior)])
            return pair_loss(terms, weights.balance), terms
        log_q = log_responsibilities(self.heads(self.model.classifier.features(x)))
        (terms,) = batch_terms([(log_q, self.log_prior)])
        return self._of_heads(self.heads, terms, weights), self._of_chosen(terms)

    def overcluster(self, x: mx.array, weights: Weights) -> tuple[mx.array, Terms]:
        """Return L_pair of q(y|x), or its mean over the heads, plus that of equal sub-clusters."""
        assert self.sub_clusters is not None
        features = self.model.classifier.features(x)
        head = self.model.classifier.out if self.heads is None else self.heads
        log_q = log_responsibilities(head(features))
        sub_clusters = of_equal_size(self.sub_clusters(features))
        terms, sub_terms = batch_terms([(log_q, self.log_prior), sub_clusters])
        loss = self._of_heads(self.sub_clusters, sub_terms, weights)
        if self.heads is None:
            return loss + pair_loss(terms, weights.balance), terms
        return loss + self._of_heads(self.heads, terms, weights), self._of_chosen(terms)

    def distil(self, x: mx.array, weights: Weights) -> tuple[mx.array, Terms]:
        """Return a (L_pair of sub-clusters + L_pseudo) + (1 - a) L_pair, and the terms of L_pair.

        a is the distillation weight. L_pair expects the sizes of the merged clusters.
        """
        assert self.sub_clusters is not None
        features = self.model.classifier.features(x)
        log_q = log_responsibilities(self.model.classifier.out(features))
        log_sizes = mx.log(self.sub_clusters.sizes)
        sub_clusters = of_equal_size(self.sub_clusters(features))
        terms, sub_terms = batch_terms([(log_q, log_sizes), sub_clusters])
        a = weights.distillation
        loss = a * self._of_heads(self.sub_clusters, sub_terms, weights)
        loss = loss + a * pseudo_label_loss(self.sub_clusters.probabilities(features), log_q)
        return loss + (1 - a) * pair_loss(terms, weights.balance), terms

    def sub_cluster_loss(self, x: mx.array, weights: Weights) -> mx.array:
        """Return L_pair of the sub-clusters alone, which --K auto minimises."""
        assert self.sub_clusters is not None
        features = self.model.classifier.features(x)
        (terms,) = batch_terms([of_equal_size(self.sub_clusters(features))])
        return self._of_heads(self.sub_clusters, terms, weights)

    def _of_heads(self, heads: Heads, terms: Terms, weights: Weights) -> mx.array:
        """Return the mean of L_pair over heads, which record their losses."""
        losses = pair_loss(terms, weights.balance)
        if heads.training:
            # With several processes, running losses are averaged together with the gradients.
            (heads.record if distributed.size() == 1 else heads.follow)(losses)
        return losses.mean()

    def _of_chosen(self, terms: Terms) -> Terms:
        assert self.heads is not None
        return {name: of_heads[self.heads.chosen] for name, of_heads in terms.items()}

    def draw(self, phase: Phase, num: int) -> mx.array | None:
        """Draw the random numbers that augment `num` images; None where nothing is augmented."""
        return None if self.model.sees_features else self.augmentation[phase].draw(num)

    def augmented(self, phase: Phase, images: mx.array, drawn: mx.array | None = None) -> mx.array:
        """Augment float images; small ones are enlarged first, since rotating few pixels blurs.

        Features of a frozen encoder are not augmented.
        """
        if self.model.sees_features:
            return images
        if self.model.has_classifier:
            images = self.model.classifier.enlarged(images)
        return self.augmentation[phase](images, drawn)


def pseudo_label_loss(known: mx.array, log_q: mx.array) -> mx.array:
    """Return L_pseudo of p(y|x), not differentiated, and log q(y|x), (2 B, K).

    The first half belongs to images, the second to their partners. The target of each image is p of
    its partner, and of each partner that of its image.
    """
    known = mx.stop_gradient(known)
    half = len(known) // 2
    partners = mx.concatenate([known[half:], known[:half]])
    return -(partners * log_q).sum(axis=-1).mean()
