"""Speed and loss of two processes with one BLAS thread each against one process.

    python benchmarks/processes.py

Trains the default GMVAE on the bundled digits at 28x28, with the same global batches, by
`train.py` alone, under `mpirun -n 2` (where Open MPI is installed) and under `mlx.launch -n 2`, in
turns. Images per second are those of the faster half of the epochs, by the clock; losses are those
of the last epoch. Results are kept in benchmarks/results/processes.json.
"""

import csv
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import record

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = "--cpu --dataset digits --image_size 28 28 --batchsize 256 --epochs 25"
ROUNDS = 2
LAUNCH = shutil.which("mlx.launch", path=Path(sys.executable).parent) or "mlx.launch"
WAYS = {
    "one process": [],
    "mpirun -n 2": ["mpirun", "-n", "2"],
    "mlx.launch -n 2": [LAUNCH, "-n", "2", "--"],
}


def main() -> None:
    ways = [way for way in WAYS if way != "mpirun -n 2" or shutil.which("mpirun")]
    rounds = [{way: train(WAYS[way], seed) for way in ways} for seed in range(ROUNDS)]
    summary = {}
    for way in ways:
        speeds, losses = zip(*(each[way] for each in rounds), strict=True)
        ratios = [each[way][0] / each["one process"][0] for each in rounds]
        summary[way] = {
            "images_per_second": speeds,
            "ratio": round(statistics.median(ratios), 2),
            "loss": losses,
        }
        print(
            f"{way:<16} images/s {' '.join(f'{x:6.0f}' for x in speeds)}  "
            f"{summary[way]['ratio']:.2f} times one  loss {' '.join(f'{x:7.2f}' for x in losses)}"
        )
    content = {
        "command": "python benchmarks/processes.py",
        "options": OPTIONS,
        "seeds": list(range(ROUNDS)),
        "load_average_at_the_end": [round(load, 1) for load in os.getloadavg()],
        "ways": summary,
    }
    path = ROOT / "benchmarks" / "results" / "processes.json"
    record.write(path, content)


def train(launcher: list[str], seed: int) -> tuple[float, float]:
    """Return images per second and the last loss of a run of `train.py`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*launcher, sys.executable, str(ROOT / "train.py"), *OPTIONS.split()]
        command += ["--seed", str(seed), "--outdir", folder, "--overwrite"]
        allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        environment = os.environ | allowed | {"OPENBLAS_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        with open(Path(folder) / "history.csv") as file:
            epochs = list(csv.DictReader(file))
    speeds = sorted(float(epoch["throughput"]) for epoch in epochs)
    faster = speeds[len(speeds) // 2 :]
    return round(statistics.median(faster), 1), round(float(epochs[-1]["loss"]), 3)


if __name__ == "__main__":
    main()
