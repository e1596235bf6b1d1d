"""scikit-learn's clustering methods on the sets of the clustering benchmark.

They are fitted on the training images and scored on the test images.
"""

from typing import Any

SEEDS = 5


def scores(train: Any, test: Any, num_clusters: int) -> dict[str, list[float]]:
    """Return the Hungarian accuracies of each method on `test`, a value for each seed."""
    from mlx_gmvae.evaluation.baselines import fitted_clusters, methods, principal_components
    from mlx_gmvae.evaluation.metrics import matching_accuracy

    reduce = principal_components(train.images)
    x, others = reduce(train.images), reduce(test.images)
    found: dict[str, list[float]] = {}
    for name, make in methods(num_clusters, len(x)).items():
        # Spectral clustering takes minutes and is the same for all seeds.
        for seed in range(1 if name == "spectral" else SEEDS):
            clusters = fitted_clusters(make(seed), x, others)
            accuracy = matching_accuracy(test.labels, clusters)
            found.setdefault(name, []).append(accuracy)
            print(f"{train.name}, {name}, seed {seed}: {100 * accuracy:.1f}", flush=True)
    return found
