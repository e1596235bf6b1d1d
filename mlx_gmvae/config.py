"""What a model is and how it is trained: two frozen, validated, JSON-serialisable records."""

import math
from dataclasses import dataclass
from typing import Any

from .errors import InputError
from .record import Record, require_choice, require_positive, require_range

MODELS = ("vae", "gmvae", "vade", "vae-gmm")
MIXTURES = ("gmvae", "vade", "vae-gmm")
PAIRED = ("gmvae", "vade")  # models that the neighbour-pair objective trains
ARCHS = ("conv", "mlp")
LIKELIHOODS = ("bernoulli", "gaussian")
POSTERIORS = ("amortised", "bayes")
LR_SCHEDULES = ("cosine", "constant")
DESCRIPTORS = ("hog", "pixels")
AUGMENTATIONS = ("affine", "none")
PAIR_OPTIONS = (
    "pair_balance", "balance", "neighbours", "descriptor", "augment", "heads", "sample_weight",
)  # fmt: skip

STAGED_BY = {"pretrain_epochs": "vade", "mutual_iterations": "vae-gmm"}

# Options that mean something only for some models: (field, the values it may have).
NEEDS = {
    "K": ("model", MIXTURES),
    "w_dims": ("model", ("gmvae",)),
    "posterior": ("model", ("gmvae",)),
    "max_filters": ("arch", ("conv",)),
    "hidden_dims": ("arch", ("mlp",)),
    "sigma": ("likelihood", ("gaussian",)),
}

# Limits that no real use reaches, so that a damaged or hostile file cannot ask for
# terabytes of memory.
LARGEST = {
    "image_size": 16384,
    "channels": 64,
    "latent_dims": 4096,
    "K": 4096,
    "w_dims": 4096,
    "max_filters": 4096,
    "num_layers": 16,
    "hidden_dims": 16384,
}


@dataclass(frozen=True)
class ModelConfig(Record):
    """Everything needed to rebuild a model before its weights are loaded.

    `num_layers` counts stride-2 stages for `conv` and hidden layers for `mlp`; None chooses
    from the image size. NEEDS lists the fields that concern only some models, networks or
    likelihoods.
    """

    model: str = "gmvae"
    arch: str = "conv"
    image_size: tuple[int, int] = (28, 28)
    channels: int = 1
    latent_dims: int = 8
    K: int = 10
    w_dims: int = 8
    posterior: str = "amortised"
    likelihood: str = "bernoulli"
    sigma: float = 0.1
    max_filters: int = 64
    hidden_dims: int = 512
    num_layers: int | None = None
    mc_samples: int = 1

    def validate(self) -> None:
        for name, choices in [
            ("model", MODELS),
            ("arch", ARCHS),
            ("posterior", POSTERIORS),
            ("likelihood", LIKELIHOODS),
        ]:
            require_choice(name, getattr(self, name), choices)
        for name in ("channels", "latent_dims", "K", "w_dims", "max_filters", "hidden_dims"):
            require_range(name, getattr(self, name), 1, LARGEST[name])
        for size in self.image_size:
            require_range("image_size", size, 1, LARGEST["image_size"])
        if self.num_layers is not None:
            require_range("num_layers", self.num_layers, 1, LARGEST["num_layers"])
        require_range("mc_samples", self.mc_samples, 1, 1024)
        require_positive("sigma", self.sigma)

    @property
    def layers(self) -> int:
        """`num_layers`, or the default for this architecture and image size.

        Two hidden layers for `mlp`; for `conv`, halve until the shorter side is about 4
        pixels, so that 28x28 gets three stages and 512x512 gets seven.
        """
        if self.num_layers is not None:
            return self.num_layers
        if self.arch == "mlp":
            return 2
        return max(1, round(math.log2(min(self.image_size) / 4)))

    def require_effect(self, name: str) -> None:
        """Raise InputError if the option `name` means nothing for this model."""
        field, values = NEEDS.get(name, ("", ()))
        if field and getattr(self, field) not in values:
            raise InputError(
                f"{name} has no effect with {field} {getattr(self, field)}; it is for "
                f"{', '.join(values)}"
            )

    def effective(self) -> dict[str, Any]:
        """The options that mean something for this model, with `num_layers` resolved."""
        values = self.to_dict() | {"num_layers": self.layers}
        return {
            name: value
            for name, value in values.items()
            if name not in NEEDS or getattr(self, NEEDS[name][0]) in NEEDS[name][1]
        }

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return (*self.image_size, self.channels)


