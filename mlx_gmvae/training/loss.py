"""What training minimises: the weighted bound and, for mixtures, pairs and samples beside it.

recon_weight * reconstruction + kl_weight * (kl_z + kl_w + kl_y)
    + pair_weight * L_pair + sample_weight * E[-log q(y | E[x|z])],  z ~ p(z|w,y)
"""

import dataclasses
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from ..clustering.heads import Heads
from ..clustering.objective import PairObjective
from ..clustering.parts import Grouping, Parts, Stage, groups_of_parts, num_parts
from ..config import TrainConfig
from ..data.batches import as_float
from ..data.images import Examples
from ..device import distributed
from ..device.parallel import on_cpu, side_by_side
from ..inputs import Batch, Inputs, pixels_of
from ..models.base import LatentVariableModel, MixtureModel
from .schedule import Weights

LESSON = 0.2  # of the epochs, over which parts teach ever less
BATCH_PER_SAMPLE = 4  # images in a batch for each sample that the classifier judges


class Objective:
    """The loss of `model` as `config` asks for it.

    `pairs` is the pair objective, `heads` the last layers that compete in it and `parts` those that
    `num_images` are first divided by, or None.
    """

    def __init__(self, model: LatentVariableModel, config: TrainConfig, num_images: int):
        self.model = model
        self.config = config
        self.heads: Heads | None = None
        self.parts: Parts | None = None
        self.pairs: PairObjective | None = None
        self.lesson: tuple[float, float] | None = None  # epochs in which parts teach ever less
        if config.pair_weight and isinstance(model, MixtureModel):
            if model.has_classifier and config.heads > 1:
                self.heads = Heads(model.classifier.out, config.heads)
            num = num_parts(model.config.K, config.parts, num_images)
            if model.has_classifier and config.balance == "auto" and num:
                self.parts = Parts(model.classifier.out, num)
            elif config.balance == "auto":  # without sub-clusters no sizes can be found
                self.config = config = dataclasses.replace(config, balance="uniform")
            self.pairs = PairObjective(
                model, config.balance, config.augment, self.heads, self.parts
            )

    @property
    def heads_compete(self) -> bool:
        """Whether q(y|x) ends in the best of several heads; not when parts teach it."""
        return self.pairs is None or self.pairs.stage != Stage.TEACHING

    @property
    def has_parts_to_group(self) -> bool:
        return self.parts is not None and self.parts.stage_now == Stage.DIVIDING

    def put_parts_together(
        self, images: Examples, neighbours: np.ndarray, epochs_done: float
    ) -> None:
        """By the neighbours of uint8 images; from here on they teach, unless q(y|x) agrees."""
        assert self.parts is not None and isinstance(self.model, MixtureModel)
        found = groups_of_parts(self.model, self.parts, images, neighbours)
        found = Grouping(*map(distributed.from_first, found))
        lesson = (epochs_done, epochs_done + LESSON * self.config.epochs)
        self.parts.put_together(found, lesson)
        self.follow_parts()

    def follow_parts(self) -> None:
        """Be at the stage that the parts are at: now, or in a state that was restored."""
        if self.pairs is not None and self.parts is not None:
            self.pairs.stage = self.parts.stage_now
            if self.pairs.stage != Stage.DIVIDING:
                start, end = np.array(self.parts.lesson).tolist()
                self.lesson = (start, end)
            if self.heads is not None and self.pairs.stage == Stage.AGREED:
                self.heads.settle()  # parts confirm this one

    def losses(
        self, x: Batch, partners: mx.array | None, weights: Weights
    ) -> tuple[mx.array, dict[str, mx.array]]:
        """The weighted loss and its terms, of uint8 images and, for pairs, their partners.

        Of the partners, what q(y|x) sees: images or features.
        """
        x = x._replace(pixels=as_float(x.pixels)) if isinstance(x, Inputs) else as_float(x)
        if self.pairs is None or partners is None:
            return self._bound(x, weights)
        # Drawn before, so that the pairs need not wait for what the bound draws.
        seen = self.pairs.model.classifier_inputs(x)
        drawn = self.pairs.draw(2 * len(seen))
        halves = [
            partial(self._bound, x, weights),
            partial(self._pairs, seen, as_float(partners), weights, self.pairs, drawn),
        ]
        # Convolutions gain more from parts of the batch, and exchanges between processes must
        # keep their order.
        together = self.model.config.arch == "mlp" and distributed.size() == 1
        (loss, terms), (pair_loss, pair_terms) = (
            side_by_side(*halves) if together else [half() for half in halves]
        )
        return loss + pair_loss, terms | pair_terms

    def _bound(self, x: Batch, weights: Weights) -> tuple[mx.array, dict[str, mx.array]]:
        """The weighted bound and, with pairs, how well samples are recognised."""
        q = self.model.posterior(x)
        if self.pairs:
            # Pairs alone decide q(y|x); the bound, which would blur it, takes it as given.
            q = self.pairs.model.given_clusters(q)
        judged = self.pairs.model if self.pairs and self.config.sample_weight else None
        if judged is not None and judged.has_classifier and not judged.sees_features:
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

    def _bound_and_samples(self, x: Batch, q: Any, model: MixtureModel) -> dict[str, mx.array]:
        """The terms of the bound, and how well samples are recognised."""
        num = max(1, len(pixels_of(x)) // BATCH_PER_SAMPLE)
        if on_cpu():
            terms = model.elbo(x, q).terms
            y, z = model.draw_samples(num)
            return terms | {"sample": model.disagreement(y, model.image(z))}
        y, of_samples = model.draw_samples(num)
        decoded: list[mx.array] = []

        def decode(z: mx.array) -> mx.array:
            """On a GPU with the samples in the same call, which launches fewer kernels."""
            if decoded:
                return model.decode(z)
            of_images, rest = mx.split(model.decode(mx.concatenate([z, of_samples])), [len(z)])
            decoded.append(rest)
            return of_images

        terms = model.elbo(x, q, decode).terms
        images = model.likelihood.mean(decoded[0])
        return terms | {"sample": model.disagreement(y, images)}

    def _pairs(
        self,
        x: mx.array,
        partners: mx.array,
        weights: Weights,
        pairs: PairObjective,
        drawn: mx.array | None,
    ) -> tuple[mx.array, dict[str, mx.array]]:
        """The weighted pair objective and its terms."""
        loss, terms = pairs.train_terms(x, partners, weights.balance, weights.teaching, drawn)
        return self.config.pair_weight * loss, terms
