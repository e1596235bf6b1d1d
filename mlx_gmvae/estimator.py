"""A GMVAE as an estimator of scikit-learn's: images or plain tables in, clusters out."""

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from .clustering.choices import fitted_model
from .clustering.neighbours import nearest
from .config import ModelConfig, TrainConfig
from .data.batches import over_batches
from .data.images import require_unmasked
from .data.splits import Dataset
from .data.units import UNIT, ImageUnits, TableUnits, units_of
from .device.progress import silence
from .device.randomness import preserved_random_state
from .errors import InputError
from .evaluation.scores import anomaly_scores, decode, latents, responsibilities, samples
from .models import MixtureModel, build_model, kind_of
from .report.words import epoch_line
from .runs.checkpoint import load_model, save_model
from .training.defaults import for_model, for_set_size
from .training.division import training_part
from .training.number import number_of_clusters
from .training.train import History
from .training.trainer import Trainer

TABLE = {"arch": "mlp", "likelihood": "gaussian", "sigma": UNIT / 2, "hidden_dims": 128}
MOST_TABLE_EPOCHS = 100  # more change the clusters no further
LIKELIHOOD_DRAWS = 50
# Fields of the configurations that are parameters here, and which.
IN_MODEL = {
    "K": "n_components", "latent_dims": "latent_dims", "model": "model",
    "image_size": "image_shape", "channels": "image_shape",
}  # fmt: skip
IN_TRAINING = {
    "epochs": "max_iter", "batchsize": "batch_size", "lr": "learning_rate", "seed": "random_state",
}  # fmt: skip
AUTO = "auto"


