"""scikit-learn's clustering methods on the sets of the clustering benchmark.

They are fitted on 50 principal components of the training images and scored on the test images, by
`predict` or, if a method has none, by the cluster of the nearest training image.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

SEEDS = 5
DIMS = 50
LARGE = 30_000


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
            random_state=seed,
            assign_labels="cluster_qr",
            eigen_solver=eigen_solver,
        ),
    }


def scores(train: Any, test: Any, num_clusters: int) -> dict[str, list[float]]:
    """Return the Hungarian accuracies of each method on `test`, a value for each seed."""
    from mlx_gmvae.evaluation.metrics import matching_accuracy

    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsClassifier

    pca = PCA(min(DIMS, train.images[0].size), random_state=0)
    x = pca.fit_transform(train.images.reshape(len(train), -1) / 255)
    others = pca.transform(test.images.reshape(len(test), -1) / 255)
    found: dict[str, list[float]] = {}
    for name, make in methods(num_clusters, len(x)).items():
        # Spectral clustering takes minutes and is the same for all seeds.
        for seed in range(1 if name == "spectral" else SEEDS):
            method = make(seed)
            clusters = method.fit_predict(x)
            if not hasattr(method, "predict"):
                method = KNeighborsClassifier(1).fit(x, clusters)
            accuracy = matching_accuracy(test.labels, np.asarray(method.predict(others)))
            found.setdefault(name, []).append(accuracy)
            print(f"{train.name}, {name}, seed {seed}: {100 * accuracy:.1f}", flush=True)
    return found
