"""Scikit-learn estimator that clusters images or tables with a GMVAE."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
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

from .config.record import is_whole
from .data.batches import over_batches
from .data.given import IMAGES, as_array, as_latents
from .data.images import Featured, features_of
from .data.splits import Dataset
from .data.units import ImageUnits, TableUnits, units_of
from .device.placement import on_device
from .device.randomness import preserved_random_state
from .errors import InputError, naming
from .evaluation.precise import Function, precisely
from .evaluation.scores import anomaly_scores, decode, finite, samples
from .models import LatentVariableModel, MixtureModel, build_model
from .runs.checkpoint import model_from_bytes, model_to_bytes
from .system.progress_bar import silence
from .training.api import History
from .training.callbacks import Callbacks, PrintEpochs, as_callbacks, fit
from .training.parameters import NAMES, Parameters, require_once
from .training.resolve import resolve
from .training.trainer import Trainer

LIKELIHOOD_DRAWS = 50
ROWS_OR_IMAGES = f"rows of numbers (n, n_features), or {IMAGES}"
DEVICES = ("cpu", "gpu")


def _responsibilities(model: LatentVariableModel, x: mx.array) -> mx.array:
    assert isinstance(model, MixtureModel)
    return model.responsibilities(x)


class GMVAEClusterer(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator
):
    """Cluster images or tables with a Gaussian-mixture variational autoencoder.

    Images are arrays (n, H, W) or (n, H, W, C), uint8 or floats in [0, 1], or flat rows if
    `image_shape` is given; their networks are convolutional. Any other array of rows of numbers is
    a table: its columns are standardised internally, the networks are dense and the likelihood is
    Gaussian. No labels are used. A gmvae learns clusters from neighbour pairs [4]_, with several
    heads and an over-clustering head [5]_.

    Parameters
    ----------
    n_components : int or "auto", default=10
        Number of clusters. "auto" chooses one before the training, as `train.py --K auto` does.
    latent_dims : int, default=8
        Number of dimensions of z.
    image_shape : tuple of int or None, default=None
        (H, W) or (H, W, C) of images that are given as flat rows.
    model : {"gmvae", "vade", "vae-gmm"}, default="gmvae"
        Gaussian-mixture VAE [1]_, variational deep embedding [2]_, or a VAE and a mixture trained
        in turns [3]_.
    max_iter : int or None, default=None
        Number of epochs. None chooses it from the number of images, as `train.py` does; for a table
        it is at most 100, which suffices for clusters. Reconstructions gain by more.
    batch_size : int or None, default=None
        Number of images per step. None chooses it from the number and the size of the images.
    learning_rate : float, default=1e-3
        Learning rate of Adam.
    random_state : int, RandomState or None, default=None
        Seed of the initial weights, the order of the images and all random draws.
    device : {"cpu", "gpu"} or None, default=None
        Where to compute. None is MLX's default: the GPU if there is one.
    verbose : int, default=0
        If it is not 0, progress bars, a line per epoch and the progress of "auto" are shown.
    encoder : str or None, default=None
        Pretrained encoder for photographs, as in `train.py --features`: a short name
        ("dinov2-small"), "ORG/NAME" on the Hugging Face Hub, or a folder. Clusters are found in
        its features.
    callback : callable, Callback, list of them, or None, default=None
        A function is called with the record of each epoch, a dict of floats. The training ends
        early if it returns True.
    model_options : dict or None, default=None
        Further fields of `ModelConfig`.
    train_options : dict or None, default=None
        Further fields of `TrainConfig`.

    Attributes
    ----------
    labels_ : ndarray of shape (n,)
        Cluster of each training image.
    cluster_centers_ : ndarray
        Decoded centre of each component, in the shape and the units of X.
    history_ : list of dict
        Record of each epoch.
    n_iter_ : int
        Number of epochs that were trained.
    lower_bound_ : float
        Mean ELBO of the training images, in nats per image.
    model_ : mlx.nn.Module
        The trained network.
    n_components_ : int
        Number of clusters, chosen if `n_components` is "auto".
    n_features_in_ : int
        Number of columns of a table, or of pixel values of an image.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns. Defined only if X has column names that are all strings.

    References
    ----------
    .. [1] Dilokthanakul et al. 2016, "Deep Unsupervised Clustering with Gaussian Mixture
       Variational Autoencoders", arXiv:1611.02648.
    .. [2] Jiang et al. 2017, "Variational Deep Embedding: An Unsupervised and Generative Approach
       to Clustering", arXiv:1611.05148.
    .. [3] Taniguchi et al. 2020, "Neuro-SERKET: Development of Integrative Cognitive System
       through the Composition of Deep Probabilistic Generative Models", arXiv:1910.08918.
    .. [4] Van Gansbeke et al. 2020, "SCAN: Learning to Classify Images without Labels",
       arXiv:2005.12320.
    .. [5] Ji et al. 2019, "Invariant Information Clustering for Unsupervised Image Classification
       and Segmentation", arXiv:1807.06653.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> X, _ = make_blobs(90, centers=3, cluster_std=0.3, random_state=0)
    >>> clusterer = GMVAEClusterer(3, max_iter=30, random_state=0).fit(X)
    >>> sorted(np.bincount(clusterer.labels_).tolist())
    [30, 30, 30]
    >>> clusterer.predict_proba(X).shape
    (90, 3)
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
        encoder: str | None = None,
        callback: Callbacks = None,
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
        self.encoder = encoder
        self.callback = callback
        self.model_options = model_options
        self.train_options = train_options

    def fit(self, X: Any, y: Any = None) -> "GMVAEClusterer":
        """Train on X.

        Components without any row of X get the highest numbers.

        Parameters
        ----------
        X : array-like
            At least 2 images or rows of numbers. A list of images of one size is accepted.
        y : Ignored
            Not used; part of scikit-learn's interface.

        Returns
        -------
        GMVAEClusterer
            The fitted estimator itself.

        Raises
        ------
        InputError
            If X or a parameter cannot be used. It is a ValueError. An earlier fit is kept.
        """
        with self._undone_by_errors():
            options = {"model_options": self.model_options, "train_options": self.train_options}
            require_once(**options)
            with naming(NAMES):
                self._fit(X, Parameters.of(self.get_params(deep=False)))
        return self

    def _fit(self, X: Any, parameters: Parameters) -> None:
        callbacks = ([PrintEpochs()] if self.verbose else []) + as_callbacks(self.callback)
        array = self._array(X, reset=True)
        units = units_of(array, self.image_shape)
        images = units.transform(array)
        seed = int(self._generator().randint(2**31))
        with self._settings():
            say = partial(print, flush=True) if self.verbose else None
            options = parameters.options(
                seed, isinstance(units, TableUnits), self.model_options or {},
                self.train_options or {}, self.encoder,
            )  # fmt: skip
            examples, encoder_id = self._encoded(units, images)
            features = features_of(examples)
            load = None if features is None else lambda _: features
            found = resolve(options, Dataset.of(images, "X"), load, say)
            config = found.model
            mx.random.seed(seed)
            trainer = Trainer(build_model(config), examples, found.training, found.graph)
            fit(trainer, callbacks)
            model = trainer.model
            assert isinstance(model, MixtureModel)
            model.eval()
            labels = self._answers(model, units, examples, _responsibilities).argmax(axis=1)
            is_empty = np.bincount(labels, minlength=config.K) == 0
            order = np.argsort(is_empty, kind="stable")
            if (order != np.arange(config.K)).any():
                model.permute_components(order)
                mx.eval(model.parameters())
                labels = self._answers(model, units, examples, _responsibilities).argmax(axis=1)
            bounds = -anomaly_scores(model, examples, "elbo")
            centres = decode(model, np.array(model.component_latents()))
        self._units, self.model_, self.labels_ = units, model, labels
        self._encoder_id = encoder_id
        self.history_ = History(trainer.history)
        self.n_iter_ = len(trainer.history)
        self.n_components_ = config.K
        self.lower_bound_ = float(bounds.mean()) + units.log_volume
        self.cluster_centers_ = units.inverse_transform(centres)
        self._n_features_out = config.latent_dims

    def predict(self, X: Any) -> np.ndarray:
        """Return the most likely cluster of each image or row.

        Parameters
        ----------
        X : array-like
            Images or rows of the kind that the estimator was fitted to.

        Returns
        -------
        ndarray of shape (n,)
            Number of the cluster, from 0 to n_components - 1.
        """
        return self.predict_proba(X).argmax(axis=1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the cluster probabilities q(y|x) of each image or row.

        Parameters
        ----------
        X : array-like
            Images or rows of the kind that the estimator was fitted to.

        Returns
        -------
        ndarray of shape (n, n_components)
            Probabilities; each row sums to 1.
        """
        return self._measured(X, _responsibilities)

    def transform(self, X: Any) -> np.ndarray:
        """Return the latent representation of each image or row, the mean of q(z|x).

        Parameters
        ----------
        X : array-like
            Images or rows of the kind that the estimator was fitted to.

        Returns
        -------
        ndarray of shape (n, latent_dims)
            Latents z.
        """
        return self._measured(X, lambda model, x: model.encode(x).mean)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Decode latents into images or rows.

        Parameters
        ----------
        X : array-like of shape (n, latent_dims)
            Latents, as `transform` returns them.

        Returns
        -------
        ndarray
            Expected images in [0, 1], or rows in the units of the table.
        """
        check_is_fitted(self, "model_")
        z = as_latents(X, "X", self.model_.config.latent_dims)
        with self._settings():
            return self._units.inverse_transform(decode(self.model_, z))

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Draw images or rows from the mixture.

        If `random_state` is an int, every call returns the same ones.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.

        Returns
        -------
        X : ndarray
            Expected images in [0, 1], or rows in the units of the table.
        y : ndarray of shape (n_samples,)
            Component of each sample, in ascending order.

        Raises
        ------
        InputError
            If `n_samples` is not a whole number of at least 1. It is a ValueError.
        """
        check_is_fitted(self, "model_")
        if not is_whole(n_samples) or n_samples < 1:
            raise InputError(f"n_samples is {n_samples!r}; it must be a whole number of at least 1")
        rng = self._generator()
        y = np.sort(rng.randint(self.n_components_, size=n_samples))
        with self._settings():
            mx.random.seed(int(rng.randint(2**31)))
            found = [
                samples(self.model_, int(num), component)
                for component, num in enumerate(np.bincount(y, minlength=self.n_components_))
                if num
            ]
            return self._units.inverse_transform(np.concatenate(found)), y

    def score_samples(self, X: Any) -> np.ndarray:
        """Return a lower bound on the log-likelihood log p(x) of each image or row.

        The importance-weighted bound of 50 draws [1]_, which are the same for every row. For a
        table it is the log density in the table's own units.

        Parameters
        ----------
        X : array-like
            Images or rows of the kind that the estimator was fitted to.

        Returns
        -------
        ndarray of shape (n,)
            Bounds, in nats.

        References
        ----------
        .. [1] Burda et al. 2016, "Importance Weighted Autoencoders", arXiv:1509.00519, eq. 8.
        """

        def bound(model: LatentVariableModel, x: mx.array) -> mx.array:
            mx.random.seed(0)
            return model.importance_bound(x, LIKELIHOOD_DRAWS, same_draws=True)

        return self._measured(X, bound, LIKELIHOOD_DRAWS) + np.float32(self._units.log_volume)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean of `score_samples`.

        Parameters
        ----------
        X : array-like
            Images or rows of the kind that the estimator was fitted to.
        y : Ignored
            Not used; part of scikit-learn's interface.

        Returns
        -------
        float
            Mean lower bound on log p(x), in nats per image or row.
        """
        return float(self.score_samples(X).mean())

    def _measured(self, X: Any, function: Function, copies: int = 1) -> np.ndarray:
        check_is_fitted(self, "model_")
        images = self._units.transform(self._array(X))
        with self._settings():
            examples, _ = self._encoded(self._units, images, self._encoder_id)
            return self._answers(self.model_, self._units, examples, function, copies)

    def _encoded(
        self, units: Any, images: np.ndarray, wanted: Any = None
    ) -> tuple[np.ndarray | Featured, Any]:
        """Return the images, with features if there is an encoder, and the identity of the encoder.

        Raises InputError if `wanted`, the identity of the encoder of the fit, is another one.
        """
        if self.encoder is None:
            return images, None
        if isinstance(units, TableUnits):
            raise InputError("encoder has no effect on a table; it is for images")
        from .encoders.encode import encoded_images

        return encoded_images(images, self.encoder, wanted)

    @staticmethod
    def _answers(
        model: MixtureModel, units: Any, images: Any, function: Function, copies: int = 1
    ) -> np.ndarray:
        """Apply `function` in batches; to tables in double precision, as scikit-learn does."""
        if isinstance(units, TableUnits):
            return finite(precisely(model, function, images, copies))
        return finite(over_batches(lambda x: function(model, x), images, copies))

    def _generator(self) -> np.random.RandomState:
        try:
            return check_random_state(self.random_state)  # type: ignore[no-any-return]
        except ValueError:
            raise InputError(
                f"random_state is {self.random_state!r}; give a whole number from 0 to 2**32 - 1, "
                "a numpy.random.RandomState or None"
            ) from None

    def _array(self, X: Any, reset: bool = False) -> np.ndarray:
        """Return X as an array of images, or of rows (n, F).

        With `reset`, the shape of X is stored, and later calls compare theirs with it. Raises
        ValueError if X cannot be used.
        """
        units = None if reset else self._units
        shape = units.kept if isinstance(units, ImageUnits) else None
        X = as_array(X, "X", ROWS_OR_IMAGES, shape)
        num, *others = np.shape(X)
        least = 2 if reset else 1
        if num < least:
            raise InputError(f"X has {num} sample{'s' * (num != 1)}; give at least {least}")
        if not others:
            raise InputError(
                f"X has shape {np.shape(X)}; Reshape your data: X.reshape(1, -1) is one row of "
                "numbers, X.reshape(-1, 1) one column"
            )
        if not reset and np.shape(X) == self._units.one:
            raise InputError(f"X has the shape of one image, {np.shape(X)}; give X[None]")
        if len(others) == 1:
            of_images = (
                (self.image_shape is not None) if reset else isinstance(self._units, ImageUnits)
            )
            kinds = "numeric" if of_images else [np.float64, np.float32, np.uint8]
            try:
                return validate_data(self, X, reset=reset, dtype=kinds)  # type: ignore[no-any-return]
            except ValueError as error:
                if "could not convert" not in str(error):  # that message does not name X
                    raise
                raise InputError(f"X has text ({error}); give {ROWS_OR_IMAGES}") from None
        array = np.asarray(X)
        if reset:
            self.n_features_in_ = math.prod(array.shape[1:])
            self.__dict__.pop("feature_names_in_", None)
        return array

    @contextmanager
    def _undone_by_errors(self) -> Iterator[None]:
        """Restore all attributes if an exception is raised within the context."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """Apply `device` and `verbose` within the context, and preserve MLX's random state."""
        if self.device is not None and self.device not in DEVICES:
            raise InputError(f"device is {self.device!r}; it must be cpu, gpu or None")
        device = mx.default_device() if self.device is None else getattr(mx, self.device)
        with on_device(device), preserved_random_state(), silence(not self.verbose):
            yield

    def __getstate__(self) -> dict[str, Any]:
        """Return the state; the model is in it as the bytes of an .npz file, not as MLX objects."""
        state = super().__getstate__()
        if "model_" in state:
            state = state | {"model_": model_to_bytes(state["model_"])}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state.get("model_"), bytes):
            state = state | {"model_": model_from_bytes(state["model_"])}
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
