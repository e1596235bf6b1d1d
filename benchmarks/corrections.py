"""Accuracy on held-out images after a person's corrections of the least certain ones.

    python benchmarks/corrections.py NAME=RUN ... [--data_dir DIR]

RUN is a folder that train.py wrote, for a set with labels. The N training images with the lowest
confidence are put where their label belongs, the last layer is refitted (`cluster.py --curation
--save_model`), and the clusters of the test images are scored. Beside it, the accuracy of the same
number of labels without clusters: `cluster.py --labelled`, with N / K images of each class. Kept in
benchmarks/results/corrections.json.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlx_gmvae.clustering.corrections import learn_corrections  # noqa: E402
from mlx_gmvae.data.datasets import load_dataset  # noqa: E402
from mlx_gmvae.evaluation.labelled import classify  # noqa: E402
from mlx_gmvae.evaluation.scores import responsibilities  # noqa: E402
from mlx_gmvae.runs.checkpoint import load_model  # noqa: E402

import numpy as np  # noqa: E402
import record  # noqa: E402
from scipy.optimize import linear_sum_assignment  # noqa: E402

NUMBERS = (10, 50, 200)
RESULTS = ROOT / "benchmarks" / "results" / "corrections.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--data_dir")
    args = parser.parse_args()
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept["command"] = "python benchmarks/corrections.py NAME=RUN ..."
    for each in args.runs:
        name, _, run = each.partition("=")
        kept.setdefault("accuracy", {})[name] = row = measure(Path(run), args.data_dir)
        print(name, row, flush=True)
        record.write(RESULTS, kept, [name])


def measure(run: Path, data_dir: str | None) -> dict[str, float]:
    """Accuracy in per cent by the number of corrections, 0 among them, and by few labels."""
    loaded = load_model(run / "model.npz")
    num_clusters, data = loaded.model.config.K, loaded.data
    size = loaded.model.config.image_shape[:2]
    splits = load_dataset(data["path"] or data["dataset"], data_dir, image_size=size)
    train, test = splits.train, splits.test
    q = responsibilities(loaded.model, train.examples)
    counts = np.zeros((num_clusters, num_clusters), int)
    np.add.at(counts, (q.argmax(axis=1), train.labels), 1)
    cluster_of = np.argsort(linear_sum_assignment(-counts)[1])
    least_certain = np.argsort(q.max(axis=1))
    row = {}
    for number in (0, *NUMBERS):
        model = load_model(run / "model.npz").model
        rows = least_certain[:number]
        learn_corrections(
            model, train.examples, dict(zip(rows, cluster_of[train.labels[rows]], strict=True))
        )
        found = responsibilities(model, test.examples).argmax(axis=1)
        row[str(number)] = percent(found == cluster_of[test.labels])
    for number in NUMBERS:
        classes = classify(loaded.model, train, test.examples, max(1, number // num_clusters), 0)
        row[f"labels {number}"] = percent(classes.values.argmax(axis=1) == test.labels)
    return row


def percent(right: np.ndarray) -> float:
    return round(100 * float(np.mean(right)), 1)


if __name__ == "__main__":
    main()
