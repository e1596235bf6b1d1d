"""Training in Python: images in, the model trained in place, its history out."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from ..clustering.phases import Phase
from ..config import ModelConfig, TrainConfig
from ..data.given import as_array
from ..data.images import Featured, as_uint8_images
from ..data.splits import Dataset
from ..errors import InputError, naming
from ..models.base import LatentVariableModel
from ..system.progress_bar import silence
from .callbacks import Callbacks, PrintEpochs, as_callbacks, fit
from .resolve import Options, resolve, resolve_training
from .trainer import OwnLoss, Trainer


class History(list[dict[str, float]]):
    """The records of a training's epochs, in order."""

    def __repr__(self) -> str:
        if not self:
            return "History of no epochs"
        first, last = self[0]["loss"], self[-1]["loss"]
        return f"History of {len(self)} epochs: loss {first:.3f} to {last:.3f} nats per image"


def new_trainer(
    model: LatentVariableModel,
    images: np.ndarray | Featured,
    config: TrainConfig,
    neighbours: np.ndarray | None = None,
    losses: Mapping[Phase, OwnLoss] | None = None,
) -> Trainer:
    """Return a Trainer over uint8 images (N, H, W, C), by whom `config` is resolved first."""
    resolved, _ = resolve_training(config, model.config, images)
    return Trainer(model, images, resolved, neighbours, losses)


class Checked(Protocol):
    """A checked model: a network, and what is known of how it was trained."""

    network: LatentVariableModel
    data: dict[str, Any]
    metrics: dict[str, Any]
    training: dict[str, Any]


def train(
    model: Checked | LatentVariableModel,
    images: Any,
    config: TrainConfig | None = None,
    callback: Callbacks = None,
    verbose: bool = True,
    losses: Mapping[Phase, OwnLoss] | None = None,
    **fields: Any,
) -> History:
    """Train a model in place.

    Parameters
    ----------
    model : Model or mlx.nn.Module
        What `build_model` or `load` returned, or its `network`.
    images : array-like
        Images (N, H, W) or (N, H, W, C) of the model's size, uint8 or floats in [0, 1].
    config : TrainConfig, optional
        By default that of `train.py` for so many images.
    callback : callable or Callback, or a list of them, optional
        A function is called with each epoch's record; training ends early if it returns True.
    verbose : bool
        Whether to print a line per epoch.
    losses : dict, optional
        Losses of your own by phase: functions of the objective, a batch and weights.
    **fields
        Fields of `TrainConfig`, as `epochs=1`; they replace those of `config`.

    Returns
    -------
    History
        The records of the epochs.

    Raises
    ------
    InputError
        If the images are not the model's, or a field has no effect. It is a ValueError.
    """
    network = getattr(model, "network", model)
    if not isinstance(network, LatentVariableModel):
        raise InputError(
            f"model is a {type(model).__name__}; give what build_model or load returns"
        )
    images = as_uint8_images(np.asarray(as_array(images, "images")), "images")
    if images.shape[1:] != network.config.image_shape:
        raise InputError(
            f"images have shape {images.shape}; the model's are {network.config.image_shape}"
        )
    if not len(images):
        raise InputError("there are no images")
    callbacks = ([PrintEpochs()] if verbose else []) + as_callbacks(callback)
    with naming({}), silence(not verbose):
        training = _resolved(config, fields, images, network.config)
        trainer = Trainer(network, images, training, losses=losses)
        if not isinstance(model, LatentVariableModel):  # what is known is of other weights
            model.data, model.metrics, model.training = {}, {}, trainer.config.to_dict()
        try:
            fit(trainer, callbacks)
        finally:
            network.eval()
    return History(trainer.history)


def _resolved(
    config: TrainConfig | None, fields: dict[str, Any], images: np.ndarray, model: ModelConfig
) -> TrainConfig:
    """`config` with `fields` in it, and with what the images decide."""
    if not isinstance(config, TrainConfig | None):
        raise InputError(f"config is a {type(config).__name__}; give a TrainConfig")
    return resolve(Options(model, fields, base=config), Dataset.of(images)).training
