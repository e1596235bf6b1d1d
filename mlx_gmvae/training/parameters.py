"""The estimator's parameters, and the configuration fields that they set."""

from dataclasses import dataclass, fields
from typing import Any

from ..config.model import LARGEST
from ..config.record import Record, require_choice, require_positive, require_range
from ..errors import InputError
from ..models import MODELS, MixtureModel
from .resolve import AUTO, Options

# Fields of the configurations that are parameters of the estimator, and their names there.
IN_MODEL = {
    "K": "n_components", "latent_dims": "latent_dims", "model": "model",
    "image_size": "image_shape", "channels": "image_shape",
}  # fmt: skip
IN_TRAINING = {
    "features": "encoder",
    "epochs": "max_iter", "batchsize": "batch_size", "lr": "learning_rate", "seed": "random_state",
}  # fmt: skip
# The names that messages use for these fields and for the two configurations.
NAMES = IN_MODEL | IN_TRAINING | {"ModelConfig": "model_options", "TrainConfig": "train_options"}


@dataclass(frozen=True, repr=False)
class Parameters(Record):
    """The estimator's parameters that define the training; `n_components` None means "auto"."""

    n_components: int | None
    latent_dims: int
    model: str
    max_iter: int | None
    batch_size: int | None
    learning_rate: float

    @classmethod
    def of(cls, given: dict[str, Any]) -> "Parameters":
        """Return these parameters from all of an estimator's parameters. Raises InputError."""
        values = {field.name: given[field.name] for field in fields(cls)}
        n_components = values["n_components"]
        if n_components is None or (isinstance(n_components, str) and n_components != AUTO):
            raise InputError(f'n_components is {n_components!r}; give a whole number or "auto"')
        if isinstance(n_components, str):
            values["n_components"] = None
        return cls(**values)

    def options(
        self,
        seed: int,
        is_table: bool,
        model_options: dict[str, Any],
        train_options: dict[str, Any],
        encoder: str | None = None,
    ) -> Options:
        """Return the options to resolve; `model_options` and `train_options` are other fields."""
        model = {"model": self.model, "latent_dims": self.latent_dims}
        model |= {"K": AUTO if self.n_components is None else self.n_components}
        training: dict[str, Any] = {"epochs": self.max_iter, "batchsize": self.batch_size}
        training |= {"lr": self.learning_rate, "seed": seed}
        training |= {"features": encoder}
        training = {name: value for name, value in training.items() if value is not None}
        return Options(model | model_options, training | train_options, is_table=is_table)

    def validate(self) -> None:
        require_range("n_components", self.n_components, 1, LARGEST["K"])
        require_range("latent_dims", self.latent_dims, 1, LARGEST["latent_dims"])
        require_choice("model", self.model, MODELS)
        if not issubclass(MODELS[self.model], MixtureModel):
            raise InputError(f"model {self.model} has no components; use gmvae, vade or vae-gmm")
        require_range("max_iter", self.max_iter, 1, 1_000_000)
        require_range("batch_size", self.batch_size, 1, 1_000_000)
        require_positive("learning_rate", self.learning_rate)


def require_once(**options: Any) -> None:
    """Raise InputError if options are not dicts, or set what a parameter or X already sets."""
    for kind, names in (("model_options", IN_MODEL), ("train_options", IN_TRAINING)):
        given = options[kind]
        if not isinstance(given, dict | None):
            raise InputError(f"{kind} is {given!r}; it must be a dict or None")
        for name in given or {}:
            if name in names:
                raise InputError(f"{kind} has {name}; give {names[name]} instead")
