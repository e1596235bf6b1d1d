"""Models in Python: build, load and save them."""

from pathlib import Path
from typing import Any

from ..config import ModelConfig
from ..errors import InputError
from ..models import LatentVariableModel
from ..models import build_model as build_network
from . import checkpoint
from .checked_model import Model


def build_model(config: ModelConfig | None = None, **fields: Any) -> Model:
    """Build a model with random weights from MLX's global generator.

    Parameters
    ----------
    config : ModelConfig, optional
        Configuration of the model; the defaults of `ModelConfig` if it is not given.
    **fields : Any
        Fields of `ModelConfig`, for example `image_size=(8, 8)`. They override those of `config`.

    Returns
    -------
    Model
        The model. It takes arrays of NumPy or MLX. Its `network` is the `mlx.nn.Module`.

    Raises
    ------
    InputError
        If there is no such field, or a value cannot be used. It is a ValueError.

    Examples
    --------
    >>> model = build_model(image_size=(20, 28), K=4)
    >>> model.sample(3, component=0).shape
    (3, 20, 28, 1)
    """
    if not isinstance(config, ModelConfig | None):
        raise InputError(f"config is a {type(config).__name__}; give a ModelConfig")
    network = build_network(ModelConfig.from_dict((config.to_dict() if config else {}) | fields))
    network.eval()
    return Model(network)


def load(path: str | Path) -> Model:
    """Load a model that `save_model` or `train.py` saved.

    A file of that name has priority. Models on the Hub need huggingface_hub and are kept in its
    cache.

    Parameters
    ----------
    path : str or Path
        An .npz or .safetensors file, the name of a pretrained model, or ORG/NAME or
        ORG/NAME@REVISION on the Hugging Face Hub.

    Returns
    -------
    Model
        The model, with the description of its training.

    Raises
    ------
    InputError
        If the file is missing, damaged, or not a model of this package. It is a ValueError.

    Examples
    --------
    >>> load("pretrained/gmvae_digits_K10_dims_0008.npz").config.K
    10
    >>> load("gmvae_digits_K10_dims_0008").config.K
    10
    """
    found = checkpoint.load_model(path)
    return Model(found.model, data=found.data, metrics=found.metrics, training=found.training)


def save_model(path: str | Path, model: Model | LatentVariableModel, **description: Any) -> None:
    """Save a model with its configuration.

    Parameters
    ----------
    path : str or Path
        A name that ends in .safetensors gives such a file, any other an .npz file.
    model : Model or mlx.nn.Module
        A model of `build_model` or `load`, or its `network`.
    **description : dict
        `data`, `metrics` and `training`, instead of those of the model.

    Raises
    ------
    InputError
        If `model` is not a model of this package. It is a ValueError.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(f"{folder}/model.npz", build_model(image_size=(8, 8), K=4))
    ...     load(f"{folder}/model.npz").config.K
    4
    """
    if isinstance(model, Model):
        own = {"data": model.data, "metrics": model.metrics, "training": model.training}
        model, description = model.network, own | description
    if not isinstance(model, LatentVariableModel):
        raise InputError(
            f"model is a {type(model).__name__}; give what build_model or load returns"
        )
    checkpoint.save_model(path, model, **description)
