"""Classes from a few labelled examples: what a clustering becomes when someone names a handful."""

from typing import NamedTuple

import numpy as np

from .data.splits import Dataset
from .errors import InputError
from .evaluation import latents, responsibilities
from .models import LatentVariableModel, MixtureModel
from .plots import Gaussians


class ClassProbabilities(NamedTuple):
    """p(class | x) of N images and P classes, (N, P), the names, and Gaussians over z, if any."""

    values: np.ndarray
    names: tuple[str, ...]
    gaussians: Gaussians | None


def choose_labelled(train: Dataset, num_per_class: int, seed: int) -> np.ndarray:
    """Rows of `num_per_class` random examples of every class. Raises InputError if too few."""
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
    model: LatentVariableModel, train: Dataset, images: np.ndarray, num_per_class: int, seed: int
) -> ClassProbabilities:
    """Classes of images from `num_per_class` labelled training images of each class.

    A model with components names each by the labelled examples it is responsible for. For a
    model without, a Gaussian mixture with a component per class starts from the labelled latents
    and is fitted, without labels, to the latents of all training images.
    """
    rows = choose_labelled(train, num_per_class, seed)
    assert train.labels is not None
    present, labels = np.unique(train.labels[rows], return_inverse=True)
    names = tuple(train.class_names[number] for number in present)
    if isinstance(model, MixtureModel):
        mass = np.zeros((len(names), model.config.K))
        np.add.at(mass, labels, responsibilities(model, train.images[rows]))
        is_class = np.eye(len(names))[mass.argmax(axis=0)]  # (K, P)
        return ClassProbabilities(responsibilities(model, images) @ is_class, names, None)

    from sklearn.mixture import GaussianMixture

    of_labelled = latents(model, train.images[rows])
    means = np.stack([of_labelled[labels == number].mean(axis=0) for number in range(len(names))])
    mixture = GaussianMixture(len(names), means_init=means, random_state=seed)
    mixture.fit(latents(model, train.images).astype(np.float64))
    values = mixture.predict_proba(latents(model, images).astype(np.float64))
    gaussians = Gaussians(mixture.means_, mixture.covariances_, list(names))
    return ClassProbabilities(values, names, gaussians)
