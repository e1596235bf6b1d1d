"""Clusters put together of many small parts, whatever their sizes.

The pair objective alone makes clusters of equal size: it cuts large classes and joins small ones.
So the classifier is first asked for several times as many parts as clusters. Parts are pure, and
how often an image lies in one and its neighbour in another says which of them belong together.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..data.batches import over_batches
from ..data.images import Examples
from ..models.base import MixtureModel
from .heads import Heads

COPIES = 3  # of the layer of parts, trained side by side
IMAGES_PER_PART = 10  # at least
CUT_THROUGH = 0.16  # of the neighbours of the smaller of two clusters: they are one, cut in two
SIZE_POWER = 0.1
DIFFERENT = 0.5  # of one cluster of K: if more images differ, q(y|x) has other clusters than parts
DOUBTFUL = 0.8  # of the neighbours in one cluster: with fewer, neighbours say too little
SMALLEST = np.float32(1e-6)  # cluster, as a share of the images: its logarithm is needed


class Stage(IntEnum):
    """What parts are doing: parting images, or teaching q(y|x), or nothing more.

    Nothing, if q(y|x) agrees, or if neighbours part so often that parts know no better.
    """

    DIVIDING = 0
    AGREED = 1
    TEACHING = 2
    DOUBTED = 3


class Grouping(NamedTuple):
    """To which cluster each part is to belong (P, K), sizes of those (K,), and two shares, ().

    `agreement`: of the images, of which the model's q(y|x) says the same. `together`: of the
    neighbours, that lie in one cluster.
    """

    groups: np.ndarray
    sizes: np.ndarray
    agreement: np.ndarray
    together: np.ndarray


class Parts(Heads):
    """Layers for `num` parts, on the features that `layer` makes K clusters of.

    `groups` (num, K) says to which cluster each part belongs, `sizes` (K,) which share of the
    images is in it, `lesson` (2,) from which to which epoch they teach ever less; zero until they
    are put together.
    """

    def __init__(self, layer: nn.Linear, num: int, copies: int = COPIES):
        num_clusters, num_features = layer.weight.shape
        super().__init__(nn.Linear(num_features, num), copies)
        self.groups = mx.zeros((num, num_clusters))
        self.sizes = mx.zeros((num_clusters,))
        self.lesson = mx.zeros((2,))
        self.stage = mx.array(int(Stage.DIVIDING))
        self.freeze(keys=["groups", "sizes", "lesson", "stage"], recurse=False)

    def put_together(self, found: Grouping, lesson: tuple[float, float]) -> None:
        """Take what was `found`, and teach it unless q(y|x) says the same or it is doubtful."""
        self.groups, self.sizes = mx.array(found.groups), mx.array(found.sizes)
        self.lesson = mx.array(lesson)
        stage = Stage.TEACHING
        if 1 - found.agreement <= DIFFERENT / len(found.sizes):
            stage = Stage.AGREED
        elif found.together < DOUBTFUL:
            stage = Stage.DOUBTED
        self.stage = mx.array(int(stage))
        self.settle()  # the copy in use is in use for good

    def clusters(self, features: mx.array) -> mx.array:
        """p(y|x), (B, K), by the clusters of the parts in use."""
        q = mx.softmax(self(features)[:, self.chosen], axis=-1)
        return q @ self.groups

    @property
    def stage_now(self) -> Stage:
        """`stage` by its name. An evaluation: ask between steps."""
        return Stage(np.array(self.stage).item())


def num_parts(num_clusters: int, parts_per_cluster: int, num_images: int) -> int:
    """How many parts there are to be; 0 if no more than clusters, with which nothing is gained."""
    parts = min(parts_per_cluster * num_clusters, num_images // IMAGES_PER_PART)
    return parts if parts > num_clusters > 1 else 0


def groups_of_parts(
    model: MixtureModel, parts: Parts, images: Examples, graph: np.ndarray
) -> Grouping:
    """Clusters of parts, by the neighbours of uint8 images.

    Numbered as the model's own clusters are where they agree, so that what was learned of cluster y
    stays true of y.
    """
    features, q = _features_and_parts(model, parts, images)
    own = np.array(model.classifier.out(mx.array(features))).argmax(axis=1)
    linked = links(q, graph)
    clusters = put_together(linked, model.config.K)
    members = np.eye(model.config.K)[clusters]
    together = np.trace(members.T @ linked @ members).astype(np.float32)
    clusters = numbered_like(clusters, own, q.argmax(axis=1), model.config.K)
    groups = np.eye(model.config.K, dtype=np.float32)[clusters]
    agreement = (clusters[q.argmax(axis=1)] == own).mean(dtype=np.float32)
    sizes = np.maximum(q.mean(axis=0) @ groups, SMALLEST)
    return Grouping(groups, sizes, np.asarray(agreement), np.asarray(together))


def part_links(
    model: MixtureModel, parts: Parts, images: Examples, graph: np.ndarray
) -> list[np.ndarray]:
    """`links` of the parts that uint8 images (N, H, W, C) are in, by each copy."""
    features = over_batches(model.classifier_features, images)
    outputs = parts(mx.array(features))
    copies = range(outputs.shape[1])
    return [links(np.array(mx.softmax(outputs[:, copy], axis=-1)), graph) for copy in copies]


def _features_and_parts(
    model: MixtureModel, parts: Parts, images: Examples
) -> tuple[np.ndarray, np.ndarray]:
    """What the last layer sees of each image, (N, F), and q(part|x), (N, P), by the best copy."""
    features = over_batches(model.classifier_features, images)
    parts.chosen = parts.running_loss.argmin().astype(parts.chosen.dtype)  # by however little
    outputs = parts(mx.array(features))[:, parts.chosen]
    return features, np.array(mx.softmax(outputs, axis=-1))


def links(probabilities: np.ndarray, graph: np.ndarray) -> np.ndarray:
    """How likely an image is in part a and a neighbour of it in part b, (P, P); symmetric, sum 1.

    Of q(part|x), (N, P), and the neighbours of each image, (N, k); none means itself.
    """
    if graph.shape[1] == 0:
        graph = np.arange(len(graph))[:, None]
    joint = sum(
        probabilities.T @ probabilities[neighbours] for neighbours in graph.T.astype(np.intp)
    )
    joint = np.asarray(joint + joint.T, np.float64) + 1e-9
    return joint / joint.sum()


def put_together(links: np.ndarray, num_clusters: int) -> np.ndarray:
    """The cluster of each part, (P,), from `links`.

    Of two ways to join them, one that leans to equal sizes and one that does not, the first, unless
    it cuts through a class, so that two of its clusters share many neighbours, and the second not.

    >>> a, b, c, d = put_together(0.01 + np.eye(4) + np.eye(4)[[1, 0, 3, 2]], 2).tolist()
    >>> a == b != c == d
    True
    """
    equal, unequal = by_cut(links, num_clusters), by_leaks(links, num_clusters)
    leak = largest_leak(links, equal)
    return unequal if leak > max(CUT_THROUGH, largest_leak(links, unequal)) else equal


def by_cut(links: np.ndarray, num_clusters: int) -> np.ndarray:
    """Spectral clustering of the parts: the least normalised cut, which leans to equal sizes."""
    from sklearn.cluster import SpectralClustering

    clustering = SpectralClustering(
        num_clusters, affinity="precomputed", assign_labels="cluster_qr", random_state=0
    )
    return clustering.fit_predict(links)  # type: ignore[no-any-return]


def by_leaks(links: np.ndarray, num_clusters: int) -> np.ndarray:
    """Join the two clusters first of which the smaller leaks most into the other, and so on.

    A leak is the share of the smaller one's neighbours that lie in the larger one: high within a
    class however large it is, low between classes however small. To break chains, it counts
    slightly less the larger the other one is.
    """
    clusters = np.arange(len(links))
    for first, second, _ in _joins(links, num_clusters):
        clusters[clusters == second] = first
        clusters[clusters > second] -= 1
    return clusters


def leaks_by_number(links: np.ndarray) -> dict[int, float]:
    """Of 2, 3, ... clusters that `by_leaks` makes, the largest leak between two, in [0, 1]."""
    joins = _joins(links, 1)
    return {len(links) - done: leak for done, (_, _, leak) in enumerate(joins)}


def _joins(links: np.ndarray, num_clusters: int) -> Iterator[tuple[int, int, float]]:
    """The numbers of two clusters to join, of those that there are, and their leak."""
    joint = links.copy()
    while len(joint) > num_clusters:
        sizes = joint.sum(axis=1)
        leaks = _leaks(joint)
        most = (leaks / np.maximum.outer(sizes, sizes) ** SIZE_POWER).argmax()
        first, second = sorted(int(number) for number in np.unravel_index(most, leaks.shape))
        yield first, second, float(leaks[first, second])
        joint[first] += joint[second]
        joint[:, first] += joint[:, second]
        joint = np.delete(np.delete(joint, second, axis=0), second, axis=1)


def largest_leak(links: np.ndarray, clusters: np.ndarray) -> float:
    """The largest share of a cluster's neighbours that lie in one other, larger cluster."""
    groups = np.eye(clusters.max() + 1)[clusters]
    return float(_leaks(groups.T @ links @ groups).max())


def _leaks(joint: np.ndarray) -> np.ndarray:
    """Of each two clusters the share of the smaller one's neighbours that lie in the other."""
    sizes = joint.sum(axis=1)
    leaks = joint / np.minimum.outer(sizes, sizes)
    np.fill_diagonal(leaks, -1)
    return leaks  # type: ignore[no-any-return]


def numbered_like(
    clusters: np.ndarray, others: np.ndarray, parts: np.ndarray, num_clusters: int
) -> np.ndarray:
    """`clusters` (P,) of the parts, with the numbers of `others` (N,) where images agree best.

    `parts` (N,) is the part of each image.
    """
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((num_clusters, num_clusters))
    np.add.at(counts, (clusters[parts], others), 1)
    _, numbers = linear_sum_assignment(counts, maximize=True)
    return numbers[clusters]  # type: ignore[no-any-return]
