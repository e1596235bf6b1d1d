"""The over-clustering head: many small clusters beside the K of q(y|x).

The pair loss alone makes clusters of equal size: it cuts large classes and merges small ones. So a
second head divides the images into several times as many sub-clusters, which are pure, and `merge`
joins those that share their neighbours. An auxiliary over-clustering head is an idea of Ji et al.
2019 (IIC, arXiv:1807.06653, section 4). Merging its clusters is new here.
"""

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..data.batches import over_batches
from ..data.images import Examples
from ..models.mixture_model import MixtureModel
from .heads import Heads
from .merge import Merge, affinity, merged_clusters, renumbered

COPIES = 3  # of the over-clustering head, trained side by side
IMAGES_PER_SUB_CLUSTER = 10  # at least
SMALLEST = np.float32(1e-6)  # share of the images in a cluster, so that its logarithm is finite


class SubClusters(Heads):
    """Linear layers for `num` sub-clusters, on the same features as `layer` with K clusters.

    `groups` (num, K) is the cluster of each sub-cluster, one-hot, and `sizes` (K,) the share of the
    images in each cluster; both are zero until `take`.
    """

    def __init__(self, layer: nn.Linear, num: int, copies: int = COPIES):
        num_clusters, num_features = layer.weight.shape
        super().__init__(nn.Linear(num_features, num), copies)
        self.groups = mx.zeros((num, num_clusters))
        self.sizes = mx.zeros((num_clusters,))
        self.freeze(keys=["groups", "sizes"], recurse=False)

    def take(self, merge: Merge) -> None:
        """Store the cluster of each sub-cluster, and keep the chosen copy from now on."""
        self.groups, self.sizes = mx.array(merge.groups), mx.array(merge.sizes)
        self.freeze_choice()

    def probabilities(self, features: mx.array) -> mx.array:
        """Return p(y|x), (B, K): the sum of q over the sub-clusters of y, by the chosen copy."""
        q = mx.softmax(self(features)[:, self.chosen], axis=-1)
        return q @ self.groups


def num_sub_clusters(num_clusters: int, per_cluster: int, num_images: int) -> int:
    """Return how many sub-clusters to use; 0 if they are not more than the clusters, or K is 1."""
    num = min(per_cluster * num_clusters, num_images // IMAGES_PER_SUB_CLUSTER)
    return num if num > num_clusters > 1 else 0


def merge_sub_clusters(
    model: MixtureModel, sub_clusters: SubClusters, images: Examples, graph: np.ndarray
) -> Merge:
    """Merge sub-clusters into K clusters, by the neighbours of uint8 images.

    Clusters get the numbers of the model's own clusters that they agree with, so that what was
    learned about cluster y stays valid.
    """
    features = over_batches(model.classifier_features, images)
    # The best copy, without a margin.
    sub_clusters.chosen = sub_clusters.running_loss.argmin().astype(sub_clusters.chosen.dtype)
    outputs = sub_clusters(mx.array(features))[:, sub_clusters.chosen]
    q = np.array(mx.softmax(outputs, axis=-1))
    own = np.array(model.classifier.out(mx.array(features))).argmax(axis=1)
    shared = affinity(q, graph)
    clusters = merged_clusters(shared, model.config.K)
    members = np.eye(model.config.K)[clusters]
    together = np.trace(members.T @ shared @ members).astype(np.float32)
    clusters = renumbered(clusters, own, q.argmax(axis=1), model.config.K)
    groups = np.eye(model.config.K, dtype=np.float32)[clusters]
    agreement = (clusters[q.argmax(axis=1)] == own).mean(dtype=np.float32)
    sizes = np.maximum(q.mean(axis=0) @ groups, SMALLEST)
    return Merge(groups, sizes, np.asarray(agreement), np.asarray(together))


def affinities(
    model: MixtureModel, sub_clusters: SubClusters, images: Examples, graph: np.ndarray
) -> list[np.ndarray]:
    """Return the `affinity` of the sub-clusters of uint8 images (N, H, W, C), for each copy."""
    features = over_batches(model.classifier_features, images)
    outputs = sub_clusters(mx.array(features))
    copies = range(outputs.shape[1])
    return [affinity(np.array(mx.softmax(outputs[:, copy], axis=-1)), graph) for copy in copies]
