"""The `Model` of the Python API, which takes and returns arrays and validates its inputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np

from ..config import ModelConfig
from ..config.record import is_whole
from ..data.batches import over_batches
from ..data.given import as_array, as_images_of, as_latents
from ..data.images import Featured
from ..device.randomness import preserved_random_state
from ..errors import InputError
from ..evaluation.scores import decode, samples
from ..models import LatentVariableModel, MixtureModel
from .checkpoint import save_model
from .export import export_functions

Array: TypeAlias = Any  # a NumPy or MLX array; results are of the same kind

LIKELIHOOD_DRAWS = 100


class Model:
    """Wrap a network with checks of its inputs, batches and array conversion.

    Images are (N, H, W) or (N, H, W, C), uint8 or floats in [0, 1]. The result is a NumPy array
    for a NumPy array and an MLX array for an MLX array. Inputs of any other shape or type raise
    InputError, a ValueError. `build_model` and `load` return objects of this class.

    Parameters
    ----------
    network : mlx.nn.Module
        A network of this package, for example a GMVAE.
    **parts : dict
        `data`, `metrics` and `training`, see Attributes; each is empty by default.

    Attributes
    ----------
    network : mlx.nn.Module
        The network.
    data : dict
        Description of the training images.
    metrics : dict
        Scores at the end of the training.
    training : dict
        Options of the training.

    Examples
    --------
    >>> import mlx_gmvae as mg
    >>> model = mg.load("pretrained/gmvae_digits_K10_dims_0008.npz")
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
        """Configuration of the network."""
        return self.network.config

    def encode(self, images: Array) -> Array:
        """Return the latents of images, the means of q(z|x).

        Parameters
        ----------
        images : array of shape (N, H, W) or (N, H, W, C)
            Images of the model's size, uint8 or floats in [0, 1].

        Returns
        -------
        array of shape (N, D)
            Latents z.

        Raises
        ------
        InputError
            If the images cannot be used.
        """
        return self._over(images, self._encode)

    def decode(self, z: Array) -> Array:
        """Decode latents into images.

        Parameters
        ----------
        z : array of shape (N, D)
            Latents.

        Returns
        -------
        array of shape (N, H, W, C)
            Expected pixels, in [0, 1].

        Raises
        ------
        InputError
            If the latents cannot be used.
        """
        return _like(z, decode(self.network, as_latents(z, "latents", self.config.latent_dims)))

    def reconstruct(self, images: Array) -> Array:
        """Encode and decode images.

        Parameters
        ----------
        images : array of shape (N, H, W) or (N, H, W, C)
            Images of the model's size, uint8 or floats in [0, 1].

        Returns
        -------
        array of shape (N, H, W, C)
            Expected pixels at the mean of q(z|x), in [0, 1].

        Raises
        ------
        InputError
            If the images cannot be used.
        """
        return self._over(images, self.network.reconstruct)

    def responsibilities(self, images: Array, features: Array = None) -> Array:
        """Return the cluster probabilities q(y|x) of images.

        Parameters
        ----------
        images : array of shape (N, H, W) or (N, H, W, C)
            Images of the model's size, uint8 or floats in [0, 1].
        features : array of shape (N, F), optional
            Features of the images, for a model whose q(y|x) sees features instead of pixels. By
            default they are computed with the encoder that the model was trained with.

        Returns
        -------
        array of shape (N, K)
            Probabilities; each row sums to 1.

        Raises
        ------
        InputError
            If the images cannot be used, the model has no components, or its encoder is not
            available.
        """
        return self._over(images, self._mixture().responsibilities, features=features)

    def predict(self, images: Array, features: Array = None) -> Array:
        """Return the cluster of each image, the component with the largest q(y|x).

        Parameters
        ----------
        images : array of shape (N, H, W) or (N, H, W, C)
            Images of the model's size, uint8 or floats in [0, 1].
        features : array of shape (N, F), optional
            Features of the images, for a model whose q(y|x) sees features instead of pixels. By
            default they are computed with the encoder that the model was trained with.

        Returns
        -------
        array of shape (N,)
            Cluster numbers, from 0 to K - 1.

        Raises
        ------
        InputError
            As `responsibilities`.
        """
        return self.responsibilities(images, features).argmax(axis=1)

    def sample(
        self, num: int = 1, component: int | None = None, seed: int | None = None
    ) -> np.ndarray:
        """Draw images from the prior.

        Parameters
        ----------
        num : int, default=1
            Number of images.
        component : int, optional
            Component of a mixture to draw from. By default images are drawn from the whole prior.
        seed : int, optional
            Seed of the draws. By default they use MLX's global generator.

        Returns
        -------
        ndarray of shape (num, H, W, C)
            Expected pixels, in [0, 1].

        Raises
        ------
        InputError
            If an argument cannot be used.
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
        """Return the evidence lower bound (ELBO) of each image [1]_.

        Every call uses the same draw from q.

        Parameters
        ----------
        images : array of shape (N, H, W) or (N, H, W, C)
            Images of the model's size, uint8 or floats in [0, 1].
        features : array of shape (N, F), optional
            Features of the images, for a model whose q(y|x) sees features instead of pixels. By
            default they are computed with the encoder that the model was trained with.

        Returns
        -------
        array of shape (N,)
            Bounds, in nats per image.

        Raises
        ------
        InputError
            If the images or the features cannot be used.

        References
        ----------
        .. [1] Kingma & Welling 2013, "Auto-Encoding Variational Bayes", arXiv:1312.6114.
        """
        bound = _always_alike(lambda x: -self.network.negative_elbo(x, True))
        with preserved_random_state():
            return self._over(images, bound, features=features)

    def log_likelihood(
        self, images: Array, draws: int = LIKELIHOOD_DRAWS, features: Array = None
    ) -> Array:
        """Return a lower bound on the log-likelihood log p(x) of each image.

        The importance-weighted bound [1]_. It is tighter than the ELBO and tightens with the
        number of draws. Every call uses the same draws.

        Parameters
        ----------
        images : array of shape (N, H, W) or (N, H, W, C)
            Images of the model's size, uint8 or floats in [0, 1].
        draws : int, default=100
            Number of draws per image.
        features : array of shape (N, F), optional
            Features of the images, for a model whose q(y|x) sees features instead of pixels. By
            default they are computed with the encoder that the model was trained with.

        Returns
        -------
        array of shape (N,)
            Bounds, in nats per image.

        Raises
        ------
        InputError
            If an argument cannot be used.

        References
        ----------
        .. [1] Burda et al. 2016, "Importance Weighted Autoencoders", arXiv:1509.00519, eq. 8.
        """
        if not is_whole(draws) or draws < 1:
            raise InputError(f"draws is {draws!r}; it must be a whole number of at least 1")
        bound = _always_alike(lambda x: self.network.importance_bound(x, draws, same_draws=True))
        with preserved_random_state():
            return self._over(images, bound, draws, features)

    def export(self, folder: str | Path, *batch_sizes: int) -> list[Path]:
        """Export the functions of the model, to run in MLX without this package.

        The functions are encode, decode and, for a mixture, responsibilities. MLX imports them in
        Python or C++: `mx.import_function("decode.mlxfn")(z)` returns a list of one array. Images
        are float32 in [0, 1]. If q(y|x) sees features, responsibilities takes these.

        Parameters
        ----------
        folder : str or Path
            Folder for the .mlxfn files, one for each function.
        *batch_sizes : int
            Sizes of the batches that the functions accept; 1 by default.

        Returns
        -------
        list of Path
            The files.

        Raises
        ------
        InputError
            If a batch size is below 1.
        """
        if any(size < 1 for size in batch_sizes):
            raise InputError(f"batch sizes are {batch_sizes}; they must be at least 1")
        return export_functions(self.network, Path(folder), batch_sizes or (1,))

    def save(self, path: str | Path) -> None:
        """Save the network with its configuration and description, for `load`.

        Parameters
        ----------
        path : str or Path
            A name that ends in .safetensors gives such a file, any other an .npz file.
        """
        parts = {"data": self.data, "metrics": self.metrics, "training": self.training}
        save_model(path, self.network, **parts)

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
        checked = as_images_of(images, self.config.image_shape)
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


def _always_alike(function: Callable[[mx.array], mx.array]) -> Callable[[mx.array], mx.array]:
    """Return `function` with the same draws in every call; a call leaves the generator seeded."""

    def seeded(x: mx.array) -> mx.array:
        mx.random.seed(0)
        return function(x)

    return seeded


def _like(given: Array, answer: np.ndarray) -> Array:
    return mx.array(answer) if isinstance(given, mx.array) else answer
