"""Merging sub-clusters into clusters of any size, by how many neighbours they share."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

CUT_THROUGH = 0.16  # conductance above which two clusters are one class that was cut in two
SIZE_POWER = 0.1
DIFFERENT = 0.5  # of one cluster of K: if more images differ, the merge is another clustering
DOUBTFUL = 0.8  # of the neighbours in one cluster: with fewer, neighbours say too little


class Merge(NamedTuple):
    """Clusters of sub-clusters, and how they compare with the model's own.

    `groups` (P, K) is the cluster of each sub-cluster, one-hot, and `sizes` (K,) the share of the
    images in each cluster. `agreement` is the share of images that are in the model's own cluster
    of the same number, `together` the share of neighbours in one cluster; both are scalars.
    """

    groups: np.ndarray
    sizes: np.ndarray
    agreement: np.ndarray
    together: np.ndarray

    @property
    def outcome(self) -> str:
        """What follows: "agreed" and "doubted" change nothing, "distil" teaches q(y|x)."""
        if 1 - self.agreement <= DIFFERENT / len(self.sizes):
            return "agreed"
        return "doubted" if self.together < DOUBTFUL else "distil"


def affinity(probabilities: np.ndarray, graph: np.ndarray) -> np.ndarray:
    """Return how likely an image is in sub-cluster a and its neighbour in b, (P, P).

    It is symmetric and sums to 1. `probabilities` (N, P) is q of each image, `graph` (N, k) its
    neighbours; without any it is its own.
    """
    if graph.shape[1] == 0:
        graph = np.arange(len(graph))[:, None]
    joint = sum(
        probabilities.T @ probabilities[neighbours] for neighbours in graph.T.astype(np.intp)
    )
    joint = np.asarray(joint + joint.T, np.float64) + 1e-9
    return joint / joint.sum()


def merged_clusters(affinity: np.ndarray, num_clusters: int) -> np.ndarray:
    """Return the cluster of each sub-cluster, (P,), from their `affinity`.

    Of two ways to merge, one that prefers equal sizes and one that does not, the first is used
    unless it cuts a class in two, so that two of its clusters share many neighbours, and the second
    does not.

    >>> a, b, c, d = merged_clusters(0.01 + np.eye(4) + np.eye(4)[[1, 0, 3, 2]], 2).tolist()
    >>> a == b != c == d
    True
    """
    equal = spectral(affinity, num_clusters)
    unequal = agglomerative(affinity, num_clusters)
    cut = largest_conductance(affinity, equal)
    return unequal if cut > max(CUT_THROUGH, largest_conductance(affinity, unequal)) else equal


def spectral(affinity: np.ndarray, num_clusters: int) -> np.ndarray:
    """Minimise the normalised cut, which prefers equal sizes."""
    from sklearn.cluster import SpectralClustering

    clustering = SpectralClustering(
        num_clusters, affinity="precomputed", assign_labels="cluster_qr", random_state=0
    )
    return clustering.fit_predict(affinity)  # type: ignore[no-any-return]


def agglomerative(affinity: np.ndarray, num_clusters: int) -> np.ndarray:
    """Merge the two clusters of the highest conductance, again and again.

    It is high within a class however large that is, and low between classes however small. Against
    chains, the larger of the two clusters counts slightly less the larger it is.
    """
    clusters = np.arange(len(affinity))
    for first, second, *_ in _merges(affinity, num_clusters):
        clusters[clusters == second] = first
        clusters[clusters > second] -= 1
    return clusters


def conductance_by_number(affinity: np.ndarray) -> dict[int, float]:
    """Return the largest conductance of 2, 3, ... clusters that `agglomerative` makes."""
    merges = _merges(affinity, 1)
    return {len(affinity) - done: highest for done, (_, _, highest, _) in enumerate(merges)}


def cut_by_number(affinity: np.ndarray) -> dict[int, float]:
    """Return the share of neighbours in different ones of those 2, 3, ... clusters."""
    merges = _merges(affinity, 1)
    return {len(affinity) - done: cut for done, (_, _, _, cut) in enumerate(merges)}


def _merges(affinity: np.ndarray, num_clusters: int) -> Iterator[tuple[int, int, float, float]]:
    """Yield the numbers of two clusters to merge, their conductance, and the share that is cut.

    The numbers are those among the clusters that are left.
    """
    joint = affinity.copy()
    while len(joint) > num_clusters:
        sizes = joint.sum(axis=1)
        between = conductance(joint)
        most = (between / np.maximum.outer(sizes, sizes) ** SIZE_POWER).argmax()
        first, second = sorted(int(number) for number in np.unravel_index(most, between.shape))
        yield first, second, float(between[first, second]), 1 - float(np.trace(joint))
        joint[first] += joint[second]
        joint[:, first] += joint[:, second]
        joint = np.delete(np.delete(joint, second, axis=0), second, axis=1)


def largest_conductance(affinity: np.ndarray, clusters: np.ndarray) -> float:
    """Return the largest share of a cluster's neighbours that lie in one other, larger cluster."""
    groups = np.eye(clusters.max() + 1)[clusters]
    return float(conductance(groups.T @ affinity @ groups).max())


def conductance(affinity: np.ndarray) -> np.ndarray:
    """Return cut(a, b) / min(vol(a), vol(b)) of each two clusters; -1 on the diagonal.

    It is the conductance of the cut between the two: the share of the smaller one's neighbours that
    lie in the larger. `affinity` (P, P) is between clusters.
    """
    sizes = affinity.sum(axis=1)
    between = affinity / np.minimum.outer(sizes, sizes)
    np.fill_diagonal(between, -1)
    return between  # type: ignore[no-any-return]


def renumbered(
    clusters: np.ndarray, own: np.ndarray, sub_clusters: np.ndarray, num_clusters: int
) -> np.ndarray:
    """Return `clusters` (P,) with the numbers of `own` (N,) with which most images agree.

    `sub_clusters` (N,) is the sub-cluster of each image; by the Hungarian algorithm.
    """
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((num_clusters, num_clusters))
    np.add.at(counts, (clusters[sub_clusters], own), 1)
    _, numbers = linear_sum_assignment(counts, maximize=True)
    return numbers[clusters]  # type: ignore[no-any-return]