class GMVAEClusterer(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator
):
    """Gaussian-mixture variational autoencoder, trained without labels.

    Images are arrays (n, H, W) or (n, H, W, C), uint8 or floats in [0, 1], or flat rows with
    `image_shape`; they get convolutional networks. Anything else that has rows of numbers is a
    table: its columns are standardised inside, networks are dense, the likelihood is Gaussian.

    Parameters
    ----------
    n_components : int or "auto"
        Number of clusters; "auto" finds one before the training (see `train.py --K auto`).
    latent_dims : int
        Dimensions of z.
    image_shape : tuple of int or None
        (H, W) or (H, W, C) of images that come as flat rows.
    model : {"gmvae", "vade", "vae-gmm"}
    max_iter : int or None
        Epochs; None chooses by the number of images, as `train.py` does.
    batch_size : int or None
        Images per step; None chooses.
    learning_rate : float
    random_state : int, RandomState or None
    device : {"cpu", "gpu"} or None
        None is MLX's own choice: the GPU where there is one.
    verbose : int
        1 shows progress bars, a line per epoch, and how far the search for "auto" is.
    callback : callable or None
        Called with each epoch's record (a dict of floats); training ends early if it returns True.
    model_options, train_options : dict or None
        Other fields of `ModelConfig` and `TrainConfig`.

    Attributes
    ----------
    labels_ : (n,) the cluster of each training image.
    cluster_centers_ : the components' centres, decoded, as X is given.
    history_ : records of the epochs; `n_iter_` is their number.
    lower_bound_ : mean ELBO of the training images, nats per image.
    model_ : the trained `mlx.nn.Module`.
    n_components_, n_features_in_, feature_names_in_

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> X, _ = make_blobs(90, centers=3, cluster_std=0.3, random_state=0)
    >>> clusterer = GMVAEClusterer(3, max_iter=30, random_state=0).fit(X)
    >>> sorted(np.bincount(clusterer.labels_).tolist())
    [30, 30, 30]
    """

    _units: ImageUnits | TableUnits

    def __init__(
        self,
        n_components: int | str = 10,
        *,
        latent_dims: int = 8,
        image_shape: tuple[int, ...] | None = None,
        model: str = "gmvae",
        max_iter: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 1e-3,
        random_state: Any = None,
        device: str | None = None,
        verbose: int = 0,
        callback: Callable[[dict[str, float]], Any] | None = None,
        model_options: dict[str, Any] | None = None,
        train_options: dict[str, Any] | None = None,
    ):
        self.n_components = n_components
        self.latent_dims = latent_dims
        self.image_shape = image_shape
        self.model = model
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state
        self.device = device
        self.verbose = verbose
        self.callback = callback
        self.model_options = model_options
        self.train_options = train_options

    def fit(self, X: Any, y: Any = None) -> "GMVAEClusterer":
        """Train on X; y is ignored. Raises ValueError if X or a parameter cannot be used."""
        array = self._array(X, reset=True)
        units = units_of(array, self.image_shape)
        images = units.inside(array)
        seed = int(check_random_state(self.random_state).randint(2**31))
        with self._settings():
            config, training, graph = self._plan(images, isinstance(units, TableUnits), seed)
            mx.random.seed(seed)
            trainer = Trainer(build_model(config), images, training, graph)
            for record in trainer.run():
                if self.verbose:
                    print(epoch_line(record, trainer.seconds_left), flush=True)
                if self.callback is not None and self.callback(dict(record)):
                    break
            model = trainer.model
            assert isinstance(model, MixtureModel)
            model.eval()
            labels = responsibilities(model, images).argmax(axis=1)
            bounds = -anomaly_scores(model, images, "elbo")
            centres = decode(model, np.array(model.component_latents()))
        # Only now, so that a training that fails leaves what was fitted before.
        self._units, self.model_, self.labels_ = units, model, labels
        self.history_ = History(trainer.history)
        self.n_iter_ = len(trainer.history)
        self.n_components_ = config.K
        self.lower_bound_ = float(bounds.mean()) + units.log_volume
        self.cluster_centers_ = units.outside(centres)
        self._n_features_out = config.latent_dims
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest cluster of each row of X, (n,)."""
        return self.predict_proba(X).argmax(axis=1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """q(y|x), (n, n_components); rows sum to 1."""
        return self._measured(X, lambda images: responsibilities(self.model_, images))

    def transform(self, X: Any) -> np.ndarray:
        """Means of q(z|x), (n, latent_dims)."""
        return self._measured(X, lambda images: latents(self.model_, images))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """What latents (n, latent_dims) stand for: images or rows, as the training data was."""
        check_is_fitted(self, "model_")
        z = np.asarray(X, np.float32)
        if z.ndim != 2 or z.shape[1] != self.model_.config.latent_dims:
            raise InputError(
                f"latents have shape {z.shape}; they must be (n, {self.model_.config.latent_dims})"
            )
        with self._settings():
            return self._units.outside(decode(self.model_, z))

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Samples of the mixture as the training data was, (n, ...), and their components, (n,).

        Every call answers the same for an integer `random_state`.
        """
        check_is_fitted(self, "model_")
        rng = check_random_state(self.random_state)
        y = np.sort(rng.randint(self.n_components_, size=n_samples))
        with self._settings():
            mx.random.seed(int(rng.randint(2**31)))
            found = [
                samples(self.model_, int(num), component)
                for component, num in enumerate(np.bincount(y, minlength=self.n_components_))
                if num
            ]
            return self._units.outside(np.concatenate(found)), y

    def score_samples(self, X: Any) -> np.ndarray:
        """A lower bound on log p(x) of each row, (n,), nats: 50 draws, the same for every row.

        Of tables it is the density of their own units. Source: Burda et al. 2016, eq. 8.
        """

        def bound(x: mx.array) -> mx.array:
            mx.random.seed(0)
            return self.model_.importance_bound(x, LIKELIHOOD_DRAWS, same_draws=True)

        found = self._measured(X, lambda images: over_batches(bound, images, LIKELIHOOD_DRAWS))
        return found + np.float32(self._units.log_volume)

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`, nats per row."""
        return float(self.score_samples(X).mean())

    def _measured(self, X: Any, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        check_is_fitted(self, "model_")
        images = self._units.inside(self._array(X))
        with self._settings():
            return function(images)

    def _plan(
        self, images: np.ndarray, of_table: bool, seed: int
    ) -> tuple[ModelConfig, TrainConfig, np.ndarray | None]:
        """Configurations, and the neighbour graph where the trainer would not find it."""
        self._refuse_twice()
        is_auto = self.n_components == AUTO
        *image_size, channels = images.shape[1:]
        given = {"model": self.model, "latent_dims": self.latent_dims}
        given |= {"K": 2 if is_auto else self.n_components, "image_size": image_size}
        own = self.model_options or {}
        config = ModelConfig.from_dict(
            (TABLE if of_table else {}) | given | own | {"channels": channels}
        )
        if not issubclass(kind_of(config), MixtureModel):
            raise InputError(f"model {self.model} has no components; use gmvae, vade or vae-gmm")
        if not of_table and "classifier" not in own:
            config = fitted_model(config)
        wanted = {"epochs": self.max_iter, "batchsize": self.batch_size, "lr": self.learning_rate}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        wanted |= {"seed": seed, **(self.train_options or {})}
        useful = {"augment": "none"} if of_table else {}
        training = TrainConfig.from_dict(useful | wanted)
        training = for_set_size(
            training, Dataset("X", images, None, np.arange(len(images))), set(wanted)
        )
        if of_table and self.max_iter is None:
            training = replace(training, epochs=min(training.epochs, MOST_TABLE_EPOCHS))
        training = for_model(training, config, set(wanted))
        graph = None
        if of_table and training.pair_weight and training.neighbours:
            rows = training_part(images, training)[:]
            graph = nearest(rows.reshape(len(rows), -1), training.neighbours)
        if is_auto:
            seen = training_part(images, training)
            say = partial(print, flush=True) if self.verbose else None
            found, graph = number_of_clusters(config, training, seen, graph, say)
            config = ModelConfig.from_dict(config.to_dict() | {"K": found.clusters})
        return config, training, graph

    def _refuse_twice(self) -> None:
        """Raise InputError if an option says what is a parameter or follows from X."""
        for options, names in (("model_options", IN_MODEL), ("train_options", IN_TRAINING)):
            for name in getattr(self, options) or {}:
                if name in names:
                    raise InputError(f"{options} has {name}; give {names[name]} instead")

    def _array(self, X: Any, reset: bool = False) -> np.ndarray:
        """X as an array of images, or of rows: (n, F). Raises ValueError if it cannot be used.

        With `reset` it says what later ones must look like.
        """
        require_unmasked(X, "X")
        if getattr(X, "ndim", 2) not in (3, 4):
            of_images = (
                (self.image_shape is not None) if reset else isinstance(self._units, ImageUnits)
            )
            return validate_data(  # type: ignore[no-any-return]
                self, X, reset=reset, ensure_min_samples=2 if reset else 1,
                dtype="numeric" if of_images else [np.float64, np.float32, np.uint8],
            )  # fmt: skip
        array = np.asarray(X)
        if reset:
            self.n_features_in_ = math.prod(array.shape[1:])
            self.__dict__.pop("feature_names_in_", None)
        return array

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """The device and the quiet that were asked for; MLX's random state stays as it was."""
        before = mx.default_device()
        if self.device not in (None, "cpu", "gpu"):
            raise InputError(f"device is {self.device!r}; it must be cpu, gpu or None")
        if self.device is not None:
            mx.set_default_device(mx.Device(getattr(mx, self.device)))
        try:
            with preserved_random_state(), silence(not self.verbose):
                yield
        finally:
            mx.set_default_device(before)

    def __getstate__(self) -> dict[str, Any]:
        """The model as the bytes of its .npz file: nothing of MLX's is pickled."""
        state = super().__getstate__()
        if "model_" in state:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.npz"
                save_model(path, state["model_"])
                state = state | {"model_": path.read_bytes()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state.get("model_"), bytes):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.npz"
                path.write_bytes(state["model_"])
                state = state | {"model_": load_model(path).model}
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
