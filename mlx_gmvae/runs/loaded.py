"""The `Model` of the Python API, which takes and returns arrays and validates its inputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np

from ..config import ModelConfig
from ..config.record import is_whole
from ..data.batches import over_batches
from ..data.given import as_array, as_latents
from ..data.images import Featured, value_range
from ..device.parallel import plain_operations
from ..device.randomness import preserved_random_state
from ..errors import InputError
from ..evaluation.scores import decode, samples
from ..models import LatentVariableModel, MixtureModel
from ..models import build_model as build_network
from ..system.files import atomic_write
from . import checkpoint

Array: TypeAlias = Any  # a NumPy or MLX array; results are of the same kind

LIKELIHOOD_DRAWS = 100


class Model:
    """A model that takes images as they are at hand, a batch at a time.

    Images are (N, H, W) or (N, H, W, C), uint8 or floats in [0, 1]; NumPy arrays are answered by
    NumPy arrays, MLX arrays by MLX arrays. Raises InputError, a ValueError, for any other shape.

    Parameters
    ----------
    network : mlx.nn.Module
        A network of this package.
    data, metrics, training : dict
        What the network was trained on, what was measured then, and how it was trained.

    Examples
    --------
    >>> model = load("pretrained/gmvae_digits_K10_dims_0008.npz")
    >>> images = np.zeros((3, 28, 28), np.uint8)
    >>> model.encode(images).shape, model.responsibilities(images).shape
    ((3, 8), (3, 10))
    >>> model.predict(images).shape
    (3,)
    """

    def __init__(self, network: LatentVariableModel, **parts: dict[str, Any]):
        self.network = network
        self.data, self.metrics = parts.get("data", {}), parts.get("metrics", {})
        self.training = parts.get("training", {})

    @property
    def config(self) -> ModelConfig:
        return self.network.config

    def encode(self, images: Array) -> Array:
        """Return the means of q(z|x), (N, D)."""
        return self._over(images, self._encode)

    def decode(self, z: Array) -> Array:
        """Return the expected pixels in [0, 1], (N, H, W, C), of latents (N, D)."""
        return _like(z, decode(self.network, as_latents(z, "latents", self.config.latent_dims)))

    def reconstruct(self, images: Array) -> Array:
        """Return the expected pixels at the mean of q(z|x), (N, H, W, C)."""
        return self._over(images, self.network.reconstruct)

    def responsibilities(self, images: Array, features: Array = None) -> Array:
        """Return q(y|x), (N, K), of images.

        Parameters
        ----------
        images : array
            N images.
        features : array of shape (N, F), optional
            What q(y|x) sees of them, if that is features; by default those of the encoder that the
            model was trained with.

        Raises
        ------
        InputError
            For a model without components, and where its encoder cannot be had.
        """
        return self._over(images, self._mixture().responsibilities, features=features)

    def predict(self, images: Array, features: Array = None) -> Array:
        """Return the cluster of each image, (N,): the component of the largest q(y|x)."""
        return self.responsibilities(images, features).argmax(axis=1)

    def sample(
        self, num: int = 1, component: int | None = None, seed: int | None = None
    ) -> np.ndarray:
        """Draw images of expected pixels.

        Parameters
        ----------
        num : int
            How many.
        component : int, optional
            The component of a mixture that they are drawn from; by default the whole prior.
        seed : int, optional
            Of the draws; by default they come from MLX's global generator.

        Returns
        -------
        ndarray of shape (num, H, W, C)
        """
        self.network.require_drawable(num, component)
        num = int(num)
        if seed is None:
            return samples(self.network, num, component)
        if not is_whole(seed) or not 0 <= seed < 2**64:
            raise InputError(f"seed is {seed!r}; it must be a whole number from 0 to 2**64 - 1")
        with preserved_random_state():
            mx.random.seed(int(seed))
            return samples(self.network, num, component)

    def elbo(self, images: Array, features: Array = None) -> Array:
        """Return the evidence lower bound of each image, (N,), nats, always at the same draw."""
        bound = _always_alike(lambda x: -self.network.negative_elbo(x, True))
        with preserved_random_state():
            return self._over(images, bound, features=features)

    def log_likelihood(
        self, images: Array, draws: int = LIKELIHOOD_DRAWS, features: Array = None
    ) -> Array:
        """Return a lower bound on log p(x), (N,), nats, by `draws` (Burda et al. 2016, eq. 8)."""
        if not is_whole(draws) or draws < 1:
            raise InputError(f"draws is {draws!r}; it must be a whole number of at least 1")
        bound = _always_alike(lambda x: self.network.importance_bound(x, draws, same_draws=True))
        with preserved_random_state():
            return self._over(images, bound, draws, features)

    def export(self, folder: str | Path, *batch_sizes: int) -> list[Path]:
        """Write encode, decode and, of a mixture, responsibilities as functions for MLX alone.

        Each takes batches of the given sizes (by default of 1), as float32 in [0, 1], in Python or
        C++ and without this package: `mx.import_function("decode.mlxfn")(z)` answers a list of one.
        """
        if any(size < 1 for size in batch_sizes):
            raise InputError(f"batch sizes are {batch_sizes}; they must be at least 1")
        network, config = self.network, self.config
        functions = {
            "encode": (lambda x: network.encode(x).mean, config.image_shape),
            "decode": (network.image, (config.latent_dims,)),
        }
        if isinstance(network, MixtureModel) and network.sees_features:
            functions["responsibilities"] = (
                lambda features: mx.exp(network.log_probabilities_of(features)),
                (config.feature_dims,),
            )
        elif isinstance(network, MixtureModel):
            functions["responsibilities"] = (network.responsibilities, config.image_shape)
        paths = {name: Path(folder) / f"{name}.mlxfn" for name in functions}
        for name, (function, shape) in functions.items():
            with (
                atomic_write(paths[name]) as written,
                plain_operations(),
                mx.exporter(str(written), function) as exporter,
            ):
                for size in batch_sizes or (1,):
                    exporter(mx.zeros((size, *shape)))
        return list(paths.values())

    def save(self, path: str | Path) -> None:
        """Write it all to an .npz or .safetensors file, from which `load` reads it."""
        parts = {"data": self.data, "metrics": self.metrics, "training": self.training}
        checkpoint.save_model(path, self.network, **parts)

    def __getattr__(self, name: str) -> Any:
        is_networks = not name.startswith("_") and name != "network" and hasattr(self.network, name)
        hint = f"; the mlx.nn.Module has: model.network.{name}" if is_networks else ""
        raise AttributeError(f"a checked model has no {name}{hint}")

    def __repr__(self) -> str:
        groups = [self.metrics.get(name) for name in ("clustering", "generative")]
        figures = {k: v for group in groups if isinstance(group, dict) for k, v in group.items()}
        values = {name: figures.get(name) for name in ("accuracy", "elbo")}  # of any type
        shown = [f"{name} {v:.4g}" for name, v in values.items() if isinstance(v, float)]
        trained = f" trained on {self.data['dataset']}" if "dataset" in self.data else ""
        return f"{self.network!r}{trained}" + (f" ({', '.join(shown)})" if shown else "")

    def _mixture(self) -> MixtureModel:
        if not isinstance(self.network, MixtureModel):
            raise InputError(f"a {self.config.model} has no components")
        return self.network

    def _over(
        self,
        images: Array,
        function: Callable[[Any], mx.array],
        copies: int = 1,
        features: Array = None,
    ) -> Array:
        checked = self._checked(images)
        if not len(checked):
            raise InputError("there are no images")
        sees_features = isinstance(self.network, MixtureModel) and self.network.sees_features
        if features is not None and not sees_features:
            raise InputError(
                "features have no effect, because q(y|x) of this model takes pixels; leave them out"
            )
        if sees_features and function not in (self._encode, self.network.reconstruct):
            return _like(images, over_batches(function, self._seen(checked, features), copies))
        return _like(images, over_batches(function, checked, copies))

    def _encode(self, x: mx.array) -> mx.array:
        return self.network.encode(x).mean

    def _seen(self, images: np.ndarray, features: Array) -> Featured:
        """Return images with the features that q(y|x) takes. Raises InputError without features."""
        dims = self.config.feature_dims
        if features is None:
            wanted = self.data.get("encoder")
            if wanted is None:
                raise InputError(
                    f"q(y|x) of this model takes features from a file; give features (N, {dims})"
                )
            from ..encoders.encode import encode_images  # other models need not load it
            from ..encoders.encoder import EncoderId, load_same

            features = encode_images(images, load_same(EncoderId.from_dict(wanted)))
        values = np.asarray(as_array(features, "features"), np.float32)
        if values.shape != (len(images), dims):
            raise InputError(
                f"features have shape {values.shape}; they must be ({len(images)}, {dims})"
            )
        return Featured(images, values)

    def _checked(self, images: Array) -> np.ndarray:
        """Return images (N, H, W, C) as uint8 or float32. Raises InputError for other images."""
        given, wanted = np.asarray(as_array(images, "images")), self.config.image_shape
        array = given
        if array.ndim == 3 and wanted[-1] == 1:
            array = array[..., None]
        if array.ndim != 4 or array.shape[1:] != wanted:
            shape = " x ".join(map(str, wanted))
            raise InputError(f"images have shape {given.shape}; they must be N x {shape}")
        if array.dtype == np.uint8:
            return array
        is_real = array.dtype.kind == "f"
        low, high = value_range(array, "images") if is_real else (0.0, 0.0)
        if not (is_real and low >= 0 and high <= 1):
            raise InputError(
                f"images are {array.dtype}"
                + (f" in [{low:g}, {high:g}]" if is_real else "")
                + "; give uint8, or floats in [0, 1]"
            )
        return array.astype(np.float32)


LoadedModel = Model  # its former name


def build_model(config: ModelConfig | None = None, **fields: Any) -> Model:
    """Build a model with random weights, from MLX's global generator.

    Parameters
    ----------
    config : ModelConfig, optional
        What the model is.
    **fields
        Fields of `ModelConfig`, as `image_size=(8, 8)`; they replace those of `config`.

    Returns
    -------
    Model
        It takes arrays of NumPy or MLX; its `network` is the `mlx.nn.Module`.

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
    """Read a model that `save_model` or one of the scripts wrote.

    Parameters
    ----------
    path : str or Path
        An .npz or a .safetensors file.

    Returns
    -------
    Model
    """
    found = checkpoint.load_model(path)
    return Model(found.model, data=found.data, metrics=found.metrics, training=found.training)


def save_model(path: str | Path, model: Model | LatentVariableModel, **description: Any) -> None:
    """Write a model with its configuration.

    Parameters
    ----------
    path : str or Path
        One that ends in .safetensors gets such a file, any other an .npz.
    model : Model or mlx.nn.Module
        What `build_model` or `load` returned, or its `network`.
    **description : dict
        `data`, `metrics` and `training`, in the place of the model's own.
    """
    if isinstance(model, Model):
        own = {"data": model.data, "metrics": model.metrics, "training": model.training}
        model, description = model.network, own | description
    if not isinstance(model, LatentVariableModel):
        raise InputError(
            f"model is a {type(model).__name__}; give what build_model or load returns"
        )
    checkpoint.save_model(path, model, **description)


def _always_alike(function: Callable[[mx.array], mx.array]) -> Callable[[mx.array], mx.array]:
    """Return `function` with the same draws in every call; a call leaves the generator seeded."""

    def seeded(x: mx.array) -> mx.array:
        mx.random.seed(0)
        return function(x)

    return seeded


def _like(given: Array, answer: np.ndarray) -> Array:
    return mx.array(answer) if isinstance(given, mx.array) else answer
