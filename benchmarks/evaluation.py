"""Time to evaluate a trained model: scores of train.py, anomaly scores, cluster.py, explorer.

python benchmarks/evaluation.py --data_dir DIR --model pretrained/gmvae_mnist_K10_dims_0008.npz

Prints seconds by the clock and of the processor, each the minimum of --repeats, for all test
images of the model's data (10,000 of MNIST). `--root` times another copy of the package, for
comparison.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    args = parser.parse_args()
    sys.path.insert(0, str(args.root))

    import cluster
    from mlx_gmvae.data.datasets import load_dataset
    from mlx_gmvae.device import backend
    from mlx_gmvae.evaluation import scores
    from mlx_gmvae.runs.checkpoint import load_model

    backend.keep_freed_memory()
    loaded = load_model(args.model)
    images = load_dataset(loaded.data["dataset"], args.data_dir).test.images
    print(f"{len(images)} images; {backend.describe()}")

    def script(*flags: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            options = ["--model", str(args.model), "--data_dir", str(args.data_dir)]
            assert cluster.main([*options, "--split", "test", "--outdir", folder, *flags]) == 0

    tasks: dict[str, Callable[[], object]] = {
        "bound, reconstructions": lambda: scores.generative_scores(loaded.model, images),
        "anomaly scores": lambda: scores.anomaly_scores(loaded.model, images, "importance"),
        "cluster.py": script,
        "cluster.py --explorer": lambda: script("--explorer"),
    }
    for name, task in tasks.items():
        found = [timed(task) for _ in range(args.repeats)]
        clock, processor = (min(column) for column in zip(*found, strict=True))
        print(f"TIMED {name:<24}{clock:8.2f} s by the clock {processor:8.2f} s of the processor")


def timed(task: Callable[[], object]) -> tuple[float, float]:
    clock, processor = time.perf_counter(), time.process_time()
    task()
    return time.perf_counter() - clock, time.process_time() - processor


if __name__ == "__main__":
    main()
