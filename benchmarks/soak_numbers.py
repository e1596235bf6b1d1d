"""NaN and infinity, odd image sets, and runs that diverge (`soak.py numbers`)."""

import argparse
import contextlib
import io
import re
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cluster
import generate
import mlx_gmvae as mg
import reconstruct
import train
from mlx_gmvae.clustering.features import load_features
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.data.splits import hold_out, make_dataset
from mlx_gmvae.models import build_model
from mlx_gmvae.runs.checked_model import Model
from mlx_gmvae.runs.checkpoint import load_arrays
from mlx_gmvae.training.api import train as train_model

import mlx.core as mx
import numpy as np

SMALL = "--cpu --arch mlp --hidden_dims 16 --latent_dims 2"
BAD_ROW = 3
BAD = (np.nan, np.inf, -np.inf)
MODEL = {"arch": "mlp", "image_size": (8, 8), "hidden_dims": 8, "K": 3}


def spoilt(images: np.ndarray, value: float, dtype: str = "f4") -> np.ndarray:
    """Return floats in [0, 1] in which the fourth image and a later one have a bad pixel."""
    floats = (images / 255).astype(dtype)
    floats[BAD_ROW, ..., 0] = floats[-1, ..., 0] = value
    return floats


def saved(folder: Path, name: str, **arrays: np.ndarray) -> Path:
    save = np.savez if name.endswith("z") else lambda path, images: np.save(path, images)
    save(folder / name, **arrays)
    return folder / name


def read_features(path: Path, images: np.ndarray) -> np.ndarray:
    found = load_features(str(path), hold_out(make_dataset("x", images))).named("all").features
    assert found is not None
    return found


def takers(images: np.ndarray, folder: Path) -> dict[str, Callable[[np.ndarray], Any]]:
    """Return every function that takes numbers from outside, for arrays with a bad row."""
    config = TrainConfig(epochs=1, batchsize=8)
    return {
        ".npy images": lambda x: load_dataset(str(saved(folder, "a.npy", images=x))),
        ".npz images": lambda x: load_dataset(str(saved(folder, "a.npz", images=x))),
        ".npz test images": lambda x: load_dataset(
            str(saved(folder, "t.npz", images=images, test_images=x))
        ),
        "features": lambda x: read_features(
            saved(folder, "f.npz", features=x.reshape(len(x), -1)), images
        ),
        "mg.train": lambda x: train_model(
            build_model(ModelConfig(**MODEL)), x, config, verbose=False
        ),
        "the estimator, images": lambda x: mg.GMVAEClusterer(3, max_iter=1).fit(x),
        "the estimator, a table": lambda x: mg.GMVAEClusterer(3, max_iter=1).fit(
            x.reshape(len(x), -1)
        ),
        "a loaded model": lambda x: Model(build_model(ModelConfig(**MODEL))).encode(x),
    }


