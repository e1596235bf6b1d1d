"""Scores of a clustering without labels."""

import dataclasses
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ..config import TrainConfig
from ..data.batches import over_batches
from ..data.images import Examples, Rows
from ..device.randomness import preserved_random_state
from ..inputs import Inputs
from ..models import MixtureModel
from .merge import conductance
from .neighbour_sample import NeighbourSample, neighbour_sample, sampled_rows
from .neighbours import STAY, draw_partners
from .pair_loss import pair_loss, pair_terms
from .pair_objective import PairObjective
from .phases import FREE_BALANCE, balance_weight


class Closest(NamedTuple):
    """Two clusters, and the share of the smaller one's neighbours that are in the other."""

    first: int
    second: int
    share: float


def pair_scores(
    model: MixtureModel,
    images: Examples,
    config: TrainConfig,
    seed: int = 0,
    graph: np.ndarray | None = None,
    sample: NeighbourSample | None = None,
) -> dict[str, float]:
    """Return scores of a clustering without labels, from at most 10,000 of the images.

    `pair_loss` is the pair objective, by which runs can be compared on the same images (lower is
    better). `neighbour_agreement` and `augmentation_agreement` are the shares of images whose
    cluster is also that of a random near neighbour, and of an augmented copy of the image.
    `chance_agreement` is the neighbour agreement expected for random neighbours. As in training, an
    image is its own neighbour with probability 0.3. `graph` has the neighbours of all images, and
    `sample` those of `neighbour_sample` with the same seed, if they are known.
    """
    if graph is None:  # given features are of the training images: use a descriptor for others
        config = dataclasses.replace(config, features=None)
    rng = np.random.default_rng(seed)
    rows = sampled_rows(len(images), rng)
    some = Rows(images, rows)
    if graph is None:
        sample = sample or neighbour_sample(images, config, seed)
        partners = Rows(images, rows[draw_partners(sample.graph, np.arange(len(some)), rng)])
    else:
        partners = Rows(images, draw_partners(graph, rows, rng))
    objective = PairObjective(model, config.balance, config.augment)
    with preserved_random_state():
        mx.random.seed(seed)
        plain = over_batches(model.log_cluster_probabilities, some)
        augmented, other = (
            over_batches(lambda x: _augmented_probabilities(objective, x), each)
            for each in (some, partners)
        )
    terms = pair_terms(mx.array(augmented), mx.array(other), objective.log_prior)
    clusters = plain.argmax(axis=1)
    # With "auto" the sizes of clusters are learned, so the weight is that of "free".
    is_auto = config.balance == "auto" and model.has_classifier
    weight = FREE_BALANCE if is_auto else balance_weight(config, config.epochs)
    theirs = over_batches(model.log_cluster_probabilities, partners).argmax(axis=1)
    sizes = np.bincount(clusters) / len(clusters)
    return {
        "pair_loss": float(pair_loss(terms, weight)),
        "neighbour_agreement": float((clusters == theirs).mean()),
        "chance_agreement": float(STAY + (1 - STAY) * np.square(sizes).sum()),
        "augmentation_agreement": float((clusters == augmented.argmax(axis=1)).mean()),
    }


def closest_clusters(
    model: MixtureModel, images: Examples, graph: np.ndarray, seed: int = 0
) -> Closest | None:
    """Return the two clusters that share most neighbours (N, k), or None if there is one cluster.

    They are found from at most 10,000 of the images and one neighbour of each.
    """
    rng = np.random.default_rng(seed)
    rows = sampled_rows(len(images), rng)
    partners = graph[rows, rng.integers(graph.shape[1], size=len(rows))]
    own, theirs = (
        over_batches(model.log_cluster_probabilities, Rows(images, each)).argmax(axis=1)
        for each in (rows, partners)
    )
    return closest_pair(own, theirs)


def closest_in_sample(clusters: np.ndarray, sample: NeighbourSample) -> Closest | None:
    """Return the two of the clusters (N,) of all images that share most sampled neighbours."""
    own = clusters[sample.rows]
    if not sample.graph.shape[1]:
        return None
    return closest_pair(np.repeat(own, sample.graph.shape[1]), own[sample.graph].ravel())


def closest_pair(clusters: np.ndarray, of_neighbours: np.ndarray) -> Closest | None:
    """Return the two clusters of the highest conductance, from the clusters of neighbours.

    >>> closest_pair(np.array([2, 2, 5, 5]), np.array([2, 5, 2, 5]))
    Closest(first=2, second=5, share=0.5)
    """
    present, numbers = np.unique(np.stack([clusters, of_neighbours]), return_inverse=True)
    if len(present) < 2:
        return None
    numbers = numbers.reshape(2, -1)
    joint = np.zeros((len(present),) * 2)
    np.add.at(joint, tuple(numbers), 1)
    between = conductance(joint + joint.T)
    first, second = sorted(np.unravel_index(between.argmax(), between.shape))
    return Closest(int(present[first]), int(present[second]), float(between.max()))


def _augmented_probabilities(objective: PairObjective, x: Inputs) -> mx.array:
    """Return log q(y|x), (B, K), of images augmented as at the end of the training."""
    seen = objective.augmented("refine", objective.model.classifier_inputs(x))
    return objective.model.log_probabilities_of(seen)
