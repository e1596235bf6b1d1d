"""Training in Python, of a model in place."""

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
    """List of the records of all epochs, in order; each is a dict of floats."""

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
    """Return a Trainer on uint8 images (N, H, W, C), with the "auto" of `config` resolved."""
    resolved, _ = resolve_training(config, model.config, images)
    return Trainer(model, images, resolved, neighbours, losses)


class Checked(Protocol):
    """Protocol of `Model`: a network and the description of its training."""

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
        A model of `build_model` or `load`, or its `network`.
    images : array-like of shape (N, H, W) or (N, H, W, C)
        Images of the model's size, uint8 or floats in [0, 1].
    config : TrainConfig, optional
        Configuration of the training. By default it is chosen from the number of images, as in
        `train.py`.
    callback : callable, Callback, or list of them, optional
        A function is called with the record of each epoch, a dict of floats. The training ends
        early if it returns True.
    verbose : bool, default=True
        Whether to print a line per epoch.
    losses : dict, optional
        Custom losses by phase. Each is a function of the objective, a batch and the weights of the
        step, and returns the loss and a dict of named terms.
    **fields : Any
        Fields of `TrainConfig`, for example `epochs=1`. They override those of `config`.

    Returns
    -------
    History
        List of the records of all epochs.

    Raises
    ------
    InputError
        If the images do not fit the model, or a field has no effect. It is a ValueError.

    Examples
    --------
    >>> from mlx_gmvae import build_model
    >>> images = np.random.default_rng(0).random((40, 8, 8))
    >>> model = build_model(model="vae", image_size=(8, 8))
    >>> history = train(model, images, epochs=2, verbose=False)
    >>> len(history)
    2
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
        if not isinstance(model, LatentVariableModel):  # the description is of the old weights
            model.data, model.metrics, model.training = {}, {}, trainer.config.to_dict()
        try:
            fit(trainer, callbacks)
        finally:
            network.eval()
    return History(trainer.history)


def _resolved(
    config: TrainConfig | None, fields: dict[str, Any], images: np.ndarray, model: ModelConfig
) -> TrainConfig:
    """Return `config` with `fields` replaced and everything that depends on the images chosen."""
    if not isinstance(config, TrainConfig | None):
        raise InputError(f"config is a {type(config).__name__}; give a TrainConfig")
    return resolve(Options(model, fields, base=config), Dataset.of(images)).training
