"""Time and memory for many images in an array mapped from disk: neighbours and training.

    OPENBLAS_NUM_THREADS=2 python benchmarks/many.py 100000 300000 1000000

The images, 28x28, are those of --dataset (the bundled digits; mnist with --data_dir), repeated
under new affine maps and strokes until there are enough, in a temporary .npy. For each number, in
a process of its own, it measures: seconds to describe the images and to find ten neighbours of
each; recall, the share of the exact neighbours of 1,000 images that were found; images per second
of the default GMVAE over 100 steps, and the time of an epoch at that speed; and peak memory after
each of these. Results are kept in benchmarks/results/many.json.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlx_gmvae.device import backend  # noqa: E402

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
import record  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "many.json"
NEIGHBOURS, CHECKED = 10, 1000
BATCH, STEPS, WARM_UP = 256, 100, 3
MADE_AT_ONCE = 4096
CHECKED_AT_ONCE = 1 << 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("nums", type=int, nargs="*", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--dataset", default="digits", help="whose images are augmented")
    parser.add_argument("--data_dir")
    parser.add_argument("--workdir", help="for the arrays, 784 MB for a million (default: /tmp)")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--gpu_path", action="store_true", help="neighbours as on a GPU")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the array to measure
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(Path(args.one), args.steps, args.gpu_path)))
        return
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for num in args.nums:
        with tempfile.TemporaryDirectory(dir=args.workdir) as folder:
            path = Path(folder) / "images.npy"
            make_images(path, num, args.dataset, args.data_dir)
            command = [sys.executable, __file__, "--one", str(path), "--steps", str(args.steps)]
            command += ["--gpu_path"] * args.gpu_path
            answer = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        found = json.loads(answer.splitlines()[-1])
        print(f"{num:,} images: " + ", ".join(f"{k} {v}" for k, v in found.items()), flush=True)
        part = f"{num}{', GPU path' * args.gpu_path}"
        results[part] = found
        record.write(RESULTS, results, [part])


def make_images(path: Path, num: int, dataset: str, data_dir: str | None) -> None:
    """Write an .npy file of uint8 images (num, 28, 28, 1)."""
    from mlx_gmvae.clustering.augment import Augmentation
    from mlx_gmvae.data.batches import as_float
    from mlx_gmvae.data.datasets import load_dataset

    options = {"data_dir": data_dir} if data_dir else {}
    real = load_dataset(dataset, image_size=(28, 28), **options).train.images
    distort = Augmentation(["affine", "strokes"])
    mx.random.seed(0)
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (num, 28, 28, 1))
    for start in range(0, num, MADE_AT_ONCE):
        rows = np.arange(start, min(start + MADE_AT_ONCE, num)) % len(real)
        made = 255 * mx.clip(distort(as_float(real[rows])), 0, 1)
        images[start : start + len(rows)] = np.array(mx.round(made).astype(mx.uint8))
    images.flush()


def measure(path: Path, steps: int, gpu_path: bool) -> dict:
    from mlx_gmvae.clustering.descriptors import describe
    from mlx_gmvae.clustering.neighbours import nearest

    backend.keep_freed_memory()
    images = np.load(path, mmap_mode="r")
    found: dict = {"device": backend.describe(), "threads": backend.cores()}
    started = time.perf_counter()
    described = describe(images, "hog")
    found["describe_seconds"] = round(time.perf_counter() - started, 1)
    found["describe_peak_mb"] = peak_megabytes()
    started = time.perf_counter()
    if gpu_path:
        with backend.as_on_gpu():
            graph = nearest(described, NEIGHBOURS)
    else:
        graph = nearest(described, NEIGHBOURS)
    found["neighbours_seconds"] = round(time.perf_counter() - started, 1)
    found["recall"] = round(recall(described, graph), 4)
    found["neighbours_peak_mb"] = peak_megabytes()
    del described
    found |= train_part(images, graph, steps)
    found["training_peak_mb"] = peak_megabytes()
    return found


def recall(described: np.ndarray, graph: np.ndarray) -> float:
    """Return the share of the exact neighbours of some images that the graph has."""
    rows = np.random.default_rng(0).permutation(len(described))[:CHECKED]
    asked = described[rows].astype(np.float64)
    best = np.full((len(rows), NEIGHBOURS), np.inf)
    names = np.full((len(rows), NEIGHBOURS), -1)
    for start in range(0, len(described), CHECKED_AT_ONCE):
        block = described[start : start + CHECKED_AT_ONCE].astype(np.float64)
        numbers = np.arange(start, start + len(block))
        distances = np.square(block).sum(axis=1) - 2 * asked @ block.T
        distances[rows[:, None] == numbers] = np.inf
        near = np.argpartition(distances, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        both = np.concatenate([best, np.take_along_axis(distances, near, axis=1)], axis=1)
        named = np.concatenate([names, numbers[near]], axis=1)
        kept = np.argsort(both, axis=1)[:, :NEIGHBOURS]
        best = np.take_along_axis(both, kept, axis=1)
        names = np.take_along_axis(named, kept, axis=1)
    hits = [np.isin(names[i], graph[row]).mean() for i, row in enumerate(rows)]
    return float(np.mean(hits))


def train_part(images: np.ndarray, graph: np.ndarray, steps: int) -> dict:
    """Measure the speed of the default GMVAE over the first steps of an epoch."""
    from mlx_gmvae.config import ModelConfig, TrainConfig
    from mlx_gmvae.models import build_model
    from mlx_gmvae.training.api import new_trainer
    from mlx_gmvae.training.defaults import for_model

    config = ModelConfig()
    training = for_model(TrainConfig(epochs=5, batchsize=BATCH), config, set())
    trainer = new_trainer(build_model(config), images, training, graph)
    times: list[float] = []

    def is_enough() -> bool:
        times.append(time.perf_counter())
        return len(times) > WARM_UP + steps

    for _ in trainer.run(is_enough):
        pass
    done = len(times) - WARM_UP - 1
    seconds = (times[-1] - times[WARM_UP]) / max(1, done)
    return {
        "steps_timed": done,
        "images_per_second": round(BATCH / seconds, 1),
        "epoch_seconds_at_that": round(seconds * trainer.steps_per_epoch, 1),
    }


def peak_megabytes() -> float:
    """Return the peak memory of this process so far, mapped pages of the array included."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


if __name__ == "__main__":
    main()
