"""Adjusted Rand index on classic tables beside scikit-learn's methods, without labels.

    python benchmarks/tables.py

Every method gets the true number of clusters and standardised columns. Figures are the mean and
the worst over seeds, on all rows, to which the methods were fitted. Results are kept in
benchmarks/results/tables.json.
"""

import statistics
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
KEPT = ROOT / "benchmarks" / "results" / "tables.json"

from mlx_gmvae import GMVAEClusterer  # noqa: E402

import record  # noqa: E402
from sklearn import datasets  # noqa: E402
from sklearn.cluster import KMeans, SpectralClustering  # noqa: E402
from sklearn.metrics import adjusted_rand_score  # noqa: E402
from sklearn.mixture import GaussianMixture  # noqa: E402
from sklearn.preprocessing import scale  # noqa: E402

SEEDS = range(5)
SETS = {
    "iris": lambda: datasets.load_iris(return_X_y=True),
    "wine": lambda: datasets.load_wine(return_X_y=True),
    "breast cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
    "digits, as a table": lambda: datasets.load_digits(return_X_y=True),
    "blobs": lambda: datasets.make_blobs(1000, 10, centers=8, cluster_std=3.0, random_state=0),
}
METHODS = {
    "GMVAEClusterer": lambda k, seed: GMVAEClusterer(k, random_state=seed),
    "GaussianMixture": lambda k, seed: GaussianMixture(k, random_state=seed, n_init=3),
    "KMeans": lambda k, seed: KMeans(k, random_state=seed, n_init=10),
    "SpectralClustering": lambda k, seed: SpectralClustering(
        k, random_state=seed, affinity="nearest_neighbors", assign_labels="cluster_qr"
    ),
}


def main() -> None:
    kept = {}
    for name, load in SETS.items():
        X, y = load()
        for method, make in METHODS.items():
            started = time.process_time()
            found = [
                adjusted_rand_score(y, make(len(np.unique(y)), seed).fit_predict(scale(X)))
                for seed in SEEDS
            ]
            kept.setdefault(name, {})[method] = {
                "ari": [round(score, 3) for score in found],
                "seconds": round((time.process_time() - started) / len(SEEDS), 1),
            }
            mean = f"{statistics.mean(found):.3f} (worst {min(found):.3f})"
            print(f"{name:<20}{method:<20}{mean}", flush=True)
    record.write(KEPT, kept)


if __name__ == "__main__":
    main()
