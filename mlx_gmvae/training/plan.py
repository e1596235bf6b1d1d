"""A training as the estimator's parameters ask for it."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np

from ..clustering.choices import fitted_model
from ..clustering.neighbours import nearest
from ..config import ModelConfig, TrainConfig
from ..config.model import LARGEST
from ..config.record import Record, require_choice, require_positive, require_range
from ..data.splits import Dataset
from ..data.units import UNIT
from ..errors import InputError
from ..models import MODELS, MixtureModel
from .defaults import for_model, for_set_size
from .division import training_part
from .number import number_of_clusters

TABLE = {"arch": "mlp", "likelihood": "gaussian", "sigma": UNIT / 2, "hidden_dims": 128}
MOST_TABLE_EPOCHS = 100  # more change the clusters no further
AUTO = "auto"
# Fields of the configurations that are parameters of the estimator, and which.
IN_MODEL = {
    "K": "n_components", "latent_dims": "latent_dims", "model": "model",
    "image_size": "image_shape", "channels": "image_shape",
}  # fmt: skip
IN_TRAINING = {
    "epochs": "max_iter", "batchsize": "batch_size", "lr": "learning_rate", "seed": "random_state",
}  # fmt: skip
# What messages are to call them, and the two configurations.
NAMES = IN_MODEL | IN_TRAINING | {"ModelConfig": "model_options", "TrainConfig": "train_options"}


@dataclass(frozen=True, repr=False)
class Parameters(Record):
    """The estimator's parameters that say what is trained, and how; `n_components` None is auto."""

    n_components: int | None
    latent_dims: int
    model: str
    max_iter: int | None
    batch_size: int | None
    learning_rate: float

    @classmethod
    def of(cls, given: dict[str, Any]) -> "Parameters":
        """Those among the parameters that an estimator was given. Raises InputError."""
        values = {field.name: given[field.name] for field in fields(cls)}
        n_components = values["n_components"]
        if n_components is None or (isinstance(n_components, str) and n_components != AUTO):
            raise InputError(f'n_components is {n_components!r}; give a whole number or "auto"')
        if isinstance(n_components, str):
            values["n_components"] = None
        return cls(**values)

    def validate(self) -> None:
        require_range("n_components", self.n_components, 1, LARGEST["K"])
        require_range("latent_dims", self.latent_dims, 1, LARGEST["latent_dims"])
        require_choice("model", self.model, MODELS)
        if not issubclass(MODELS[self.model], MixtureModel):
            raise InputError(f"model {self.model} has no components; use gmvae, vade or vae-gmm")
        require_range("max_iter", self.max_iter, 1, 1_000_000)
        require_range("batch_size", self.batch_size, 1, 1_000_000)
        require_positive("learning_rate", self.learning_rate)


class Plan(NamedTuple):
    """Configurations, and the neighbour graph where the trainer would not find it."""

    model: ModelConfig
    training: TrainConfig
    graph: np.ndarray | None


def plan(
    parameters: Parameters,
    images: np.ndarray,
    of_table: bool,
    seed: int,
    model_options: dict[str, Any],
    train_options: dict[str, Any],
    say: Callable[[str], Any] | None = None,
) -> Plan:
    """Return what is to be trained on `images`, or on a table that is inside as images.

    `say` is called with the progress of finding the number of components.
    """
    *image_size, channels = images.shape[1:]
    given = {"model": parameters.model, "latent_dims": parameters.latent_dims}
    given |= {"K": parameters.n_components or 2, "image_size": image_size}
    config = ModelConfig.from_dict(
        (TABLE if of_table else {}) | given | model_options | {"channels": channels}
    )
    if not of_table and "classifier" not in model_options:
        config = fitted_model(config)
    wanted: dict[str, Any] = {
        "epochs": parameters.max_iter,
        "batchsize": parameters.batch_size,
        "lr": parameters.learning_rate,
    }
    wanted = {name: value for name, value in wanted.items() if value is not None}
    wanted |= {"seed": seed, **train_options}
    useful = {"augment": "none"} if of_table else {}
    training = TrainConfig.from_dict(useful | wanted)
    training = for_set_size(
        training, Dataset("X", images, None, np.arange(len(images))), set(wanted)
    )
    if of_table and parameters.max_iter is None:
        training = replace(training, epochs=min(training.epochs, MOST_TABLE_EPOCHS))
    training = for_model(training, config, set(wanted))
    graph = None
    if of_table and training.pair_weight and training.neighbours:
        rows = np.asarray(training_part(images, training)[:])
        graph = nearest(rows.reshape(len(rows), -1), training.neighbours)
    if parameters.n_components is None:
        seen = training_part(images, training)
        found, graph = number_of_clusters(config, training, seen, graph, say)
        config = ModelConfig.from_dict(config.to_dict() | {"K": found.clusters})
    return Plan(config, training, graph)


def require_once(**options: Any) -> None:
    """Raise InputError if options are no dicts, or say what a parameter or X says."""
    for kind, names in (("model_options", IN_MODEL), ("train_options", IN_TRAINING)):
        given = options[kind]
        if not isinstance(given, dict | None):
            raise InputError(f"{kind} is {given!r}; it must be a dict or None")
        for name in given or {}:
            if name in names:
                raise InputError(f"{kind} has {name}; give {names[name]} instead")