@dataclass(frozen=True)
class TrainConfig(Record):
    """How a model is trained. Weights multiply terms in nats per example.

    `kl_anneal` is the number of epochs over which the KL weight rises linearly from 0. With
    "cosine" the learning rate falls from `lr` to 0 over all epochs, or over each stage where the
    mixture is refitted between stages: `vade` fits it once after `pretrain_epochs`, `vae-gmm` after
    each of `mutual_iterations` + 1 equal shares of the epochs. `early_stopping` holds out a tenth
    of the training images and ends the run when their bound has not improved for so many epochs.
    The fields from `pair_weight` on concern the neighbour-pair objective (see `pairing`); a
    weight of 0 turns it off and leaves the plain ELBO.
    """

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
    balance: str = "uniform"
    neighbours: int = 10
    descriptor: str = "hog"
    augment: str = "affine"
    heads: int = 20
    sample_weight: float = 3.0

    def effective(self) -> dict[str, Any]:
        """The options that mean something with this pair_weight and model."""
        hidden = [] if self.pair_weight else list(PAIR_OPTIONS)
        hidden += [name for name in STAGED_BY if getattr(self, name) is None]
        return {name: value for name, value in self.to_dict().items() if name not in hidden}

    @property
    def refits(self) -> list[int]:
        """The epochs after which the mixture is fitted to the latents, in rising order."""
        if self.mutual_iterations is not None:
            stages = self.mutual_iterations + 1
            return [math.ceil(self.epochs * stage / stages) for stage in range(1, stages + 1)]
        return [self.pretrain_epochs] if self.pretrain_epochs else []

    def validate(self) -> None:
        require_range("epochs", self.epochs, 1, 1_000_000)
        require_range("batchsize", self.batchsize, 1, 1_000_000)
        require_range("seed", self.seed, 0, 2**32 - 1)
        if self.early_stopping is not None:
            require_range("early_stopping", self.early_stopping, 1, 1_000_000)
        for name in STAGED_BY:
            if getattr(self, name) is not None:
                require_range(name, getattr(self, name), 0, 1_000_000)
        require_range("kl_anneal", self.kl_anneal, 0, 1_000_000)
        require_positive("lr", self.lr)
        if self.clip_grad is not None:
            require_positive("clip_grad", self.clip_grad)
        require_choice("lr_schedule", self.lr_schedule, LR_SCHEDULES)
        require_choice("descriptor", self.descriptor, DESCRIPTORS)
        require_choice("augment", self.augment, AUGMENTATIONS)
        require_range("neighbours", self.neighbours, 0, 1000)
        require_range("heads", self.heads, 1, 1000)
        for name in ("recon_weight", "kl_weight", "pair_weight", "pair_balance", "sample_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} is {value}; it must be a number >= 0")


def training_of(config: TrainConfig, model: ModelConfig, given: set[str]) -> TrainConfig:
    """`config` as it applies to `model`, with the defaults that depend on it.

    Raises InputError if an option in `given` would have no effect.
    """
    values = config.to_dict()
    useless: list[tuple[set[str], str]] = []
    for name, owner in STAGED_BY.items():
        if model.model != owner:
            useless.append(({name}, f"model {model.model}; it is for {owner}"))
            values[name] = None
    if model.model in STAGED_BY.values():
        useless.append(({"early_stopping"}, f"model {model.model}, which trains in stages"))
        values["early_stopping"] = None
    if model.model == "vade":
        if config.epochs < 2:
            raise InputError("vade needs at least 2 epochs: one before its mixture is fitted")
        if config.pretrain_epochs is None:
            values["pretrain_epochs"] = max(1, config.epochs // 3)
        require_range("pretrain_epochs", values["pretrain_epochs"], 1, config.epochs - 1)
    if model.model == "vae-gmm":
        if config.mutual_iterations is None:
            values["mutual_iterations"] = min(4, config.epochs - 1)
        require_range("mutual_iterations", values["mutual_iterations"], 0, config.epochs - 1)
    if model.model not in PAIRED:
        why = f"model {model.model}; it is for {', '.join(PAIRED)}"
        useless.append(({"pair_weight", *PAIR_OPTIONS}, why))
        values["pair_weight"] = 0.0
    elif config.pair_weight == 0:
        useless.append((set(PAIR_OPTIONS), "pair_weight 0"))
    elif model.model == "vade" or model.posterior == "bayes":
        why = "model vade" if model.model == "vade" else "posterior bayes"
        useless.append(({"heads", "sample_weight"}, f"{why}, which has no classifier"))
        values |= {"heads": 1, "sample_weight": 0.0}
    if config.pair_balance == 0 and config.balance != "free":
        useless.append(({"balance"}, "pair_balance 0, which asks nothing of the sizes"))
    if config.neighbours == 0:
        useless.append(({"descriptor"}, "neighbours 0"))
    for names, why in useless:
        for name in sorted(names & given):
            raise InputError(f"{name} has no effect with {why}")
    return TrainConfig.from_dict(values)
