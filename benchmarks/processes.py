"""Two processes with one BLAS thread each against one, on the same global batches.

    python benchmarks/processes.py

The default GMVAE on the bundled digits at 28x28, by `train.py` alone and under `mlx.launch -n 2`,
in turns. Images per second are those of the faster half of the epochs, by the clock; the losses
are those of the last epoch. Kept in benchmarks/results/processes.json.
"""

import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = "--cpu --dataset digits --image_size 28 28 --batchsize 256 --epochs 16"
ROUNDS = 3


def main() -> None:
    rounds = [{processes: train(processes, seed) for processes in (1, 2)} for seed in range(ROUNDS)]
    ratios = [each[2]["images_per_second"] / each[1]["images_per_second"] for each in rounds]
    for seed, each in enumerate(rounds):
        print(
            f"seed {seed}: images/s {each[1]['images_per_second']:.0f} and "
            f"{each[2]['images_per_second']:.0f} ({ratios[seed]:.2f}), "
            f"loss {each[1]['loss']:.2f} and {each[2]['loss']:.2f}"
        )
    print(f"two processes: {statistics.median(ratios):.2f} times the images per second of one")
    content = {
        "command": "python benchmarks/processes.py",
        "options": OPTIONS,
        "load_average_at_the_end": [round(load, 1) for load in os.getloadavg()],
        "ratio": round(statistics.median(ratios), 2),
        "rounds": rounds,
    }
    path = ROOT / "benchmarks" / "results" / "processes.json"
    path.write_text(json.dumps(content, indent=2) + "\n")


def train(processes: int, seed: int) -> dict[str, float]:
    """Speed and last loss of a run of `train.py`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "train.py"), *OPTIONS.split()]
        command += ["--seed", str(seed), "--outdir", folder, "--overwrite"]
        if processes > 1:
            beside = Path(sys.executable).parent
            launch = shutil.which("mlx.launch", path=beside) or "mlx.launch"
            command = [launch, "-n", str(processes), "--", *command]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        with open(Path(folder) / "history.csv") as file:
            epochs = list(csv.DictReader(file))
    speeds = sorted(float(epoch["throughput"]) for epoch in epochs)
    faster = speeds[len(speeds) // 2 :]
    return {
        "images_per_second": round(statistics.median(faster), 1),
        "loss": round(float(epochs[-1]["loss"]), 3),
    }


if __name__ == "__main__":
    main()
