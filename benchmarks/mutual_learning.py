"""Mutual learning of a VAE and a Gaussian mixture on MNIST, iteration by iteration.

    python benchmarks/mutual_learning.py --data_dir DIR

Three seeds of `train.py --model vae-gmm`. Prints test accuracy and ELBO after iterations 0 (no
mutual learning) to 4, draws them into assets/mutual_learning.png, and keeps them in
benchmarks/results/mutual_learning.json.
"""

import argparse
import csv
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlx_gmvae.report import plots  # noqa: E402

import record  # noqa: E402

KEPT = ROOT / "benchmarks" / "results" / "mutual_learning.json"
PICTURE = ROOT / "assets" / "mutual_learning.png"
SEEDS = range(3)
OPTIONS = (
    "--model vae-gmm --arch mlp --dataset mnist --latent_dims 8 --K 10 --mutual_iterations 4 "
    "--epochs 15"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--workdir", type=Path, default=ROOT / "results" / "mutual_learning")
    args = parser.parse_args()
    runs = {}
    for seed in SEEDS:
        folder = args.workdir / str(seed)
        command = (
            f"{OPTIONS} --data_dir {args.data_dir} --seed {seed} --outdir {folder} --overwrite"
        )
        script = str(ROOT / "train.py")
        subprocess.run(
            [sys.executable, script, *command.split()], check=True, stdout=subprocess.DEVNULL
        )
        with (folder / "iterations.csv").open() as file:
            rows = list(csv.DictReader(file))
        runs[f"seed {seed}"] = [{name: float(row[name]) for name in row} for row in rows]
    record.write(KEPT, {"command": f"python train.py {OPTIONS}", **runs})
    panels = {
        title: {seed: [row[name] for row in rows] for seed, rows in runs.items()}
        for name, title in (("accuracy", "test accuracy"), ("elbo", "test ELBO, nats per image"))
    }
    plots.save_curves(PICTURE, [panels], "iteration", first=0)
    print("iteration        accuracy              ELBO")
    for iteration, rows in enumerate(zip(*runs.values(), strict=True)):
        columns = []
        for name in ("accuracy", "elbo"):
            values = [row[name] for row in rows]
            columns.append(f"{statistics.mean(values):9.3f} ± {statistics.stdev(values):.3f}")
        print(f"{iteration:9d}  " + "  ".join(columns))


if __name__ == "__main__":
    main()
