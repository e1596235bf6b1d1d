"""Test accuracy on MNIST after each epoch of `train.py --latent_dims 8 --K 10`, by seed.

    python benchmarks/epochs.py --data_dir DIR                    three seeds to the last epoch
    python benchmarks/epochs.py --data_dir DIR --until 0.95 --seeds 0 1 2
                                                                  time until this accuracy

Labels are used here only, after an epoch, and change nothing. Results are kept in
benchmarks/results/epochs.json, with the seconds since the start (reading the files and finding the
neighbours included). The accuracies of whole runs are drawn into assets/accuracy.png, beside
published results (benchmarks/results/published.json).
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlx_gmvae.config import ModelConfig, TrainConfig  # noqa: E402
from mlx_gmvae.data.datasets import load_dataset  # noqa: E402
from mlx_gmvae.device import backend  # noqa: E402
from mlx_gmvae.evaluation.metrics import matching_accuracy  # noqa: E402
from mlx_gmvae.evaluation.scores import responsibilities  # noqa: E402
from mlx_gmvae.models import build_model  # noqa: E402
from mlx_gmvae.training.api import new_trainer  # noqa: E402

import mlx.core as mx  # noqa: E402
import record  # noqa: E402

KEPT = ROOT / "benchmarks" / "results" / "epochs.json"
PUBLISHED = ROOT / "benchmarks" / "results" / "published.json"
PICTURE = ROOT / "assets" / "accuracy.png"
WHOLE = "whole"
LINE = 0.75  # height of a line of text, in per cent of accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir")
    parser.add_argument("--seeds", type=int, nargs="+", default=range(3))
    parser.add_argument("--until", type=float, default=1.0, help="end with this accuracy")
    parser.add_argument("--draw", action="store_true", help="draw kept results only")
    args = parser.parse_args()
    if bool(args.draw) == bool(args.data_dir):
        parser.error("give --data_dir or --draw")
    if args.draw and WHOLE not in kept():
        parser.error("no whole run is kept; give --data_dir")
    backend.keep_freed_memory()
    backend.select_device()
    for seed in [] if args.draw else args.seeds:
        reached = []
        for seconds, accuracy in after_epochs(args.data_dir, seed):
            print(f"seed {seed}: {100 * accuracy:.2f} % after {seconds:.0f} s", flush=True)
            reached.append([round(seconds, 1), accuracy])
            if accuracy >= args.until:
                break
        keep(WHOLE if args.until == 1 else f"until {args.until:g}", seed, reached)
    if args.draw or args.until == 1:
        draw(kept()[WHOLE])


def after_epochs(data_dir: str, seed: int) -> Iterator[tuple[float, float]]:
    """Yield the seconds since the start and the test accuracy after each epoch."""
    started = time.perf_counter()
    train, test = load_dataset("mnist", data_dir)
    mx.random.seed(seed)
    trainer = new_trainer(build_model(ModelConfig()), train.images, TrainConfig(seed=seed))
    for _ in trainer.run():
        seconds = time.perf_counter() - started
        trainer.model.eval()
        clusters = responsibilities(trainer.model, test.images).argmax(axis=1)
        yield seconds, matching_accuracy(test.labels, clusters)


def kept() -> dict[str, dict[str, list[list[float]]]]:
    return json.loads(KEPT.read_text()) if KEPT.exists() else {}


def keep(kind: str, seed: int, reached: list[list[float]]) -> None:
    results = kept()
    of_kind = results.get(kind, {}) | {str(seed): reached}
    results[kind] = dict(sorted(of_kind.items(), key=lambda item: int(item[0])))
    record.write(KEPT, results, [kind])


def draw(runs: dict[str, list[list[float]]]) -> None:
    """Draw accuracy by epoch, a line for each seed, and published results as named levels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained", dpi=110)
    axis = figure.subplots()
    published = [each["drawn"] for each in json.loads(PUBLISHED.read_text())]
    levels = sorted((level, name) for some in published for name, level in some.items())
    most = max(len(run) for run in runs.values())
    for (level, name), height in zip(levels, apart([level for level, _ in levels]), strict=True):
        axis.axhline(level, color="0.75", linewidth=0.8, zorder=0)
        axis.annotate(
            f"{name} {level:g}", (1, level), (1.02, height), xycoords=("axes fraction", "data"),
            textcoords=("axes fraction", "data"), va="center", fontsize=8, color="0.35",
            arrowprops={"arrowstyle": "-", "color": "0.75", "linewidth": 0.6, "shrinkA": 0},
        )  # fmt: skip
    for seed, run in runs.items():
        accuracies = [100 * accuracy for _, accuracy in run]
        axis.plot(range(1, len(run) + 1), accuracies, marker=".", label=f"seed {seed}")
    axis.set(xlabel="epoch", ylabel="test accuracy %", xlim=(1, most), ylim=(81.5, 100))
    axis.set_xticks(range(1, most + 1))
    axis.legend(loc="lower right", fontsize=8)
    figure.savefig(PICTURE)


def apart(heights: list[float]) -> list[float]:
    """Move rising heights apart until neighbours differ by at least a line of text."""
    places = list(heights)
    for _ in range(1000):
        for lower, (one, other) in enumerate(pairwise(list(places))):
            push = max(0.0, LINE - (other - one)) / 2
            places[lower] -= push
            places[lower + 1] += push
    return places


if __name__ == "__main__":
    main()
