"""What a model is and how it is trained: two frozen, validated, JSON-serialisable records."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, TypeVar, get_args, get_origin

from .errors import InputError

MODELS = ("vae", "gmvae")
ARCHS = ("conv", "mlp")
LIKELIHOODS = ("bernoulli", "gaussian")
POSTERIORS = ("amortised", "bayes")
LR_SCHEDULES = ("cosine", "constant")
DESCRIPTORS = ("hog", "pixels")
AUGMENTATIONS = ("affine", "none")
PAIR_OPTIONS = (
    "pair_balance", "balance", "neighbours", "descriptor", "augment", "heads", "sample_weight",
)  # fmt: skip

# Options that mean something only for some models: (field, the value it must have).
NEEDS = {
    "K": ("model", "gmvae"),
    "w_dims": ("model", "gmvae"),
    "posterior": ("model", "gmvae"),
    "max_filters": ("arch", "conv"),
    "hidden_dims": ("arch", "mlp"),
    "sigma": ("likelihood", "gaussian"),
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


AnyConfig = TypeVar("AnyConfig", bound="Config")


@dataclass(frozen=True)
class Config:
    """Shared by both records: type checks, JSON round trip."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            object.__setattr__(self, field.name, _typed(field, value))
        self.validate()

    def validate(self) -> None:
        """Raise InputError if a value cannot be used."""

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of JSON types; `from_dict` inverts it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls: type[AnyConfig], values: dict[str, Any]) -> AnyConfig:
        """Build from `to_dict`'s answer. Raises InputError for unknown or missing names."""
        if not isinstance(values, dict):
            raise InputError(f"a {cls.__name__} is a JSON object, not {type(values).__name__}")
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"{cls.__name__} has no field {', '.join(unknown)}")
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"{cls.__name__}: {error}") from None


@dataclass(frozen=True)
class ModelConfig(Config):
    """Everything needed to rebuild a model before its weights are loaded.

    `num_layers` counts stride-2 stages for `conv` and hidden layers for `mlp`; None chooses
    from the image size. `K`, `w_dims` and `posterior` concern mixture models only, `sigma`
    the Gaussian likelihood, `max_filters` the `conv` and `hidden_dims` the `mlp` networks.
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
        field, value = NEEDS.get(name, ("", None))
        if field and getattr(self, field) != value:
            raise InputError(
                f"{name} has no effect with {field} {getattr(self, field)}; it is for {value}"
            )

    def effective(self) -> dict[str, Any]:
        """The options that mean something for this model, with `num_layers` resolved."""
        values = self.to_dict() | {"num_layers": self.layers}
        return {
            name: value
            for name, value in values.items()
            if name not in NEEDS or getattr(self, NEEDS[name][0]) == NEEDS[name][1]
        }

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return (*self.image_size, self.channels)


@dataclass(frozen=True)
class TrainConfig(Config):
    """How a model is trained. Weights multiply terms in nats per example.

    `kl_anneal` is the number of epochs over which the KL weight rises linearly from 0. With
    "cosine" the learning rate falls from `lr` to 0 over all epochs. The fields from `pair_weight`
    on concern the neighbour-pair objective of mixture models (see `pairing`); a weight of 0 turns
    it off and leaves the plain ELBO.
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
    pair_weight: float = 1.0
    pair_balance: float = 2.0
    balance: str = "uniform"
    neighbours: int = 10
    descriptor: str = "hog"
    augment: str = "affine"
    heads: int = 20
    sample_weight: float = 3.0

    def effective(self) -> dict[str, Any]:
        """The options that mean something with this pair_weight."""
        hidden = () if self.pair_weight else PAIR_OPTIONS
        return {name: value for name, value in self.to_dict().items() if name not in hidden}

    def validate(self) -> None:
        require_range("epochs", self.epochs, 1, 1_000_000)
        require_range("batchsize", self.batchsize, 1, 1_000_000)
        require_range("seed", self.seed, 0, 2**32 - 1)
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
    """`config` as it applies to `model`: without pairs for a model without components.

    Raises InputError if an option in `given` would have no effect.
    """
    if model.model == "vae":
        useless, why = {"pair_weight", *PAIR_OPTIONS}, "model vae; it is for gmvae"
        config = dataclasses.replace(config, pair_weight=0.0)
    elif config.pair_weight == 0:
        useless, why = set(PAIR_OPTIONS), "pair_weight 0"
    elif model.posterior == "bayes":
        useless, why = {"heads", "sample_weight"}, "posterior bayes; it is for amortised"
        config = dataclasses.replace(config, heads=1, sample_weight=0.0)
    elif config.balance == "free":
        useless, why = {"pair_balance"}, "balance free"
    elif config.neighbours == 0:
        useless, why = {"descriptor"}, "neighbours 0"
    else:
        return config
    for name in sorted(useless & given):
        raise InputError(f"{name} has no effect with {why}")
    return config


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise InputError unless `value` is one of `choices`."""
    if value not in choices:
        raise InputError(f"{name} is {value!r}; choose one of {', '.join(choices)}")


def require_range(name: str, value: int, low: int, high: int) -> None:
    """Raise InputError unless low <= value <= high."""
    if not low <= value <= high:
        raise InputError(f"{name} is {value}; it must be between {low} and {high}")


def require_positive(name: str, value: float) -> None:
    """Raise InputError unless `value` is finite and above 0."""
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} is {value}; it must be a number above 0")


def _typed(field: dataclasses.Field, value: Any) -> Any:
    """`value` as the field's type, or InputError: configurations are read from files too."""
    kinds = get_args(field.type) if get_origin(field.type) is not tuple else (field.type,)
    kinds = kinds or (field.type,)
    if value is None and type(None) in kinds:
        return None
    kind = kinds[0]
    if get_origin(kind) is tuple:
        length = len(get_args(kind))
        is_pair = isinstance(value, (list, tuple)) and len(value) == length
        if is_pair and all(_is_int(item) for item in value):
            return tuple(int(item) for item in value)
        raise InputError(f"{field.name} is {value!r}; it must be {length} whole numbers")
    if kind is int and _is_int(value):
        return int(value)
    if kind is float and (_is_int(value) or isinstance(value, float)):
        return float(value)
    if kind is str and isinstance(value, str):
        return value
    wanted = {int: "a whole number", float: "a number", str: "text"}[kind]
    raise InputError(f"{field.name} is {value!r}; it must be {wanted}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
