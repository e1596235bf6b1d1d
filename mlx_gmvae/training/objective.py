"""The training objective: the weighted bound and, for mixtures, the pair and sample terms.

recon_weight * reconstruction + kl_weight * (kl_z + kl_w + kl_y)
    + pair_weight * L + sample_weight * E[-log q(y | E[x|z])],  z ~ p(z|w,y)

L is the clustering objective of the phase (see `clustering.pair_objective`). The sample term, in
which the classifier judges samples of each component, is new here.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import mlx.core as mx

from ..clustering.heads import Heads
from ..clustering.pair_objective import PairObjective, Terms, Weights
from ..clustering.phases import Phase
from ..clustering.sub_clusters import SubClusters, num_sub_clusters
from ..config import TrainConfig
from ..data.batches import as_float
from ..device import distributed
from ..device.parallel import on_cpu, side_by_side
from ..inputs import Batch, Inputs, WithFeatures, pixels_of
from ..models.base import LatentVariableModel
from ..models.mixture_model import MixtureModel

BATCH_PER_SAMPLE = 4  # images in a batch for each sample that the classifier judges
Loss = Callable[[Batch, Weights], tuple[mx.array, Terms]]


class Objective:
    """The loss of `model` in each phase, for the options in `config`.

    `loss` maps each possible phase to a function of a batch and weights. It returns the scalar to
    minimise and its named terms, nats per image. Assign another function to use a loss of your own.
    `pairs` is the clustering objective, `heads` are its competing last layers and `sub_clusters` is
    the over-clustering head, or None. `clusters_first` says that q(y|x) is trained before the first
    step, on features of a frozen encoder.
    """

    def __init__(self, model: LatentVariableModel, config: TrainConfig, num_images: int):
        self.model = model
        self.config = config
        self.heads: Heads | None = None
        self.sub_clusters: SubClusters | None = None
        self.pairs: PairObjective | None = None
        self.loss: dict[Phase, Loss] = {"elbo": self.bound}
        self.clusters_first = bool(
            config.pair_weight and isinstance(model, MixtureModel) and model.sees_features
        )
        if config.pair_weight and isinstance(model, MixtureModel) and not self.clusters_first:
            if model.has_classifier and config.heads > 1:
                self.heads = Heads(model.classifier.out, config.heads)
            num = num_sub_clusters(model.config.K, config.sub_clusters, num_images)
            if model.has_classifier and config.balance == "auto" and num:
                self.sub_clusters = SubClusters(model.classifier.out, num)
            self.pairs = PairObjective(
                model, config.balance, config.augment, self.heads, self.sub_clusters
            )
            phases: tuple[Phase, ...] = ("pairs",)
            if self.sub_clusters is not None:
                phases = ("overcluster", "distil", "refine")
            self.loss = {phase: partial(self.bound_and_pairs, phase) for phase in phases}

    def bound(self, batch: Batch, weights: Weights) -> tuple[mx.array, Terms]:
        """Return the weighted bound alone, and its terms."""
        return self._bound(_as_float(batch.images), weights)

    def bound_and_pairs(
        self, phase: Phase, batch: Batch, weights: Weights
    ) -> tuple[mx.array, Terms]:
        """Return the weighted bound, the sample term and the clustering objective of a phase."""
        assert self.pairs is not None and batch.partners is not None
        x, partners, pairs = _as_float(batch.images), batch.partners, self.pairs
        # Drawn first, so that the pairs need not wait for the random numbers of the bound.
        seen = pairs.model.classifier_inputs(x)
        drawn = pairs.draw(phase, 2 * len(seen))

        def clustering() -> tuple[mx.array, Terms]:
            both = mx.concatenate([seen, as_float(partners)])
            loss, terms = pairs.loss[phase](pairs.augmented(phase, both, drawn), weights)
            return self.config.pair_weight * loss, terms

        halves: list[Callable[[], tuple[mx.array, Terms]]]
        halves = [partial(self._bound, x, weights), clustering]
        # Not with convolutions, which gain more when the batch is split, and not with several
        # processes, whose exchanges must keep their order.
        together = self.model.config.arch == "mlp" and distributed.size() == 1
        (loss, terms), (pair_loss, pair_terms) = (
            side_by_side(*halves) if together else [half() for half in halves]
        )
        return loss + pair_loss, terms | pair_terms

    def _bound(self, x: Inputs, weights: Weights) -> tuple[mx.array, Terms]:
        """Return the weighted bound and, with pairs, the sample term."""
        q = self.model.posterior(x)
        if isinstance(self.model, MixtureModel) and (self.pairs or self.clusters_first):
            # Only pairs train q(y|x). The bound would blur it, so here q(y|x) is constant.
            q = self.model.given_clusters(q)
        judged = self.pairs.model if self.pairs and self.config.sample_weight else None
        if judged is not None and judged.has_classifier:
            terms = self._bound_and_samples(x, q, judged)
        else:
            terms = self.model.elbo(x, q).terms
        loss = mx.array(0.0)
        factors = {
            "reconstruction": self.config.recon_weight,
            "sample": self.config.sample_weight,
        }
        for name, value in terms.items():
            loss = loss + factors.get(name, weights.kl) * value
        return loss, terms

    def _bound_and_samples(self, x: Inputs, q: Any, model: MixtureModel) -> Terms:
        """Return the terms of the bound, and the sample term."""
        num = max(1, len(pixels_of(x)) // BATCH_PER_SAMPLE)
        if on_cpu():
            terms = model.elbo(x, q).terms
            y, z = model.draw_samples(num)
            return terms | {"sample": model.disagreement(y, model.image(z))}
        y, of_samples = model.draw_samples(num)
        decoded: list[mx.array] = []

        def decode(z: mx.array) -> mx.array:
            """Decode z and, once, the samples in the same call, which launches fewer kernels."""
            if decoded:
                return model.decode(z)
            of_images, rest = mx.split(model.decode(mx.concatenate([z, of_samples])), [len(z)])
            decoded.append(rest)
            return of_images

        terms = model.elbo(x, q, decode).terms
        images = model.likelihood.mean(decoded[0])
        return terms | {"sample": model.disagreement(y, images)}


def _as_float(x: Inputs) -> Inputs:
    return x._replace(pixels=as_float(x.pixels)) if isinstance(x, WithFeatures) else as_float(x)
