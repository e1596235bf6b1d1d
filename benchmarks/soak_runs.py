"""What befalls runs, many times over: kills at random moments, leaks, memory against what was said.

    OPENBLAS_NUM_THREADS=1 python benchmarks/soak.py kills --count 200

Every part answers rows of {"fault", "tried", "survived", "failures", "seconds"}.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlx_gmvae.device.files import PREFIX  # noqa: E402
from mlx_gmvae.runs.checkpoint import load_arrays, load_model  # noqa: E402

import numpy as np  # noqa: E402

Row = dict[str, Any]
MOST_FAILURES = 10  # shown
SECONDS = 300  # that a tiny run may take at most
SHAPES = [
    (28, 28, 1), (28, 28, 3), (64, 64, 1), (64, 64, 3),
    (128, 128, 3), (200, 300, 3), (256, 256, 1), (512, 512, 3),
]  # fmt: skip

# ---------------------------------------------------------------------------------------- kills

# Saves far more often than a run does, so that kills meet them.
CHILD = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from mlx_gmvae.cli import train
train.SECONDS_BETWEEN_SAVES = 0.05
sys.exit(train.main(sys.argv[1:]))
"""
TINY = "--cpu --arch mlp --hidden_dims 16 --latent_dims 2"
RUNS = {
    "training": f"{TINY} --dataset digits --K 3 --epochs 3 --save_every 1",
    "several seeds": f"{TINY} --dataset digits --K 3 --epochs 2 --save_every 1 --seeds 2",
    "mutual learning": f"{TINY} --dataset digits --K 3 --epochs 4 --model vae-gmm "
    "--mutual_iterations 1 --save_every 1",
    "early stopping": f"{TINY} --dataset digits --model vae --epochs 6 --early_stopping 5 "
    "--save_every 1",
    "photographs": f"{TINY} --dataset PHOTOS --K 3 --epochs 3 --image_size 12 12 --save_every 1",
    "two processes": f"{TINY} --dataset digits --K 3 --epochs 3 --save_every 1 --batchsize 256",
}
TWO = "two processes"