def not_finite(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Yield (what, problem) for every taker and every value that is not finite."""
    images = np.asarray(load_dataset("digits").test.images[:60])
    for name, take in takers(images, Path(args.workdir)).items():
        for value in BAD:
            problem = "was taken"
            try:
                take(spoilt(images, value, "f8" if "table" in name else "f4"))
            except ValueError as error:
                is_named = str(BAD_ROW) in str(error) or "table" in name
                problem = "" if is_named else f"does not name the first: {error}"
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            yield f"{value} in {name}", problem


def outcome(main: Callable[[list[str]], int], options: str) -> tuple[int, str]:
    """Return the status of a script and its stderr; -1 and the reason after an exception."""
    error = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(error),
    ):
        warnings.simplefilter("error")
        try:
            return main(options.split()), error.getvalue().strip()
        except BaseException as raised:
            return -1, f"{type(raised).__name__}: {str(raised)[:200]}"


def problem_of(status: int, line: str) -> str:
    """Return an empty text if a script worked, or refused in one line below its notes."""
    *notes, last = line.splitlines() or [""]
    if status == 0 or (status == 2 and last and all(" images" in note for note in notes)):
        return ""
    return f"status {status}: {line[-300:]}"


DIVERGING = {
    "pairs": "--K 3",
    "no pairs": "--K 3 --pair_weight 0",
    "a plain VAE": "--model vae",
    "VaDE": "--model vade --K 3 --pretrain_epochs 2",
    "mutual learning": "--model vae-gmm --K 3 --mutual_iterations 1",
    "early stopping": "--K 3 --early_stopping 2",
    "a Gaussian likelihood": "--K 3 --likelihood gaussian",
    "--K auto": "--K auto",
}
STOPPED = re.compile(
    r"\w+ became (nan|-?inf|NaN or infinite) in epoch \d+, step \d+ of \d+; lower --lr"
    "|the search for a number of clusters diverged; lower --lr"
)


def diverging(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Train at rates far too high: a line must name the term, and the run be resumable."""
    for name, options in DIVERGING.items():
        for number, rate in enumerate(("1e3", "1e15", "1e30")):
            run = Path(args.workdir) / f"diverging {name} {number}".replace(" ", "_")
            options_now = f"{SMALL} --dataset digits --epochs 4 --lr {rate} {options}"
            status, line = outcome(train.main, f"{options_now} --outdir {run}")
            problem = problem_of(status, line)
            if not problem and status == 2 and not STOPPED.search(line):
                problem = f"does not say which term: {line}"
            for file in run.glob("*.npz"):
                arrays = load_arrays(file).values()
                floats = [array for array in arrays if array.dtype == mx.float32]
                if not all(mx.isfinite(array).all() for array in floats):
                    problem = problem or f"{file.name} is not finite"
            yield f"{name}, --lr {rate}", problem


def odd_sets() -> dict[str, tuple[np.ndarray, str]]:
    """Return odd image sets and the options for them."""
    digits = np.asarray(load_dataset("digits").train.images)
    rng = np.random.default_rng(0)
    return {
        "one image": (digits[:1], "--K 3"),
        "two images": (digits[:2], "--K 3"),
        "three images": (digits[:3], "--K 2"),
        "five images, one alike": (digits[[0, 0, 0, 0, 1]], "--K 2"),
        "fewer images than K": (digits[:12], "--K 40"),
        "fewer images than a batch": (digits[:40], "--K 3 --batchsize 4096"),
        "batches of one": (digits[:9], "--K 3 --batchsize 1"),
        "K = 1": (digits[:100], "--K 1"),
        "K = 200": (digits[:300], "--K 200"),
        "70,000 components": (digits[:100], "--K 70000"),
        "all alike": (np.repeat(digits[:1], 60, axis=0), "--K 3"),
        "two kinds of copies": (np.repeat(digits[:2], 40, axis=0), "--K 5"),
        "all black": (np.zeros((60, 8, 8, 1), np.uint8), "--K 3"),
        "all white": (np.full((60, 8, 8, 1), 255, np.uint8), "--K 3"),
        "each constant": (np.arange(60, dtype=np.uint8).repeat(64).reshape(-1, 8, 8, 1), "--K 3"),
        "1 x 1": (rng.integers(0, 256, (60, 1, 1, 1), np.uint8), "--K 3"),
        "1 x 2000": (rng.integers(0, 256, (60, 1, 2000, 1), np.uint8), "--K 3"),
        "2000 x 1, colour": (rng.integers(0, 256, (60, 2000, 1, 3), np.uint8), "--K 3"),
        "K found, all alike": (np.repeat(digits[:1], 120, axis=0), "--K auto"),
    }


MODELS = {
    "dense": SMALL,
    "convolutions": "--cpu --latent_dims 2 --max_filters 8",
    "vade": f"{SMALL} --model vade --pretrain_epochs 1",
    "vae-gmm": f"{SMALL} --model vae-gmm --mutual_iterations 1",
}


def odd(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Train on each odd set with each model, then cluster, reconstruct and generate."""
    for name, (images, own) in odd_sets().items():
        for model, options in MODELS.items():
            place = Path(args.workdir) / f"{name} {model}".replace(" ", "_").replace(",", "")
            place.mkdir()
            np.save(place / "a.npy", images)
            run = place / "run"
            command = f"--dataset {place}/a.npy {options} {own} --epochs 2 --outdir {run}"
            status, line = outcome(train.main, command)
            problem = problem_of(status, line)
            if status == 0:
                source = f"--model {run}/model.npz --cpu"
                more = [
                    (cluster.main, f"{source} --split all --explorer --outdir {place}/c"),
                    (reconstruct.main, f"{source} --split all --outdir {place}/r"),
                    (generate.main, f"{source} --outfile {place}/s.png"),
                ]
                for main, arguments in more:
                    problem = problem or problem_of(*outcome(main, arguments))
            yield f"{name}, {model}", problem


TITLES = {
    "NaN and infinity in images, features and tables": not_finite,
    "rates at which training diverges": diverging,
    "odd sets, trained on and looked at": odd,
}


def numbers(args: argparse.Namespace) -> list[dict]:
    rows = []
    for title, tries in TITLES.items():
        started, tried, failures = time.monotonic(), 0, []
        for what, problem in tries(args):
            tried += 1
            if problem:
                failures.append(f"{what}: {problem}")
                print(failures[-1], flush=True)
        rows.append({
            "fault": title, "tried": tried, "survived": tried - len(failures),
            "failures": failures[:10], "seconds": round(time.monotonic() - started, 1),
        })  # fmt: skip
        print(f"{title}: {tried} tried, {len(failures)} failed", flush=True)
    return rows


PARTS = {"numbers": numbers}
