"""Classification of images from a few labelled examples of each class."""

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from ..data.images import Examples
from ..data.splits import Dataset
from ..errors import InputError
from ..models import LatentVariableModel, MixtureModel
from ..models.mixture import Gaussians
from .scores import component_gaussians, latents, responsibilities

RIDGE = 0.01  # added to the variances of latents
ITERATIONS = 3  # of EM; with more, components drift away from the labelled classes


class ClassProbabilities(NamedTuple):
    """p(class | x) of N images, (N, P), the names of the P classes, and named Gaussians over z."""

    values: np.ndarray
    names: tuple[str, ...]
    gaussians: Gaussians


def choose_labelled(train: Dataset, num_per_class: int, seed: int) -> np.ndarray:
    """Return rows of `num_per_class` random images of every class, or raise InputError."""
    if train.labels is None:
        raise InputError(f"--labelled needs labels, and {train.name} has none")
    rng = np.random.default_rng(seed)
    rows = []
    for number in np.unique(train.labels):
        of_class = np.flatnonzero(train.labels == number)
        if len(of_class) < num_per_class:
            raise InputError(
                f"--labelled is {num_per_class}, but class {train.class_names[number]} has only "
                f"{len(of_class)} training images"
            )
        rows.append(rng.choice(of_class, num_per_class, replace=False))
    return np.concatenate(rows)


def classify(
    model: LatentVariableModel, train: Dataset, images: Examples, num_per_class: int, seed: int
) -> ClassProbabilities:
    """Return class probabilities, from `num_per_class` labelled training images of each class.

    In a model with components, each component gets the class for whose labelled images it is most
    responsible. For a model without components, a Gaussian mixture with one component per class
    starts from the labelled latents. It takes a few EM steps, without labels, on the latents of all
    training images.
    """
    rows = choose_labelled(train, num_per_class, seed)
    assert train.labels is not None
    present, labels = np.unique(train.labels[rows], return_inverse=True)
    names = tuple(train.class_names[number] for number in present)
    if isinstance(model, MixtureModel):
        mass = np.zeros((len(names), model.config.K))
        np.add.at(mass, labels, responsibilities(model, train.examples[rows]))
        given = mass.argmax(axis=0)  # (K,)
        is_class = np.eye(len(names))[given]  # (K, P)
        gaussians = component_gaussians(model)._replace(names=[names[each] for each in given])
        return ClassProbabilities(responsibilities(model, images) @ is_class, names, gaussians)

    mixture = _mixture_of(latents(model, train.images[rows]), labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopped on purpose
        mixture.fit(latents(model, train.images).astype(np.float64))
    values = mixture.predict_proba(latents(model, images).astype(np.float64))
    gaussians = Gaussians(mixture.means_, mixture.covariances_, list(names))
    return ClassProbabilities(values, names, gaussians)


def _mixture_of(labelled: np.ndarray, labels: np.ndarray) -> GaussianMixture:
    """Return a mixture that starts with one component per class, from a few latents (N, D)."""
    dims, numbers = labelled.shape[1], range(labels.max() + 1)
    means = np.stack([labelled[labels == number].mean(axis=0) for number in numbers])
    # Few examples say little about a class's covariance: use the mean of its own and the pooled.
    pooled = np.cov((labelled - means[labels]).T).reshape(dims, dims) + RIDGE * np.eye(dims)
    covariances = []
    for number in numbers:
        members = labelled[labels == number]
        own = np.cov(members.T).reshape(dims, dims) if len(members) > 1 else pooled
        covariances.append(0.5 * (own + pooled))
    return GaussianMixture(
        len(means),
        weights_init=np.full(len(means), 1 / len(means)),
        means_init=means,
        precisions_init=np.linalg.inv(np.stack(covariances)),
        max_iter=ITERATIONS,
    )
