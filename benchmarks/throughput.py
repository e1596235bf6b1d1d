"""Training speed beside a plain MLX formulation and PyTorch, on the same networks.

    python benchmarks/throughput.py

"Plain" is the obvious way to write it in MLX: strided convolutions, nearest-neighbour upsampling
before a convolution, automatic gradients throughout, malloc's defaults, and on Linux OpenBLAS with
its own threads or the BLAS in MLX's wheel. The PyTorch rows (torch_networks.py) are left out if
torch cannot be imported. They are PyTorch as installed, except one that has OpenBLAS loaded before
it, which then computes PyTorch's matrix products. All have the same parameters and the same
function (tests/test_layers.py) and see the same random images.

Each row runs in its own process, and rows take turns. Medians over the rounds and medians of the
ratios in a round are printed and kept in benchmarks/results/throughput.json, by the clock and by
processor time, with the milliseconds of our phases. On a busy machine use --threads 1 and compare
processor time: threads that wait for each other (PyTorch's, OpenBLAS's) suffer most from a busy
core, and their waiting counts as work.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import record

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# Defaults of malloc and of MLX, which turn our settings off.
PLAIN = {"MALLOC_ARENA_TEST": "8", "MLX_BFS_MAX_WIDTH": "20"}
OWN_BLAS = {"MLX_GMVAE_BLAS": "none"}
ROWS: dict[str, dict[str, str]] = {
    "ours": {},
    "plain MLX, OpenBLAS": PLAIN,
    "plain MLX, wheel BLAS": PLAIN | OWN_BLAS,
    "PyTorch": OWN_BLAS,
    "PyTorch, channels last": OWN_BLAS,
    "PyTorch, torch.compile": OWN_BLAS,
    "PyTorch, OpenBLAS": {},
}
WORKLOADS: dict[str, tuple[dict, int]] = {  # fields of ModelConfig, batch size
    "VAE conv, 64x64x1, batch 128": ({"model": "vae", "image_size": (64, 64)}, 128),
    "GMVAE conv, 28x28x1, batch 256": ({}, 256),
    "GMVAE mlp, 28x28x1, batch 256": ({"arch": "mlp"}, 256),
    "VAE conv, 256x256x3, batch 16": (
        {"model": "vae", "image_size": (256, 256), "channels": 3},
        16,
    ),
}
# A GMVAE as in the last three fifths of a training: no sub-clusters, strokes or flips.
OBJECTIVE = {"balance": "uniform", "augment": "affine"}
TORCH_MODES = {"CUDA graphs": "reduce-overhead", "compile": "default"}  # of torch.compile
PHASES = "phases"
NUM_IMAGES = 1024  # the speed of a step does not depend on how many there are
WARM_UP_STEPS, SECONDS, FEWEST_STEPS = 3, 3.0, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round of tiny steps, not kept")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="workloads that contain TEXT")
    parser.add_argument(
        "--rows", nargs="+", metavar="TEXT", help="only rows that contain TEXT, beside ours"
    )
    parser.add_argument("--threads", type=int, help="for all rows (default: one for each core)")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # workload, row
    args = parser.parse_args()
    if args.one:
        workload, row = args.one
        run = phases_of(workload, args.quick) if row == PHASES else measure(*args.one, args.quick)
        print(json.dumps(run))
        return
    workloads = [w for w in WORKLOADS if not args.only or any(text in w for text in args.only)]
    rows = [r for r in ROWS if r == "ours" or not args.rows or any(t in r for t in args.rows)]
    if args.quick:
        workloads, rows = workloads[:2], [r for r in rows if "compile" not in r]
    if args.threads:
        os.environ |= {f"{name}_NUM_THREADS": str(args.threads) for name in ("OPENBLAS", "OMP")}
    if not torch_is_there():
        print("torch cannot be imported: no PyTorch rows")
        rows = [row for row in rows if "PyTorch" not in row]
    # Let every library choose its kernels for this processor, as it does where no shell
    # has set this; PyTorch's have no such variable.
    os.environ.pop("OPENBLAS_CORETYPE", None)
    results = {}
    all_rows = rows
    for workload in workloads:
        # torch.compile needs several minutes for each process of the GMVAE.
        rows = [row for row in all_rows if "compile" not in row or "64x64" in workload]
        if "PyTorch, OpenBLAS" in rows and not loads_beside(workload):
            rows.remove("PyTorch, OpenBLAS")
        rounds = []
        for number in range(1 if args.quick else args.rounds):
            # Every second round runs backwards, so that no row always follows the same one.
            order = rows[:: -1 if number % 2 else 1]
            rounds.append({row: in_own_process(workload, row, args.quick) for row in order})
        results[workload] = {"rows": summary(rounds, rows)}
        print_table(workload, results[workload]["rows"])
        phases = in_own_process(workload, PHASES, args.quick)
        results[workload]["milliseconds_of_ours"] = phases
        print("ours, ms: " + ", ".join(f"{name} {value}" for name, value in phases.items()))
    if not args.quick:
        keep(results, args)


def loads_beside(workload: str) -> bool:
    """Return whether PyTorch runs with an OpenBLAS loaded before it; not every build does."""
    command = [sys.executable, __file__, "--one", workload, "PyTorch, OpenBLAS", "--quick"]
    return subprocess.run(command, capture_output=True).returncode == 0


def in_own_process(workload: str, row: str, quick: bool) -> dict:
    command = [sys.executable, __file__, "--one", workload, row] + ["--quick"] * quick
    environment = os.environ | ROWS.get(row, {})
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"the row {row!r} of {workload!r} failed")
    return json.loads(done.stdout.splitlines()[-1])


def measure(workload: str, row: str, quick: bool) -> dict:
    """Return the images per second of training steps in this process, after a warm-up."""
    fields, batchsize = WORKLOADS[workload]
    batchsize = 4 if quick else batchsize
    make = torch_step if row.startswith("PyTorch") else mlx_step
    step, device = make(fields, batchsize, row)
    for number in range(1 if quick else WARM_UP_STEPS):
        step(number)
    steps, started, cpu_started = 0, time.perf_counter(), time.process_time()
    while steps < (1 if quick else FEWEST_STEPS) or (
        not quick and time.perf_counter() - started < SECONDS
    ):
        step(steps)
        steps += 1
    images = steps * batchsize
    return {
        "images_per_second": images / (time.perf_counter() - started),
        "images_per_cpu_second": images / (time.process_time() - cpu_started),
        "device": device,
    }


def phases_of(workload: str, quick: bool) -> dict[str, float]:
    """Return milliseconds by phase of our step, of evaluating 1,000 images, of a checkpoint."""
    from mlx_gmvae.cli.profiling import phases

    fields, batchsize = WORKLOADS[workload]
    trainer = mlx_trainer(fields, 4 if quick else batchsize)
    images = trainer.images[:4] if quick else trainer.images
    seconds = phases(trainer, images)
    once = {"evaluation": 1000 / len(images), "checkpoint": 1.0}
    return {
        name: round(1e3 * value * once.get(name, 1 / trainer.steps_per_epoch), 2)
        for name, value in seconds.items()
    }


def random_images(shape: tuple[int, int, int], num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random images (N, H, W, C) and the row of a partner for each."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (num, *shape), np.uint8), rng.integers(0, num, num)


def mlx_trainer(fields: dict, batchsize: int):
    from mlx_gmvae.config import ModelConfig, TrainConfig
    from mlx_gmvae.models import build_model
    from mlx_gmvae.training.api import new_trainer
    from mlx_gmvae.training.defaults import for_model

    config = ModelConfig(**fields)
    images, partners = random_images(config.image_shape, min(NUM_IMAGES, 8 * batchsize))
    training = for_model(TrainConfig(batchsize=batchsize, **OBJECTIVE), config, set())
    return new_trainer(build_model(config), images, training, partners[:, None].astype(np.int32))


def mlx_step(fields: dict, batchsize: int, row: str):
    from mlx_gmvae.device import backend
    from mlx_gmvae.inputs import Batch
    from mlx_gmvae.training.schedule import step_weights

    import mlx.core as mx

    backend.keep_freed_memory()  # as the scripts do, unless the variables of PLAIN turn it off
    if row.startswith("plain"):
        use_plain_formulation()
    trainer = mlx_trainer(fields, batchsize)
    trainer.trained.train()
    compiled, captured = trainer.compiled_step()
    images, partners = trainer.images, trainer.neighbours[:, 0]
    weights = step_weights(trainer.config, 0)

    def step(number: int) -> None:
        start = number * batchsize % (len(images) - batchsize + 1)
        rows = np.arange(start, start + batchsize)
        pairs = mx.array(images[partners[rows]]) if trainer.objective.pairs else None
        batch = Batch(mx.array(images[rows]), pairs)
        mx.eval(compiled(batch, weights, mx.array(0.0)), captured)

    return step, backend.describe()


def torch_step(fields: dict, batchsize: int, row: str):
    from mlx_gmvae.config import ModelConfig, TrainConfig
    from mlx_gmvae.models.networks import stage_filters

    import torch
    import torch_networks

    config = ModelConfig(**fields)
    images, partners = random_images(config.image_shape, min(NUM_IMAGES, 8 * batchsize))
    filters = stage_filters(config) if config.arch == "conv" else None
    kind = torch_networks.VAE if config.model == "vae" else torch_networks.GMVAE
    torch.manual_seed(0)
    model = kind(
        shape=config.image_shape, filters=filters, latent_dims=config.latent_dims,
        hidden=config.hidden_dims, arch=config.arch, K=config.K, w_dims=config.w_dims,
        heads=TrainConfig().heads,
    )  # fmt: skip
    mode = next((mode for name, mode in TORCH_MODES.items() if name in row), None)
    step = torch_networks.make_step(model, images, partners, batchsize, "channels" in row, mode)
    return step, f"torch {torch.__version__}, {torch.get_num_threads()} threads"


def torch_is_there() -> bool:
    command = [sys.executable, "-c", "import torch"]
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


def use_plain_formulation() -> None:
    """Replace the fast implementations of this package by the plain formulation."""
    from mlx_gmvae.clustering import augment
    from mlx_gmvae.device import backend, parallel
    from mlx_gmvae.models import distributions, networks
    from mlx_gmvae.models.layers import Dense, DownsampleConv2d, UpsampleConv2d
    from mlx_gmvae.training import step

    import mlx.core as mx
    import mlx.nn as nn

    def strided(self, x):
        return mx.conv2d(x, self.weight, stride=2, padding=1) + self.bias

    def nearest(self, x):
        big = mx.repeat(mx.repeat(x, 2, axis=1), 2, axis=2)
        return mx.conv2d(big, self.weight, padding=1) + self.bias

    def log_prob(self, logits, x):
        return (x * logits - mx.logaddexp(logits, 0)).sum(axis=(-3, -2, -1))

    def take(pixels, index, axis):
        batch, size, channels = pixels.shape
        rows = mx.arange(batch)[:, None, None] * size
        return pixels.reshape(-1, channels)[index + rows]

    threads = backend.cores()
    parallel.cores = lambda: 1
    DownsampleConv2d.__call__, UpsampleConv2d.__call__ = strided, nearest
    Dense.__call__ = nn.Linear.__call__
    networks.leaky_relu = lambda x: nn.leaky_relu(x, 0.01)
    distributions.Bernoulli.log_prob = log_prob
    augment.mx = PlainTake(mx, take)
    step.choose_fusing = lambda: None  # fused, as by default in `mx.compile`
    backend.fast_blas().use_threads(threads)


class PlainTake:
    """mlx.core without `take_along_axis`."""

    def __init__(self, module, take):
        self.module, self.take_along_axis = module, take

    def __getattr__(self, name):
        return getattr(self.module, name)


def summary(rounds: list[dict], rows: list[str]) -> dict:
    """Return median speeds by the clock and by processor time, and ours / row, for each row."""
    answer: dict[str, dict] = {row: {} for row in rows}
    for measure_of, name in [("images_per_second", "clock"), ("images_per_cpu_second", "cpu")]:
        for row in rows:
            ratios = [each["ours"][measure_of] / each[row][measure_of] for each in rounds]
            answer[row][measure_of] = round(
                statistics.median(e[row][measure_of] for e in rounds), 1
            )
            answer[row][f"ours_over_row_{name}"] = round(statistics.median(ratios), 2)
            answer[row][f"range_{name}"] = [round(min(ratios), 2), round(max(ratios), 2)]
    for row in rows:
        answer[row] |= {"device": rounds[0][row]["device"], "rounds": len(rounds)}
    return answer


def print_table(workload: str, result: dict) -> None:
    print(f"\n{workload:<32}{'images/s':>10}{'ours/row':>10}{'images/cpu s':>14}{'ours/row':>10}")
    for row, values in result.items():
        clock, cpu = values["images_per_second"], values["images_per_cpu_second"]
        print(
            f"{row:<32}{clock:>10.0f}{values['ours_over_row_clock']:>10.2f}"
            f"{cpu:>14.0f}{values['ours_over_row_cpu']:>10.2f}",
            flush=True,
        )


def keep(results: dict, args: argparse.Namespace) -> None:
    threads = f"_{args.threads}_threads" if args.threads else ""
    path = ROOT / "benchmarks" / "results" / f"throughput{threads}.json"
    path.parent.mkdir(exist_ok=True)
    option = f" --threads {args.threads}" if args.threads else ""
    content = {"command": "python benchmarks/throughput.py" + option}
    content["load_average_at_the_end"] = [round(load, 1) for load in os.getloadavg()]
    kept = json.loads(path.read_text())["results"] if path.exists() else {}
    for workload, result in results.items():
        if args.rows and workload in kept:  # keep the other rows, with the "ours" of their own run
            del result["rows"]["ours"]
            result["rows"] = kept[workload]["rows"] | result["rows"]
        kept[workload] = result
    record.write(path, content | {"results": kept}, results)


if __name__ == "__main__":
    main()
