"""Configuration of training."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import InputError
from .record import Record, require_choice, require_positive, require_range

LR_SCHEDULES = ("cosine", "constant")
PAIR_OPTIONS = (
    "pair_balance", "balance", "sub_clusters", "neighbours", "descriptor", "features", "augment",
    "heads", "sample_weight",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class TrainConfig(Record):
    """How a model is trained. Weights multiply terms in nats per example.

    `kl_anneal` is the number of epochs over which the KL weight rises linearly from 0. With
    "cosine" the learning rate falls from `lr` to 0 over all epochs, or between the
    refits of the mixture: `vade` fits it once after `pretrain_epochs`, `vae-gmm` after
    each of `mutual_iterations` + 1 equal shares of the epochs. `early_stopping` holds out a tenth
    of the training images and ends the run when their bound has not improved for so many epochs.
    The fields from `pair_weight` on concern the neighbour-pair objective (see `clustering`); a
    weight of 0 turns it off and leaves the plain ELBO. `features` is a file in the place of the
    descriptor.
    """

    RENAMED: ClassVar[dict[str, str]] = {"parts": "sub_clusters"}

    epochs: int = 10
    batchsize: int = 256
    lr: float = 1e-3
    lr_schedule: str = "cosine"
    seed: int = 0
    recon_weight: float = 1.0
    kl_weight: float = 1.0
    kl_anneal: int = 0
    clip_grad: float | None = None
    early_stopping: int | None = None
    pretrain_epochs: int | None = None
    mutual_iterations: int | None = None
    pair_weight: float = 1.0
    pair_balance: float = 2.0
    balance: str = "auto"
    sub_clusters: int = 5
    neighbours: int = 10
    descriptor: str = "auto"
    features: str | None = None
    augment: str = "auto"
    heads: int = 20
    sample_weight: float = 3.0

    def effective(self) -> dict[str, Any]:
        """The options in use, which with a pair_weight of 0 are none of the pairs'."""
        hidden: tuple[str, ...] = () if self.pair_weight else PAIR_OPTIONS
        if self.features:
            hidden = (*hidden, "descriptor")
        return {
            name: value
            for name, value in self.to_dict().items()
            if value is not None and name not in hidden
        }

    @property
    def refits(self) -> list[int]:
        """The epochs after which the mixture is fitted to the latents, in rising order."""
        if self.mutual_iterations is not None:
            shares = self.mutual_iterations + 1
            return [math.ceil(self.epochs * share / shares) for share in range(1, shares + 1)]
        return [self.pretrain_epochs] if self.pretrain_epochs else []

    def validate(self) -> None:
        require_range("epochs", self.epochs, 1, 1_000_000)
        require_range("batchsize", self.batchsize, 1, 1_000_000)
        require_range("seed", self.seed, 0, 2**32 - 1)
        require_range("early_stopping", self.early_stopping, 1, 1_000_000)
        for name in ("pretrain_epochs", "mutual_iterations", "kl_anneal"):
            require_range(name, getattr(self, name), 0, 1_000_000)
        require_positive("lr", self.lr)
        require_positive("clip_grad", self.clip_grad)
        require_choice("lr_schedule", self.lr_schedule, LR_SCHEDULES)
        require_range("neighbours", self.neighbours, 0, 1000)
        require_range("heads", self.heads, 1, 1000)
        require_range("sub_clusters", self.sub_clusters, 1, 100)
        for name in ("recon_weight", "kl_weight", "pair_weight", "pair_balance", "sample_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} is {value}; it must be a number >= 0")