class Trial:
    """A run in a folder: started, killed, resumed, and compared with `whole`, which was not."""

    def __init__(self, name: str, place: Path):
        self.num = 2 if name == TWO else 1
        self.place = place
        self.options = RUNS[name].replace("PHOTOS", str(place / "photos")).split()
        self.options += ["--data_dir", str(place / "kept")]
        if "PHOTOS" in RUNS[name]:
            write_photos(place / "photos")
        place.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        self.whole = place / "whole"
        self.finish(self.whole)
        self.life = time.monotonic() - started
        shutil.rmtree(place / "kept", ignore_errors=True)

    def command(self, folder: Path) -> list[str]:
        """What a person would type: to go on, or where there is nothing to go on with, anew."""
        if (folder / "state.npz").exists() or (folder / "seeds.json").exists():
            return ["--cpu", "--resume", str(folder), "--data_dir", str(self.place / "kept")]
        return [*self.options, "--outdir", str(folder)]

    @contextmanager
    def running(
        self, folder: Path, largest_file: int | None = None
    ) -> Iterator[list[subprocess.Popen[str]]]:
        def limit() -> None:
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        if self.num > 1:
            hosts = self.place / "hosts.json"
            hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_ports(self.num)]))
            environment |= {"MLX_HOSTFILE": str(hosts)}
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", CHILD, *self.command(folder)], cwd=ROOT, text=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=limit,
                env=environment | ({"MLX_RANK": str(rank)} if self.num > 1 else {}),
            )
            for rank in range(self.num)
        ]  # fmt: skip
        try:
            yield processes
        finally:
            for process in processes:
                process.kill()
                process.communicate()

    def finish(self, folder: Path) -> None:
        with self.running(folder) as processes:
            for process in processes:
                _, errors = process.communicate(timeout=SECONDS)
                # A kill may have come when all was done but to end.
                if process.returncode and "is finished after" not in errors:
                    raise AssertionError(f"status {process.returncode}: {errors.strip()[-300:]}")

    def run_short_of(self, folder: Path, room: int, is_small: bool) -> None:
        """Run with so many bytes free, or in a file; it must end well, or in one line."""
        ballast = self.place / "ballast"
        if is_small:
            spare = shutil.disk_usage(self.place).free - room
            ballast.write_bytes(bytes(max(0, spare)))
        with self.running(folder, None if is_small else room) as (process,):
            _, errors = process.communicate(timeout=SECONDS)
        ballast.unlink(missing_ok=True)
        one_line = process.returncode == 2 and errors.count("\n") == 1
        assert process.returncode == 0 or one_line, f"status {process.returncode}: {errors[-300:]}"
        self.require_readable(folder)

    def require_readable(self, folder: Path) -> None:
        """Raise InputError if a file under its own name is damaged."""
        for path in folder.rglob("*.npz"):
            if not path.name.startswith(PREFIX):
                load_arrays(path)
        for name in ("model.npz", "best.npz"):
            if (folder / name).exists():
                load_model(folder / name)

    def kill(self, folder: Path, seconds: float) -> bool:
        """Whether it was killed after `seconds`, rather than finished before."""
        with self.running(folder) as processes:
            time.sleep(seconds)
            was_running = processes[0].poll() is None
            for process in processes:
                process.send_signal(signal.SIGKILL)
        self.require_readable(folder)
        return was_running

    def compare(self, folder: Path) -> None:
        """Raise AssertionError unless `folder` is as if nothing had happened."""
        names = [path.relative_to(self.whole) for path in self.whole.rglob("*")]
        missing = [name for name in names if not (folder / name).exists()]
        hidden = [path for place in (folder, self.place / "kept") for path in place.rglob(".*")]
        assert not missing and not hidden, f"missing {missing}, left {hidden}"
        for name in names:
            if name.suffix == ".npz" and name.name != "state.npz":
                ours, theirs = load_arrays(folder / name), load_arrays(self.whole / name)
                assert ours.keys() == theirs.keys(), f"{name} has other arrays"
                for key, value in ours.items():
                    assert np.array_equal(value, theirs[key]), f"{name}: {key} differs"
        ours, theirs = (
            json.loads((place / "metrics.json").read_text()) for place in (folder, self.whole)
        )
        for name in ("generative", "clustering", "pairs"):
            assert ours.get(name) == theirs.get(name), f"{name} of metrics.json differ"


