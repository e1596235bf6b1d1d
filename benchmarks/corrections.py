"""What corrections are worth: accuracy after the least certain images were put where they belong.

    python benchmarks/corrections.py --model RUN/model.npz --dataset SET [train.py's options]

The N least certain training images are moved to the cluster that stands for their label, and
training goes on from the model (train.py --init --curation), for N = 0, 10, 50, 200. Test accuracy,
one run each. Kept in benchmarks/results/corrections.json under the name of the set.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import mlx_gmvae as mg  # noqa: E402
from mlx_gmvae.report.curation import Curation  # noqa: E402

import numpy as np  # noqa: E402
from scipy.optimize import linear_sum_assignment  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "corrections.json"
NUMBERS = (0, 10, 50, 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True)
    args, more = parser.parse_known_args()
    model = mg.load(args.model)
    size = model.network.config.image_size
    splits = mg.load_dataset(args.dataset, image_size=size)
    accuracies = {"before": accuracy(model, splits.test)}
    for number in NUMBERS:
        with tempfile.TemporaryDirectory() as folder:
            options = ["--init", args.model, "--dataset", args.dataset, "--outdir", f"{folder}/run"]
            options += ["--image_size", *map(str, size)]
            if number:
                path = Path(folder) / "curation.json"
                path.write_text(json.dumps(corrected(model, splits.train, number).to_json()))
                options += ["--curation", str(path)]
            command = [sys.executable, str(ROOT / "train.py"), *options, *more]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            accuracies[str(number)] = accuracy(mg.load(f"{folder}/run/model.npz"), splits.test)
        print(Path(args.dataset).stem, accuracies, flush=True)
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[Path(args.dataset).stem] = {"options": more, "accuracy": accuracies}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


def accuracy(model, dataset) -> float:
    clusters = model.predict(dataset.images)
    return round(float((matched(clusters, dataset.labels)[clusters] == dataset.labels).mean()), 4)


def matched(clusters: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label that each cluster stands for, one to one."""
    num = max(clusters.max(), labels.max()) + 1
    counts = np.zeros((num, num), int)
    np.add.at(counts, (clusters, labels), 1)
    return linear_sum_assignment(-counts)[1]


def corrected(model, dataset, number: int) -> Curation:
    """A curation that moves the least certain images to the cluster of their label."""
    q = np.asarray(model.responsibilities(dataset.images))
    label_of = matched(q.argmax(axis=1), dataset.labels)
    cluster_of = np.argsort(label_of)
    rows = np.argsort(q.max(axis=1), kind="stable")[:number]
    prefix = "" if dataset.files or dataset.is_divided else "train/"
    moved = {
        prefix + dataset.relative_name(row): int(cluster_of[dataset.labels[row]]) for row in rows
    }
    return Curation(q.shape[1], moved=moved)


if __name__ == "__main__":
    main()
