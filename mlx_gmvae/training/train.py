"""Training in Python: images in, the model trained in place, its history out."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..config import TrainConfig
from ..data.images import as_uint8_images, require_unmasked
from ..data.splits import Dataset
from ..device.progress import silence
from ..errors import InputError
from ..models.base import LatentVariableModel
from ..report.words import epoch_line
from .defaults import for_model, for_set_size
from .trainer import Trainer


class History(list[dict[str, float]]):
    """The records of a training's epochs, in order."""

    def __repr__(self) -> str:
        if not self:
            return "History of no epochs"
        first, last = self[0]["loss"], self[-1]["loss"]
        return f"History of {len(self)} epochs: loss {first:.3f} to {last:.3f} nats per image"


def train(
    model: LatentVariableModel,
    images: np.ndarray,
    config: TrainConfig | None = None,
    callback: Callable[[dict[str, float]], Any] | None = None,
    verbose: bool = True,
) -> History:
    """Train `model` in place on images (N, H, W) or (N, H, W, C), uint8 or floats in [0, 1].

    Prints a line per epoch unless told not to. `callback` is called with each epoch's record, and
    ends the training by answering True. Without a configuration, it is that of train.py for so many
    images. Raises InputError if they are not as the model's are.
    """
    require_unmasked(images, "images")
    images = as_uint8_images(np.asarray(images), "images")
    if images.shape[1:] != model.config.image_shape:
        raise InputError(
            f"images have shape {images.shape}; the model's are {model.config.image_shape}"
        )
    if config is None:
        data = Dataset("images", images, None, np.arange(len(images)))
        config = for_set_size(TrainConfig(), data, set())
    trainer = Trainer(model, images, for_model(config, model.config, set()))
    with silence(not verbose):
        for record in trainer.run():
            if verbose:
                print(epoch_line(record, trainer.seconds_left), flush=True)
            if callback is not None and callback(dict(record)):
                break
    model.eval()
    return History(trainer.history)