def write_photos(folder: Path) -> None:
    """Two hundred small pictures of two kinds."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(200):
        pixels = rng.integers(0, 128, (40, 50, 3), dtype=np.uint8)
        pixels[:, : 25 * (number % 2)] += 100
        Image.fromarray(pixels).save(folder / f"{number}.jpg")


def free_ports(num: int) -> list[int]:
    sockets = [socket.socket() for _ in range(num)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def kills(args: argparse.Namespace) -> list[Row]:
    """Kill tiny runs at moments drawn over their whole life, resume them, and kill those again."""
    rows = []
    with tempfile.TemporaryDirectory(dir=args.workdir) as work:
        for number, name in enumerate(RUNS):
            rng = random.Random(f"{args.seed} {name}")
            count = len(range(number, args.count, len(RUNS)))
            if not count or args.only not in (None, name):
                continue
            started, failures, tried, survived = time.monotonic(), [], 0, 0
            place = Path(work) / name.replace(" ", "_")
            trial = Trial(name, place)
            while tried < count:
                folder, moments = place / f"run {tried}", []
                try:
                    while True:
                        moments.append(round(rng.uniform(0, trial.life), 2))
                        was_running = trial.kill(folder, moments[-1])
                        if not was_running or tried + len(moments) >= count or rng.random() < 0.5:
                            break
                    if was_running or not (folder / "metrics.json").exists():
                        trial.finish(folder)
                    trial.compare(folder)
                    survived += len(moments)
                except Exception as error:
                    failures.append(f"{name}, killed after {moments} s: {error}")
                tried += len(moments)
                shutil.rmtree(folder, ignore_errors=True)
                shutil.rmtree(place / "kept", ignore_errors=True)
            rows.append(row(f"killed: {name}", tried, survived, failures, started))
    return rows


# ---------------------------------------------------------------------------------------- disk


def disk(args: argparse.Namespace) -> list[Row]:
    """Runs on a disk that becomes full anywhere: a small one, or without the right to mount one
    a limit to the size of files. Afterwards there is room, and they are resumed."""
    rng = random.Random(args.seed)
    rows = []
    with tempfile.TemporaryDirectory(dir=args.workdir) as work, small_disk(Path(work)) as is_small:
        kind = "full disk" if is_small else "largest file"
        for name in ("training", "several seeds", "photographs"):
            trial = Trial(name, Path(work) / name.replace(" ", "_"))
            started, failures, num = time.monotonic(), [], max(2, args.count // 10)
            for number in range(num):
                folder = trial.place / f"run {number}"
                files = [path.stat().st_size for path in trial.whole.rglob("*") if path.is_file()]
                room = rng.randrange(sum(files) if is_small else max(files))
                try:
                    trial.run_short_of(folder, room, is_small)
                    if not (folder / "metrics.json").exists():
                        trial.finish(folder)
                    trial.compare(folder)
                except Exception as error:
                    failures.append(f"{name}, {room} bytes: {error}")
                shutil.rmtree(folder, ignore_errors=True)
                shutil.rmtree(trial.place / "kept", ignore_errors=True)
            rows.append(row(f"{kind}: {name}", num, num - len(failures), failures, started))
            shutil.rmtree(trial.place)
    return rows


@contextmanager
def small_disk(place: Path) -> Iterator[bool]:
    """Within, `place` is a disk of a few megabytes; whether it could be mounted."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except OSError:
        yield False
        return
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", str(place)], check=True)


def row(fault: str, tried: int, survived: int, failures: list[str], started: float) -> Row:
    seconds = round(time.monotonic() - started, 1)
    print(f"{fault}: {survived} of {tried}, {seconds} s", *failures[:MOST_FAILURES], sep="\n  ")
    return {
        "fault": fault, "tried": tried, "survived": survived,
        "failures": failures[:MOST_FAILURES], "seconds": seconds,
    }  # fmt: skip


# --------------------------------------------------------------------------------------- leaks


def leaks(args: argparse.Namespace) -> list[Row]:
    """Memory, descriptors and threads over 20,000 steps and 500 evaluations; fewer if count is."""
    from mlx_gmvae.config import ModelConfig, TrainConfig
    from mlx_gmvae.data.datasets import load_dataset
    from mlx_gmvae.data.source import Source
    from mlx_gmvae.device import backend
    from mlx_gmvae.evaluation.scores import generative_scores, latents, responsibilities
    from mlx_gmvae.models import build_model
    from mlx_gmvae.runs.folder import RunFolder
    from mlx_gmvae.training.trainer import Trainer

    backend.keep_freed_memory()  # as train.py does
    backend.select_device(cpu=True)
    splits = load_dataset("digits")
    config = ModelConfig(arch="mlp", image_size=(8, 8), latent_dims=2, K=10, hidden_dims=32)
    steps, evaluations = 100 * args.count, max(20, 5 * args.count // 2)
    model = build_model(config)
    trainer = Trainer(model, splits.train.images, TrainConfig(epochs=10**6, batchsize=64))
    with tempfile.TemporaryDirectory(dir=args.workdir) as work:
        folder = RunFolder(Path(work))

        def train() -> Iterator[None]:
            epochs = trainer.run()
            while True:
                next(epochs)
                if trainer.epoch % 10 == 0:
                    folder.save(trainer, Source("digits"), {})
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
    """Do `num` pieces of work; after a tenth of them, nothing may grow any more."""
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
    """Resident megabytes, open descriptors and threads of this process, now."""
    words = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, check=True
    ).stdout
    tasks = Path("/proc/self/task")
    threads = len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()
    descriptors = len(os.listdir("/dev/fd"))
    return {"megabytes": int(words) / 1024, "descriptors": descriptors, "threads": threads}


