"""Merging of sub-clusters into clusters of any size, by the neighbours that they share."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

CUT_THROUGH = 0.16  # conductance above which two clusters are one class that was cut in two
SIZE_POWER = 0.1
DIFFERENT = 0.5  # times 1 / K; if a larger share of images differs, the clusterings differ
DOUBTFUL = 0.8  # share of neighbours in one cluster, below which neighbours say too little


class Merge(NamedTuple):
    """Merged sub-clusters, and a comparison with the model's own clusters.

    `groups` (P, K) is the cluster of each sub-cluster, one-hot, and `sizes` (K,) the share of the
    images in each cluster. `agreement` is the share of images whose cluster has the same number in
    the model, and `together` is the share of neighbours in one cluster; both are scalars.
    """

    groups: np.ndarray
    sizes: np.ndarray
    agreement: np.ndarray
    together: np.ndarray

    @property
    def outcome(self) -> str:
        """The outcome: "agreed" and "doubted" do not change q(y|x), "distil" teaches it."""
        if 1 - self.agreement <= DIFFERENT / len(self.sizes):
            return "agreed"
        return "doubted" if self.together < DOUBTFUL else "distil"


def affinity(probabilities: np.ndarray, graph: np.ndarray) -> np.ndarray:
    """Return the probability that an image is in sub-cluster a and its neighbour in b, (P, P).

    It is symmetric and sums to 1. `probabilities` (N, P) is q of each image, and `graph` (N, k) has
    its neighbours. If k is 0, each image is its own neighbour.
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

    There are two ways to merge: one that prefers equal sizes and one that does not. The first is
    used, unless it cuts a class in two and the second does not. If a class is cut in two, two
    clusters share many neighbours.

    >>> a, b, c, d = merged_clusters(0.01 + np.eye(4) + np.eye(4)[[1, 0, 3, 2]], 2).tolist()
    >>> a == b != c == d
    True
    """
    equal = spectral(affinity, num_clusters)
    unequal = agglomerative(affinity, num_clusters)
    cut = largest_conductance(affinity, equal)
    return unequal if cut > max(CUT_THROUGH, largest_conductance(affinity, unequal)) else equal


def spectral(affinity: np.ndarray, num_clusters: int) -> np.ndarray:
    """Merge by spectral clustering, which minimises the normalised cut and prefers equal sizes."""
    from sklearn.cluster import SpectralClustering

    clustering = SpectralClustering(
        num_clusters, affinity="precomputed", assign_labels="cluster_qr", random_state=0
    )
    return clustering.fit_predict(affinity)  # type: ignore[no-any-return]


def agglomerative(affinity: np.ndarray, num_clusters: int) -> np.ndarray:
    """Merge the two clusters of the highest conductance, repeatedly.

    Conductance is high within a class of any size, and low between classes of any size. To avoid
    chains, it is divided by a small power of the size of the larger cluster.
    """
    clusters = np.arange(len(affinity))
    for first, second, *_ in _merges(affinity, num_clusters):
        clusters[clusters == second] = first
        clusters[clusters > second] -= 1
    return clusters


def conductance_by_number(affinity: np.ndarray) -> dict[int, float]:
    """Return the largest conductance of 2, 3, ... clusters of `agglomerative`, by number."""
    merges = _merges(affinity, 1)
    return {len(affinity) - done: highest for done, (_, _, highest, _) in enumerate(merges)}


def cut_by_number(affinity: np.ndarray) -> dict[int, float]:
    """Return the share of neighbours in different clusters of `agglomerative`, by number."""
    merges = _merges(affinity, 1)
    return {len(affinity) - done: cut for done, (_, _, _, cut) in enumerate(merges)}


def _merges(affinity: np.ndarray, num_clusters: int) -> Iterator[tuple[int, int, float, float]]:
    """Yield the next two clusters to merge, their conductance, and the share that is cut.

    The numbers of the two count the clusters that are left. The share is that of neighbours in
    different clusters before the merge.
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
    """Return the largest share of a cluster's neighbours that are in one other, larger cluster."""
    groups = np.eye(clusters.max() + 1)[clusters]
    return float(conductance(groups.T @ affinity @ groups).max())


def conductance(affinity: np.ndarray) -> np.ndarray:
    """Return cut(a, b) / min(vol(a), vol(b)) for each two clusters; -1 on the diagonal.

    This is the conductance of the cut between the two: the share of the smaller cluster's
    neighbours that are in the larger one. `affinity` (P, P) is that of the clusters.
    """
    sizes = affinity.sum(axis=1)
    between = affinity / np.minimum.outer(sizes, sizes)
    np.fill_diagonal(between, -1)
    return between  # type: ignore[no-any-return]


def renumbered(
    clusters: np.ndarray, own: np.ndarray, sub_clusters: np.ndarray, num_clusters: int
) -> np.ndarray:
    """Return `clusters` (P,), renumbered so that most images agree with `own` (N,).

    `sub_clusters` (N,) is the sub-cluster of each image. The Hungarian algorithm matches numbers.
    """
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((num_clusters, num_clusters))
    np.add.at(counts, (clusters[sub_clusters], own), 1)
    _, numbers = linear_sum_assignment(counts, maximize=True)
    return numbers[clusters]  # type: ignore[no-any-return]
