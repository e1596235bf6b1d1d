"""Fréchet distance between samples and real images (Heusel et al. 2017, eq. 6).

    python benchmarks/frechet.py OLD.npz NEW.npz --data_dir DIR

It is the distance between Gaussians fitted to the features of the test images and of as many
samples. The features are the 128 hidden activations of a dense classifier that scikit-learn trains
on the labelled training images, and that the models never see. It is printed beside the bound,
purity and accuracy of each model, and for training images in place of samples. Results are kept in
benchmarks/results/frechet.json.
"""

import argparse
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlx_gmvae.data.dataset_spec import DatasetSpec  # noqa: E402
from mlx_gmvae.data.splits import Splits  # noqa: E402
from mlx_gmvae.device.randomness import random_rows  # noqa: E402
from mlx_gmvae.runs.checkpoint import load_model  # noqa: E402
from pretrained import measured  # noqa: E402

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
import record  # noqa: E402
from purity import sample_purity  # noqa: E402
from scipy.linalg import sqrtm  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "frechet.json"
DECODED_AT_ONCE = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data_dir", type=Path, required=True)
    args = parser.parse_args()
    results, judge = {}, None
    for path in args.models:
        loaded = load_model(path)
        source = DatasetSpec.from_dict(loaded.data, path)
        splits = source.load(str(args.data_dir), loaded.model.config.image_size)
        judge = judge or trained_judge(splits)
        mx.random.seed(0)
        num = len(splits.test)
        drawn = [loaded.model.sample(DECODED_AT_ONCE) for _ in range(num // DECODED_AT_ONCE)]
        samples = np.concatenate([np.array(some) for some in drawn])
        found = {"epochs": loaded.training["epochs"], "samples": len(samples)}
        found["distance"] = distance(judge, splits.test.images / 255, samples)
        scores = measured(loaded.model, splits.test)
        found |= scores["generative"]
        if "clustering" in scores:
            found |= scores["clustering"]
            found["sample_purity"] = sample_purity(path, args.data_dir)
        results[f"{path.stem}, {found['epochs']} epochs"] = found
        print(f"{path.stem}: {found}")
    assert judge is not None
    some = splits.train.images[random_rows(len(splits.train), len(splits.test))] / 255
    results["training images"] = {"distance": distance(judge, splits.test.images / 255, some)}
    print(f"training images: {results['training images']}")
    record.write(RESULTS, results)


def trained_judge(splits: Splits) -> MLPClassifier:
    """Return a classifier with one hidden layer, fitted to the labelled training images."""
    judge = MLPClassifier(128, batch_size=256, max_iter=10, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ten epochs are intended
        judge.fit(rows(splits.train.images / 255), splits.train.labels)
    right = judge.score(rows(splits.test.images / 255), splits.test.labels)
    print(f"the judge is right for {100 * right:.2f} % of the test images")
    return judge


def distance(judge: MLPClassifier, real: np.ndarray, made: np.ndarray) -> float:
    """Return the Fréchet distance of two sets of images in [0, 1] in the hidden layer."""
    gaussians = []
    for images in (real, made):
        features = np.maximum(rows(images) @ judge.coefs_[0] + judge.intercepts_[0], 0)
        gaussians.append((features.mean(axis=0), np.cov(features, rowvar=False)))
    (mean, covariance), (other_mean, other) = gaussians
    root = sqrtm(covariance @ other).real
    return float(np.square(mean - other_mean).sum() + np.trace(covariance + other - 2 * root))


def rows(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


if __name__ == "__main__":
    main()
