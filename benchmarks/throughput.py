"""Training speed of the default GMVAE against the plain MLX formulation of the same network.

    python benchmarks/throughput.py --data_dir DIR

"Plain" is what one writes first: strided convolutions, nearest-neighbour upsampling followed by a
convolution, and on Linux the BLAS in MLX's wheel. The networks have the same parameters and the
same function (tests/test_layers.py). Each row runs in its own process, rows take turns, and
medians and ratios over the rounds are printed and kept in benchmarks/results/throughput.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

ROWS = {
    "ours": {},
    "plain, OpenBLAS": {},
    "plain, wheel BLAS": {"MLX_GMVAE_BLAS": "none"},
}
WARM_UP_SECONDS, MEASURED_SECONDS = 3.0, 10.0
MEASURED_IMAGES = 6000  # the speed of a step does not depend on how many images there are


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", help="folder with MNIST's files (default: bundled digits)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one short round, nothing kept")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        print(json.dumps(measure(args.row, args.data_dir, args.quick)))
        return
    speeds: dict[str, list[float]] = {row: [] for row in ROWS}
    device = ""
    for _ in range(1 if args.quick else args.rounds):
        for row, environment in ROWS.items():
            answer = in_own_process(row, environment, args)
            speeds[row].append(answer["images_per_second"])
            device = device or answer["device"]  # the first row's, ours
    report(device, {row: statistics.median(values) for row, values in speeds.items()}, args)


def in_own_process(row: str, environment: dict[str, str], args: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--row", row]
    command += ["--data_dir", args.data_dir] if args.data_dir else []
    command += ["--quick"] if args.quick else []
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"the row {row!r} failed")
    return json.loads(done.stdout)


def measure(row: str, data_dir: str | None, quick: bool) -> dict:
    """Images per second of training steps after a warm-up, in this process."""
    from mlx_gmvae import backend
    from mlx_gmvae.config import ModelConfig, TrainConfig
    from mlx_gmvae.data.datasets import load_dataset
    from mlx_gmvae.models import build_model
    from mlx_gmvae.training import Trainer

    if row.startswith("plain"):
        use_plain_layers()
    if data_dir:
        images = load_dataset("mnist", data_dir).train.images[:MEASURED_IMAGES]
    else:
        images = load_dataset("digits", image_size=(28, 28)).train.images
    trainer = Trainer(build_model(ModelConfig()), images, TrainConfig(epochs=1_000_000))
    seconds = 0.5 if quick else WARM_UP_SECONDS
    run_for(trainer, seconds)
    steps, elapsed = run_for(trainer, 1.0 if quick else MEASURED_SECONDS)
    return {
        "images_per_second": steps * trainer.batchsize / elapsed,
        "device": backend.describe(),
    }


def run_for(trainer, seconds: float) -> tuple[int, float]:
    """Run whole steps for at least `seconds`; returns their number and the time they took."""
    steps, started = 0, time.perf_counter()

    def enough() -> bool:
        nonlocal steps
        steps += 1
        return time.perf_counter() - started >= seconds

    for _ in islice(trainer.run(enough), 1_000_000):
        pass
    return steps, time.perf_counter() - started


def use_plain_layers() -> None:
    from mlx_gmvae.layers import DownsampleConv2d, UpsampleConv2d

    import mlx.core as mx

    def strided(self, x):
        return mx.conv2d(x, self.weight, stride=2, padding=1) + self.bias

    def nearest(self, x):
        big = mx.repeat(mx.repeat(x, 2, axis=1), 2, axis=2)
        return mx.conv2d(big, self.weight, padding=1) + self.bias

    DownsampleConv2d.__call__ = strided
    UpsampleConv2d.__call__ = nearest


def report(device: str, medians: dict[str, float], args: argparse.Namespace) -> None:
    print(device)
    print(f"{'default GMVAE, 28x28, batch 256':<34}{'images/s':>10}{'ours / row':>12}")
    for row, speed in medians.items():
        print(f"{row:<34}{speed:>10.0f}{medians['ours'] / speed:>12.1f}")
    if not args.quick:
        kept = ROOT / "benchmarks" / "results" / "throughput.json"
        kept.parent.mkdir(exist_ok=True)
        result = {
            "command": "python benchmarks/throughput.py"
            + (" --data_dir DIR" if args.data_dir else ""),
            "device": device,
            "rounds": args.rounds,
            "images_per_second": {row: round(speed, 1) for row, speed in medians.items()},
        }
        kept.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
