"""Hierarchy of clusters: the order in which they merge, by the neighbours that they share."""

import numpy as np

from .merge import conductance


def cluster_affinity(clusters: np.ndarray, graph: np.ndarray, num_clusters: int) -> np.ndarray:
    """Return how often an image is in cluster a and its neighbour in b, (K, K).

    It is symmetric and sums to 1. `clusters` (N,) is the cluster of each image, and `graph` (N, k)
    has its neighbours.
    """
    joint = np.zeros((num_clusters, num_clusters))
    np.add.at(joint, (clusters[:, None], clusters[graph]), 1)
    joint += joint.T
    return joint / max(1.0, joint.sum())


def linkage_of(affinity: np.ndarray) -> np.ndarray:
    """Return the merges of clusters as a linkage matrix of SciPy, (K - 1, 4).

    Average linkage on 1 - the share of the smaller cluster's neighbours that are in the other one.
    A cluster without images has a distance of 1 from all others.
    """
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    with np.errstate(divide="ignore", invalid="ignore"):
        shared = np.nan_to_num(conductance(affinity))
    distance = 1 - np.clip(shared, 0, 1)
    np.fill_diagonal(distance, 0)
    return linkage(squareform(distance, checks=False), "average")  # type: ignore[no-any-return]


def merged_to(linkage: np.ndarray, num_clusters: int) -> list[tuple[int, ...]]:
    """Return the groups of two clusters or more, if the first merges leave `num_clusters`."""
    num = len(linkage) + 1
    parts: dict[int, tuple[int, ...]] = {number: (number,) for number in range(num)}
    for step, (first, second, *_) in enumerate(linkage[: num - num_clusters]):
        parts[num + step] = tuple(sorted(parts.pop(int(first)) + parts.pop(int(second))))
    return sorted(group for group in parts.values() if len(group) > 1)
