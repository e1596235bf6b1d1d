"""What people would use instead, on the same sets: accuracy on held-out images and seconds.

    pip install umap-learn clustpy pythae
    python benchmarks/alternatives.py --data_dir DIR [--only SET ...] [--table]

Every method is fitted to the training images without labels and scored on the held-out ones, by its
own `predict` or else by the cluster of the nearest training image in the space that it clusters.
Methods of density (HDBSCAN) leave images without a cluster; these count as wrong. Pixels are
reduced to 50 principal components first, except for the networks. Photographs are clustered by the
features of an encoder, the same for all methods. Seconds are those of a processor for the fit.
Results are kept in benchmarks/results/alternatives.json as they finish. What is kept is not run
again, and a method whose package is missing is left out. `--table` prints the table.

Our own rows are those of benchmarks/clustering.py, with the same seeds.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlx_gmvae.data.datasets import load_dataset  # noqa: E402
from mlx_gmvae.evaluation.metrics import matching_accuracy  # noqa: E402

import numpy as np  # noqa: E402
import page_tables  # noqa: E402
import record  # noqa: E402
import sets  # noqa: E402

KEPT = ROOT / "benchmarks" / "results" / "alternatives.json"
K, DIMS = 10, 50
SEEDS, NETWORK_SEEDS = 3, 1  # networks take minutes
UMAP_DIMS, UMAP_NEIGHBOURS = 10, 10
SETS = {  # for each set the images, and the features that take the place of pixels
    "digits": ("digits", None),
    "MNIST 2,000": ("{mnist_2000_28_0}", None),
    "letters": ("{letters}", None),
    "1,000 photos": ("{photos_1000_0}", "{efficientnet_1000_0}"),
}
# A fit takes what to cluster and a seed, and returns a function from new rows to clusters.
Assign = Callable[[np.ndarray], np.ndarray]
Fit = Callable[[np.ndarray, int], Assign]


def kmeans(x: np.ndarray, seed: int) -> Assign:
    from sklearn.cluster import KMeans

    return KMeans(K, random_state=seed, n_init=10).fit(x).predict


def gaussian_mixture(x: np.ndarray, seed: int) -> Assign:
    from sklearn.mixture import GaussianMixture

    return GaussianMixture(K, covariance_type="diag", random_state=seed, n_init=3).fit(x).predict


def spectral(x: np.ndarray, seed: int) -> Assign:
    from sklearn.cluster import SpectralClustering

    method = SpectralClustering(
        K, affinity="nearest_neighbors", random_state=seed, assign_labels="cluster_qr"
    )
    return nearest(x, method.fit_predict(x))


def hdbscan(x: np.ndarray, seed: int) -> Assign:
    from sklearn.cluster import HDBSCAN

    return nearest(x, HDBSCAN(min_cluster_size=max(5, len(x) // 100), copy=True).fit_predict(x))


def after_umap(fit: Fit) -> Fit:
    """Return a fit in the space of a UMAP of `UMAP_DIMS` dimensions."""

    def fitted(x: np.ndarray, seed: int) -> Assign:
        from umap import UMAP

        reducer = UMAP(UMAP_NEIGHBOURS, UMAP_DIMS, min_dist=0.0, random_state=seed)
        assign = fit(reducer.fit_transform(x), seed)
        return lambda new: assign(reducer.transform(new))

    return fitted


def of_clustpy(name: str) -> Fit:
    """Return a fit by a deep clustering method of ClustPy with its defaults."""

    def fitted(x: np.ndarray, seed: int) -> Assign:
        import clustpy.deep

        method = getattr(clustpy.deep, name)(n_clusters=K, random_state=seed)
        method.fit(x.astype(np.float32))
        return lambda new: np.asarray(method.predict(new.astype(np.float32)))

    return fitted


def pythae_mixture(x: np.ndarray, seed: int) -> Assign:
    """Fit a Gaussian mixture to the latents of pythae's VAE of 8 dimensions with its defaults."""
    import tempfile

    import torch
    from pythae.models import VAE, VAEConfig
    from pythae.pipelines import TrainingPipeline
    from pythae.trainers import BaseTrainerConfig

    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=100,
            seed=seed,
            no_cuda=True,
            per_device_train_batch_size=64,
        )
        model = VAE(VAEConfig(input_dim=(1, x.shape[1]), latent_dim=8))
        rows = x.astype(np.float32).reshape(-1, 1, x.shape[1])
        TrainingPipeline(model=model, training_config=config)(train_data=rows)

    def latents(some: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            pixels = torch.tensor(some.astype(np.float32).reshape(len(some), 1, -1))
            return model.encoder(pixels).embedding.numpy().astype(float)

    assign = gaussian_mixture(latents(x), seed)
    return lambda new: assign(latents(new))


def nearest(x: np.ndarray, clusters: np.ndarray) -> Assign:
    """Return a function that gives each new row the cluster of the nearest of `x`."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(1).fit(x, clusters).predict


# Package of each method, its fit, and whether it takes pixels themselves.
METHODS: dict[str, tuple[str, Fit, bool]] = {
    "k-means": ("scikit-learn", kmeans, False),
    "Gaussian mixture": ("scikit-learn", gaussian_mixture, False),
    "spectral clustering": ("scikit-learn", spectral, False),
    "HDBSCAN": ("scikit-learn", hdbscan, False),
    "UMAP + HDBSCAN": ("umap-learn", after_umap(hdbscan), False),
    "UMAP + Gaussian mixture": ("umap-learn", after_umap(gaussian_mixture), False),
    "ClustPy DEC": ("clustpy", of_clustpy("DEC"), True),
    "pythae VAE + Gaussian mixture": ("pythae", pythae_mixture, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", type=Path)
    parser.add_argument("--only", nargs="+", metavar="SET", choices=list(SETS), default=list(SETS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--workdir", type=Path, default=ROOT / "results" / "clustering")
    parser.add_argument("--table", action="store_true", help="print what is kept, run nothing")
    args = parser.parse_args()
    if not args.table:
        if args.data_dir is None:
            parser.error("--data_dir is needed, the folder with the image sets")
        for name in args.only:
            measure(name, args)
    print(page_tables.alternatives())


def measure(name: str, args: argparse.Namespace) -> None:
    """Fit all methods to one set and keep their accuracies and seconds."""
    train, test, features = images(name, args)
    for method, (package, fit, is_network) in METHODS.items():
        installed = installed_version(package)
        if method not in args.methods or installed is None or method in kept().get(name, {}):
            continue
        if features is None and not is_network:
            rows = reduced(train.images, test.images)
        elif features is None:
            rows = tuple(part.images.reshape(len(part), -1) / 255 for part in (train, test))
        else:
            rows = features
        runs = {}
        for seed in range(NETWORK_SEEDS if is_network else SEEDS):
            started = time.process_time()
            assign = fit(rows[0], seed)
            seconds = time.process_time() - started
            clusters = np.asarray(assign(rows[1]))
            is_clustered = clusters >= 0
            accuracy = matching_accuracy(test.labels[is_clustered], clusters[is_clustered])
            runs[seed] = {
                "accuracy": float(accuracy * is_clustered.mean()),
                "clusters": len(set(clusters[is_clustered].tolist())),
                "unassigned": float(1 - is_clustered.mean()),
                "seconds": round(seconds, 1),
            }
            print(f"{name}, {method}, seed {seed}: {runs[seed]}", flush=True)
        keep(name, method, {"package": f"{package} {installed}", "seeds": runs})


def images(name: str, args: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Return the training and the test part of a set, and the features of both or None."""
    source, features = SETS[name]
    needed = source + (features or "")
    places = {
        key: str(path) for key, path in sets.prepare(args.data_dir, args.workdir, needed).items()
    }
    splits = load_dataset(source.format(**places), args.data_dir)
    if features is None:
        return splits.train, splits.test, None
    with np.load(features.format(**places)) as archive:
        rows = {Path(name).name: row for row, name in enumerate(archive["files"])}
        of_all = archive["features"].astype(np.float32)
    of_all /= np.linalg.norm(of_all, axis=1, keepdims=True)
    found = [
        of_all[[rows[Path(part.files[position]).name] for position in part.index]]
        for part in splits
    ]
    return splits.train, splits.test, tuple(found)


def reduced(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.decomposition import PCA

    pca = PCA(DIMS, random_state=0)
    fitted = pca.fit_transform(train.reshape(len(train), -1) / 255)
    return fitted, pca.transform(test.reshape(len(test), -1) / 255)


def installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def kept() -> dict[str, Any]:
    return json.loads(KEPT.read_text()) if KEPT.exists() else {}


def keep(name: str, method: str, result: dict[str, Any]) -> None:
    results = kept()
    results.setdefault(name, {})[method] = result
    record.write(KEPT, results, [f"{name}, {method}"])


if __name__ == "__main__":
    main()
