"""Clustering methods of scikit-learn, to compare a model with.

They are fitted on 50 principal components. A method without `predict` assigns other images to the
cluster of the nearest fitted one.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ..data.images import Images
from ..device.randomness import random_rows

DIMS = 50
LARGE = 30_000
FITTED_VALUES = 1 << 26  # values by which principal components are found
BLOCK = 1024  # images at a time
SPECTRAL_NEIGHBOURS = 10

Reduce = Callable[[Images], np.ndarray]


def methods(num_clusters: int, num_images: int) -> dict[str, Callable[[int], Any]]:
    """Return functions from a seed to a clustering method, by name."""
    from sklearn.cluster import KMeans, SpectralClustering
    from sklearn.mixture import GaussianMixture

    # The default eigensolver takes more than an hour on MNIST.
    eigen_solver = "lobpcg" if num_images > LARGE else None
    return {
        "k-means": lambda seed: KMeans(num_clusters, random_state=seed, n_init=1),
        "Gaussian mixture": lambda seed: GaussianMixture(
            num_clusters, covariance_type="diag", random_state=seed
        ),
        "spectral": lambda seed: SpectralClustering(
            num_clusters,
            affinity="nearest_neighbors",
            n_neighbors=min(SPECTRAL_NEIGHBOURS, num_images),
            random_state=seed,
            assign_labels="cluster_qr",
            eigen_solver=eigen_solver,
        ),
    }


def principal_components(x: Images) -> Reduce:
    """Return the projection of rows of `x` (N, ...) to 50 principal components, (N, 50).

    uint8 pixels are divided by 255. If `x` is large, the components are those of random rows.
    """
    from sklearn.decomposition import PCA

    most = max(DIMS, FITTED_VALUES // x[0].size)
    values = _as_rows(x[np.sort(random_rows(len(x), most))])
    pca = PCA(min(DIMS, *values.shape), random_state=0).fit(values)

    def reduce(rows: Images) -> np.ndarray:
        blocks = range(0, len(rows), BLOCK)
        return np.concatenate([pca.transform(_as_rows(rows[at : at + BLOCK])) for at in blocks])

    return reduce


def fitted_clusters(method: Any, x: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Fit a method on `x` (N, F) and return the clusters of `others` (M, F), (M,)."""
    from sklearn.neighbors import KNeighborsClassifier

    with warnings.catch_warnings():  # a graph in several parts, or fewer points than clusters
        warnings.simplefilter("ignore")
        clusters = method.fit_predict(x)
        if not hasattr(method, "predict"):
            method = KNeighborsClassifier(1).fit(x, clusters)
        return np.asarray(method.predict(others))


def _as_rows(x: np.ndarray) -> np.ndarray:
    flat = x.reshape(len(x), -1)
    return flat / 255 if x.dtype == np.uint8 else flat
