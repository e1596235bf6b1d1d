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
    """Configuration of a training.

    Weights multiply terms in nats per example. The parameters from `pair_weight` on belong to the
    clustering objective of neighbour pairs. Instances cannot be changed; `dataclasses.replace`
    returns a changed copy. A value of the wrong type or out of range raises InputError, a
    ValueError.

    Parameters
    ----------
    epochs : int
        Number of passes over the training images.
    batchsize : int
        Number of images per step.
    lr : float
        Learning rate of Adam.
    lr_schedule : {"cosine", "constant"}
        With "cosine" the learning rate falls from `lr` to 0 over all epochs, or between two refits
        of the mixture.
    seed : int
        Random seed.
    recon_weight : float
        Weight of the reconstruction term.
    kl_weight : float
        Weight of the KL terms.
    kl_anneal : int
        Number of epochs over which the weight of the KL terms rises linearly from 0.
    clip_grad : float, optional
        Largest norm of the gradient. By default it is not clipped.
    early_stopping : int, optional
        If given, a tenth of the training images is held out, and the training ends when their bound
        has not improved for this number of epochs.
    pretrain_epochs : int, optional
        Number of epochs of a vade before its mixture is fitted to the latents; by default a third.
    mutual_iterations : int, optional
        The mixture of a vae-gmm is fitted after each of `mutual_iterations` + 1 equal shares of
        the epochs; by default 4, or fewer if there are fewer epochs.
    pair_weight : float
        Weight of the clustering objective. With 0 the plain ELBO is trained.
    pair_balance : float
        Weight of the balance of cluster sizes in the pair loss.
    balance : str
        Cluster sizes: "auto" (found by merging sub-clusters), "uniform", "free" (for more
        components than classes), or K expected sizes as numbers separated by commas.
    sub_clusters : int
        Number of sub-clusters per component, which the balance "auto" merges into clusters.
    neighbours : int
        Number of nearest neighbours from which the partner of an image is drawn.
    descriptor : str
        Descriptor for the nearest neighbours: "pixels", "hog", "patches", or "auto", which chooses
        by the images.
    features : str, optional
        Pretrained encoder, or file of features, that replaces the descriptor.
    augment : str
        Augmentation of image pairs: "none", "auto", which chooses by the images, or kinds
        separated by commas.
    heads : int
        Number of last layers of the classifier that are trained side by side. The one with the
        lowest loss is used.
    sample_weight : float
        Weight of the term by which samples of a component are to be recognised as such.

    Examples
    --------
    >>> TrainConfig(epochs=20, lr=3e-4)
    TrainConfig(epochs=20, lr=0.0003)
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
        """Return the options that have an effect.

        With a `pair_weight` of 0 the options of neighbour pairs have none.

        Returns
        -------
        dict
            Options by name, without those that are None.
        """
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
        """Epochs after which the mixture is fitted to the latents, in ascending order."""
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