# -------------------------------------------------------------------------------------- memory

# Prints the bytes that train.py would announce for a step, and the peak of two steps.
STEPS = f"""
import dataclasses
import sys
sys.path.insert(0, {str(ROOT)!r})
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.clustering.choices import fitted_model
from mlx_gmvae.data.splits import Dataset
from mlx_gmvae.models import build_model
from mlx_gmvae.training import memory
from mlx_gmvae.training.defaults import for_model, for_set_size
from mlx_gmvae.training.trainer import Trainer
import mlx.core as mx
import numpy as np
mx.set_default_device(mx.cpu)
model, share, *shape = sys.argv[1:]
height, width, channels = map(int, shape)
config = ModelConfig(model=model, image_size=(height, width), channels=channels)
config = fitted_model(config)
# As a set of a hundred thousand of them would be trained.
many = np.broadcast_to(np.uint8(0), (100_000, height, width, channels))
chosen = for_set_size(TrainConfig(), Dataset("", many, None, np.arange(1)), set())
batchsize = max(4, int(float(share) * chosen.batchsize))
training = for_model(dataclasses.replace(chosen, batchsize=batchsize), config, set())
num = 2 * training.batchsize
images = np.random.default_rng(0).integers(0, 256, (num, height, width, channels), dtype=np.uint8)
graph = np.arange(1, num + 1)[:, None] % num
trainer = Trainer(build_model(config), images, training, graph.astype(np.int32))
parameters = sum(value.size for value in trainer.model.arrays().values())
announced = memory.step_bytes(config, trainer.config, trainer.batchsize, parameters)
mx.eval(trainer.trained.parameters(), trainer.optimizer.state)
steps = []
mx.reset_peak_memory()
list(trainer.run(lambda: len(steps) == 2, lambda: steps.append(1)))
print(announced, mx.get_peak_memory(), trainer.batchsize)
"""


def memory(args: argparse.Namespace) -> list[Row]:
    """The peak of a training step within 30 % of what is announced, from 28x28 to 512x512.

    Of the batch that a large set would be trained by; of a share of it if count is below 200.
    """
    rows, share = [], min(1.0, args.count / 200)
    for model in ("vae", "gmvae"):
        started, failures, figures = time.monotonic(), [], []
        for shape in SHAPES:
            command = [sys.executable, "-c", STEPS, model, str(share), *map(str, shape)]
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
        survived = len(SHAPES) - len(failures)
        rows.append(row(f"memory of {model}", len(SHAPES), survived, failures, started))
    return rows


# --------------------------------------------------------------------------------------- twice


def twice(args: argparse.Namespace) -> list[Row]:
    """Every model and network, trained twice with one seed: the same weights, bit for bit."""
    from mlx_gmvae.config import ModelConfig, TrainConfig
    from mlx_gmvae.models import build_model
    from mlx_gmvae.training.defaults import for_model
    from mlx_gmvae.training.trainer import Trainer

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
            trainer = Trainer(build_model(config), images, training)
            list(trainer.run())
            results.append({k: np.array(value) for k, value in trainer.model.arrays().items()})
        first, second = results
        if not all(np.array_equal(value, second[name]) for name, value in first.items()):
            failures.append(f"{kind} differs")
    num = len(kinds)
    return [row("the same seed twice", num, num - len(failures), failures, started)]


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "kills": kills,
    "disk": disk,
    "leaks": leaks,
    "memory": memory,
    "twice": twice,
}
