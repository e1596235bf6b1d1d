"""Long runs: leaks, memory against the announced figure, the same seed twice.

Every part returns rows of {"fault", "tried", "survived", "failures", "seconds"}.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

Row = dict[str, Any]
MOST_FAILURES = 10  # failures that are printed
SHAPES = [
    (28, 28, 1), (28, 28, 3), (64, 64, 1), (64, 64, 3),
    (128, 128, 3), (200, 300, 3), (256, 256, 1), (512, 512, 3),
]  # fmt: skip


def row(fault: str, tried: int, survived: int, failures: list[str], started: float) -> Row:
    seconds = round(time.monotonic() - started, 1)
    print(f"{fault}: {survived} of {tried}, {seconds} s", *failures[:MOST_FAILURES], sep="\n  ")
    return {
        "fault": fault, "tried": tried, "survived": survived,
        "failures": failures[:MOST_FAILURES], "seconds": seconds,
    }  # fmt: skip


def leaks(args: argparse.Namespace) -> list[Row]:
    """Check memory, descriptors and threads over 20,000 steps and 500 evaluations, or fewer."""
    from mlx_gmvae.config import ModelConfig, TrainConfig
    from mlx_gmvae.data.dataset_spec import DatasetSpec
    from mlx_gmvae.data.datasets import load_dataset
    from mlx_gmvae.device import backend
    from mlx_gmvae.evaluation.scores import generative_scores, latents, responsibilities
    from mlx_gmvae.models import build_model
    from mlx_gmvae.runs.run_folder import RunFolder
    from mlx_gmvae.training.api import new_trainer

    backend.keep_freed_memory()  # as train.py does
    backend.select_device(cpu=True)
    splits = load_dataset("digits")
    config = ModelConfig(arch="mlp", image_size=(8, 8), latent_dims=2, K=10, hidden_dims=32)
    steps, evaluations = 100 * args.count, max(20, 5 * args.count // 2)
    model = build_model(config)
    trainer = new_trainer(model, splits.train.images, TrainConfig(epochs=10**6, batchsize=64))
    with tempfile.TemporaryDirectory(dir=args.workdir) as work:
        folder = RunFolder(Path(work))

        def train() -> Iterator[None]:
            epochs = trainer.run()
            while True:
                next(epochs)
                if trainer.epoch % 10 == 0:
                    folder.save(trainer, DatasetSpec("digits"), {})
                yield from [None] * trainer.steps_per_epoch

        def evaluate() -> Iterator[None]:
            model.eval()
            while True:
                latents(model, splits.test.images)
                responsibilities(model, splits.test.images)
                yield generative_scores(model, splits.test.images[:50])  # type: ignore[misc]

        return [
            watched(f"{steps:,} steps", train(), steps),
            watched(f"{evaluations:,} evaluations", evaluate(), evaluations),
        ]


def watched(what: str, work: Iterator[None], num: int) -> Row:
    """Call `work` `num` times; after a tenth of them, nothing may grow any more."""
    started = time.monotonic()
    for _ in range(num // 10):
        next(work)
    before = in_use()
    for _ in range(num - num // 10):
        next(work)
    after = in_use()
    figures = ", ".join(
        f"{name} {value:.0f} -> {after[name]:.0f}" for name, value in before.items()
    )
    allowed = {"megabytes": max(8.0, 0.03 * before["megabytes"]), "descriptors": 0, "threads": 0}
    failures = [name for name in before if after[name] - before[name] > allowed[name]]
    return row(f"leaks over {what} ({figures})", num, 0 if failures else num, failures, started)


def in_use() -> dict[str, float]:
    """Return the resident megabytes, open descriptors and threads of this process."""
    words = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, check=True
    ).stdout
    tasks = Path("/proc/self/task")
    threads = len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()
    descriptors = len(os.listdir("/dev/fd"))
    return {"megabytes": int(words) / 1024, "descriptors": descriptors, "threads": threads}


# -------------------------------------------------------------------------------------- memory

# Prints the bytes that train.py would announce for a step, and the peak of two steps.
MODELS: dict[str, tuple[dict[str, str], list[tuple[int, int, int]]]] = {  # and images of each
    "vae": ({"model": "vae"}, SHAPES),
    "gmvae": ({}, SHAPES),
    "vae, mlp": ({"model": "vae", "arch": "mlp"}, SHAPES[:4]),
    "gmvae, mlp": ({"arch": "mlp"}, SHAPES[:4]),
    "gmvae, bayes": ({"posterior": "bayes"}, SHAPES[:4]),
    "vade": ({"model": "vade"}, SHAPES[:4]),
    "vade, mlp": ({"model": "vade", "arch": "mlp"}, SHAPES[:4]),
    "vae-gmm, mlp": ({"model": "vae-gmm", "arch": "mlp"}, SHAPES[:4]),
}
STEPS = f"""
import dataclasses
import json
import sys
sys.path.insert(0, {str(ROOT)!r})
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.data.splits import Dataset
from mlx_gmvae.models import build_model
from mlx_gmvae.training import memory
from mlx_gmvae.training.defaults import for_model, for_set_size
from mlx_gmvae.training.api import new_trainer
from mlx_gmvae.training.resolve import Options, resolve_model
import mlx.core as mx
import numpy as np  # noqa: E402
mx.set_default_device(mx.cpu)
fields, share, *shape = sys.argv[1:]
height, width, channels = map(int, shape)
config, _ = resolve_model(Options(json.loads(fields), {{}}), (height, width, channels))
# As a set of a hundred thousand of them would be trained.
many = np.broadcast_to(np.uint8(0), (100_000, height, width, channels))
chosen = for_set_size(TrainConfig(), Dataset("", many, None, np.arange(1)), set())[0]
batchsize = max(4, int(float(share) * chosen.batchsize))
training = for_model(dataclasses.replace(chosen, batchsize=batchsize), config, set())
num = 2 * training.batchsize
images = np.random.default_rng(0).integers(0, 256, (num, height, width, channels), dtype=np.uint8)
graph = np.arange(1, num + 1)[:, None] % num
trainer = new_trainer(build_model(config), images, training, graph.astype(np.int32))
parameters = sum(value.size for value in trainer.model.arrays().values())
announced = memory.step_bytes(config, trainer.config, trainer.batchsize, parameters)
mx.eval(trainer.trained.parameters(), trainer.optimizer.state)
steps = []
mx.reset_peak_memory()
list(trainer.run(lambda: len(steps) == 2, lambda: steps.append(1)))
print(announced, mx.get_peak_memory(), trainer.batchsize)
"""


def memory(args: argparse.Namespace) -> list[Row]:
    """Check that the peak of a step is within 30 % of the announced one, 28x28 to 512x512.

    The batch is that of a large set, or a share of it if count is below 200.
    """
    rows, share = [], min(1.0, args.count / 200)
    for model, (fields, shapes) in MODELS.items():
        if args.only not in (None, model):
            continue
        started, failures, figures = time.monotonic(), [], []
        for shape in shapes:
            words = [json.dumps(fields), str(share), *map(str, shape)]
            command = [sys.executable, "-c", STEPS, *words]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                failures.append(f"{shape}: {done.stderr.strip()[-300:]}")
                continue
            announced, peak, batch = map(int, done.stdout.split())
            figure = f"{model} {shape}, batch {batch}: {announced / 1e6:.0f} MB announced, "
            figures.append(f"{figure}{peak / 1e6:.0f} MB used ({peak / announced - 1:+.0%})")
            print(figures[-1], flush=True)
            if not 0.7 < peak / announced < 1.3:
                failures.append(figures[-1])
        survived = len(shapes) - len(failures)
        rows.append(row(f"memory of {model}", len(shapes), survived, failures, started))
    return rows


# --------------------------------------------------------------------------------------- twice


def twice(args: argparse.Namespace) -> list[Row]:
    """Train every model and network twice with one seed; weights must be equal bit for bit."""
    from mlx_gmvae.config import ModelConfig, TrainConfig
    from mlx_gmvae.models import build_model
    from mlx_gmvae.training.api import new_trainer
    from mlx_gmvae.training.defaults import for_model

    import mlx.core as mx

    mx.set_default_device(mx.cpu)
    images = np.random.default_rng(args.seed).integers(0, 256, (64, 9, 6, 3), dtype=np.uint8)
    kinds = [{"model": name, "arch": arch} for name in ("vae", "gmvae", "vade", "vae-gmm")
             for arch in ("conv", "mlp")]  # fmt: skip
    kinds += [{"model": "gmvae", "arch": arch, "posterior": "bayes"} for arch in ("conv", "mlp")]
    kinds += [{"model": "gmvae", "arch": "conv", "classifier": "patches"}]
    started, failures = time.monotonic(), []
    for kind in kinds:
        sizes: dict[str, Any] = {"image_size": (9, 6), "channels": 3, "latent_dims": 2, "K": 3}
        config = ModelConfig(**kind, **sizes, hidden_dims=16, max_filters=8)
        training = for_model(TrainConfig(epochs=2, batchsize=16), config, set())
        results = []
        for _ in range(2):
            mx.random.seed(training.seed)
            trainer = new_trainer(build_model(config), images, training)
            list(trainer.run())
            results.append({k: np.array(value) for k, value in trainer.model.arrays().items()})
        first, second = results
        if not all(np.array_equal(value, second[name]) for name, value in first.items()):
            failures.append(f"{kind} differs")
    num = len(kinds)
    return [row("the same seed twice", num, num - len(failures), failures, started)]


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "leaks": leaks,
    "memory": memory,
    "twice": twice,
}
