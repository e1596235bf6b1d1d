"""A trained model as one uses it in a notebook: arrays in, arrays out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np

from ..config import ModelConfig
from ..data.batches import over_batches
from ..data.images import require_unmasked, value_range
from ..device.parallel import plain_operations
from ..device.randomness import preserved_random_state
from ..errors import InputError
from ..evaluation.scores import decode, samples
from ..models import LatentVariableModel, MixtureModel
from .checkpoint import load_model, save_model

Array: TypeAlias = Any  # a NumPy or an MLX array; the same kind comes back

LIKELIHOOD_DRAWS = 100


class LoadedModel:
    """A model that takes images as they are at hand, a batch at a time.

    Images are (N, H, W) or (N, H, W, C), uint8 or floats in [0, 1]; NumPy arrays are answered by
    NumPy arrays, MLX arrays by MLX arrays. Raises InputError, a ValueError, for any other shape.
    `network` is the `mlx.nn.Module` itself, `metrics` what was measured when it was trained, `data`
    and `training` what on and how.

    >>> model = load("pretrained/gmvae_digits_K10_dims_0008.npz")
    >>> images = np.zeros((3, 28, 28), np.uint8)
    >>> model.encode(images).shape, model.responsibilities(images).shape
    ((3, 8), (3, 10))
    """

    def __init__(self, network: LatentVariableModel, **parts: dict[str, Any]):
        self.network = network
        self.data, self.metrics = parts.get("data", {}), parts.get("metrics", {})
        self.training = parts.get("training", {})

    @property
    def config(self) -> ModelConfig:
        return self.network.config

    def encode(self, images: Array) -> Array:
        """Means of q(z|x), (N, D)."""
        return self._over(images, lambda x: self.network.encode(x).mean)

    def decode(self, z: Array) -> Array:
        """Expected pixels in [0, 1], (N, H, W, C), of latents (N, D)."""
        dims = self.config.latent_dims
        if np.ndim(z) != 2 or np.shape(z)[1] != dims or not len(z):
            raise InputError(f"latents have shape {np.shape(z)}; the model's are (N, {dims})")
        return _like(z, decode(self.network, np.asarray(z)))

    def reconstruct(self, images: Array) -> Array:
        """Expected pixels at the mean of q(z|x), (N, H, W, C)."""
        return self._over(images, self.network.reconstruct)

    def responsibilities(self, images: Array) -> Array:
        """q(y|x), (N, K). Raises InputError for a model without components."""
        return self._over(images, self._mixture().responsibilities)

    def sample(self, num: int, component: int | None = None, seed: int | None = None) -> np.ndarray:
        """`num` images of expected pixels, (num, H, W, C), from the prior or from a component."""
        if num < 1:
            raise InputError(f"num is {num}; it must be at least 1")
        if component is not None and not 0 <= component < self._mixture().config.K:
            raise InputError(f"component is {component}; there are 0 to {self.config.K - 1}")
        if seed is None:
            return samples(self.network, num, component)
        with preserved_random_state():
            mx.random.seed(seed)
            return samples(self.network, num, component)

    def elbo(self, images: Array) -> Array:
        """The evidence lower bound of each image at one draw, (N,), nats; always the same draw."""
        with preserved_random_state():
            return self._over(images, _always_alike(lambda x: -self.network.negative_elbo(x, True)))

    def log_likelihood(self, images: Array, draws: int = LIKELIHOOD_DRAWS) -> Array:
        """A lower bound on log p(x), (N,), nats, by so many draws (Burda et al. 2016, eq. 8)."""
        bound = _always_alike(lambda x: self.network.importance_bound(x, draws, same_draws=True))
        with preserved_random_state():
            return self._over(images, bound, draws)

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
        if isinstance(network, MixtureModel):
            functions["responsibilities"] = (network.responsibilities, config.image_shape)
        paths = {name: Path(folder) / f"{name}.mlxfn" for name in functions}
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, (function, shape) in functions.items():
            with plain_operations(), mx.exporter(str(paths[name]), function) as exporter:
                for size in batch_sizes or (1,):
                    exporter(mx.zeros((size, *shape)))
        return list(paths.values())

    def save(self, path: str | Path) -> None:
        """Write it all to an .npz or .safetensors file, from which `load` reads it."""
        parts = {"data": self.data, "metrics": self.metrics, "training": self.training}
        save_model(path, self.network, **parts)

    def __repr__(self) -> str:
        groups = [self.metrics.get(name) for name in ("clustering", "generative")]
        figures = {k: v for group in groups if isinstance(group, dict) for k, v in group.items()}
        values = {name: figures.get(name) for name in ("accuracy", "elbo")}  # as the file has them
        shown = [f"{name} {v:.4g}" for name, v in values.items() if isinstance(v, float)]
        trained = f" trained on {self.data['dataset']}" if "dataset" in self.data else ""
        return f"{self.network!r}{trained}" + (f" ({', '.join(shown)})" if shown else "")

    def _mixture(self) -> MixtureModel:
        if not isinstance(self.network, MixtureModel):
            raise InputError(f"a {self.config.model} has no components")
        return self.network

    def _over(
        self, images: Array, function: Callable[[mx.array], mx.array], copies: int = 1
    ) -> Array:
        checked = self._checked(images)
        if not len(checked):
            raise InputError("there are no images")
        return _like(images, over_batches(function, checked, copies))

    def _checked(self, images: Array) -> np.ndarray:
        """(N, H, W, C), uint8 or float32. Raises InputError unless they are the model's."""
        require_unmasked(images, "images")
        array, wanted = np.asarray(images), self.config.image_shape
        if array.ndim == 3 and wanted[-1] == 1:
            array = array[..., None]
        if array.ndim != 4 or array.shape[1:] != wanted:
            shape = " x ".join(map(str, wanted))
            raise InputError(f"images have shape {tuple(images.shape)}; they must be N x {shape}")
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


def load(path: str | Path) -> LoadedModel:
    """The model in a file, .npz or .safetensors, that `save_model` or one of the scripts wrote."""
    found = load_model(path)
    return LoadedModel(found.model, data=found.data, metrics=found.metrics, training=found.training)


def _always_alike(function: Callable[[mx.array], mx.array]) -> Callable[[mx.array], mx.array]:
    """`function` of a batch with the same draws in every call; it leaves the generator seeded."""

    def seeded(x: mx.array) -> mx.array:
        mx.random.seed(0)
        return function(x)

    return seeded


def _like(given: Array, answer: np.ndarray) -> Array:
    return mx.array(answer) if isinstance(given, mx.array) else answer
