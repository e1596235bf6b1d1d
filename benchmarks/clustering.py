"""Clustering accuracy: fixed seeds, none dropped, last epoch, labels for evaluation only.

    python benchmarks/clustering.py --data_dir DIR

Every run is a `python train.py` of its own, with the defaults apart from the options shown, on the
training split without labels. Scores are on the test split. Runs are kept in
benchmarks/results/clustering.json as they finish. A run that is there already is not repeated, so
the command can be stopped and started again. `--only NAME ...` chooses experiments, `--jobs 2`
trains two runs at a time with one BLAS thread each, `--table` prints the results and runs nothing.
`--confirm` repeats one seed of each chosen experiment that an earlier version measured; if all its
figures are equal, the other seeds count as measured with this version too.

DIR holds mnist/ and, anywhere below it, the files of the chosen experiments: frey_rawface.mat,
letters.npz, a zip of class folders of photographs (*jpg*.zip), and efficientnet-lite0.npz, which
`encoder_features.py` makes of the photographs. In options, SEED is replaced by the run's seed, for
sets with a new draw of images for each seed.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlx_gmvae import __version__  # noqa: E402

import baselines  # noqa: E402
import page_tables  # noqa: E402
import record  # noqa: E402
import sets  # noqa: E402
from purity import sample_purity  # noqa: E402

KEPT = ROOT / "benchmarks" / "results" / "clustering.json"
MNIST = "--dataset mnist --latent_dims 8"
DIGITS = "--dataset digits --latent_dims 8"
LONG_TAIL = "--dataset {long_tail} --latent_dims 8"
LETTERS = "--dataset {letters} --latent_dims 16"
PHOTOS = "--dataset {photos} --latent_dims 32"
FEATURES = "--latent_dims 32 --K 10 --epochs 1 --features"  # q(y|x) is trained first
EXPERIMENTS = {
    "MNIST, K=10": (f"{MNIST} --K 10", range(5)),
    "MNIST long-tailed, K=10": (f"{LONG_TAIL} --K 10", range(3)),
    "MNIST 300": ("--dataset {mnist_300_28_SEED} --latent_dims 8 --K 10", range(5)),
    "MNIST 1,000": ("--dataset {mnist_1000_28_SEED} --latent_dims 8 --K 10", range(3)),
    "MNIST 2,000": ("--dataset {mnist_2000_28_SEED} --latent_dims 8 --K 10", range(5)),
    "MNIST 2,000, 16x16": ("--dataset {mnist_2000_16_SEED} --latent_dims 8 --K 10", range(5)),
    "digits, K=10": (f"{DIGITS} --K 10", range(10)),
    "digits 300": ("--dataset {digits_300} --latent_dims 8 --K 10", range(5)),
    "letters, K=10": (f"{LETTERS} --K 10", range(5)),
    "letters in their frame": ("--dataset {letters_framed} --latent_dims 16 --K 10", range(5)),
    "letters 10:1": ("--dataset {letters_unequal} --latent_dims 16 --K 10", range(3)),
    "photos, K=10": (f"{PHOTOS} --K 10", range(2)),
    "photos, K=10, EfficientNet-Lite0": (
        f"--dataset {{photo_folder}} {FEATURES} {{efficientnet}}", range(5),
    ),
    "1,000 photos, K=10, EfficientNet-Lite0": (
        f"--dataset {{photos_1000_SEED}} {FEATURES} {{efficientnet_1000_SEED}}", range(5),
    ),
    # The number of clusters.
    "MNIST 2,000, K auto": ("--dataset {mnist_2000_28_SEED} --latent_dims 8 --K auto", range(3)),
    "MNIST 2,000, 16x16, K auto": (
        "--dataset {mnist_2000_16_SEED} --latent_dims 8 --K auto", range(3),
    ),
    "digits, K auto": (f"{DIGITS} --K auto", range(2)),
    "letters, K auto": (f"{LETTERS} --K auto", range(3)),
    "digits, K=16": (f"{DIGITS} --K 16", range(2)),
    "digits, K=16, free balance": (f"{DIGITS} --K 16 --balance free", range(2)),
    # Ablations.
    "digits, plain ELBO": (f"{DIGITS} --K 10 --pair_weight 0", range(2)),
    "digits, one head": (f"{DIGITS} --K 10 --heads 1", range(2)),
    "digits, uniform": (f"{DIGITS} --K 10 --balance uniform", range(2)),
    "digits, no neighbours": (f"{DIGITS} --K 10 --neighbours 0", range(2)),
    "digits, neighbours by pixels": (f"{DIGITS} --K 10 --descriptor pixels", range(2)),
    "digits, no augmentation": (f"{DIGITS} --K 10 --augment none", range(2)),
    "digits, affine": (f"{DIGITS} --K 10 --augment affine", range(2)),
}  # fmt: skip
BASELINES = {
    "digits": "digits", "letters": "{letters}", "photos": "{photos}",
    "MNIST long-tailed": "{long_tail}", "MNIST": "mnist",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[*EXPERIMENTS, "baselines"])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--workdir", type=Path, default=ROOT / "results" / "clustering")
    parser.add_argument("--table", action="store_true", help="print what is kept, run nothing")
    parser.add_argument(
        "--confirm", action="store_true", help="repeat one seed of earlier versions"
    )
    args = parser.parse_args()
    if args.confirm:
        for name in args.only or EXPERIMENTS:
            confirm(name, args)
    elif not args.table:
        names = args.only or [*EXPERIMENTS, "baselines"]
        runs = [
            (name, seed)
            for name in names
            if name in EXPERIMENTS
            for seed in EXPERIMENTS[name][1]
            if str(seed) not in kept().get(name, {})
        ]
        # Before training, since a missing file ends the program.
        sets.prepare(args.data_dir, args.workdir, "".join(options_of(*run) for run in runs))
        with ThreadPoolExecutor(args.jobs) as pool:
            trained = [pool.submit(run_once, *run, args) for run in runs]
            for (name, seed), run in zip(runs, trained, strict=True):
                score(name, seed, run.result(), args)
        if "baselines" in names:
            keep_baselines(args)
    print(page_tables.clustering())
    print(page_tables.baselines())


LOCK = Lock()


def kept() -> dict:
    with LOCK:  # another thread may be writing a result
        return json.loads(KEPT.read_text()) if KEPT.exists() else {}


def keep(name: str, result: dict, seed: int | None = None) -> None:
    results = kept()
    if seed is None:
        results[name] = result
    else:
        results.setdefault(name, {})[str(seed)] = result
    with LOCK:
        record.write(KEPT, results, [name if seed is None else f"{name}, seed {seed}"])


# Of a kept run: how it was made, times, the words of the verdict, and what is added afterwards.
UNCOMPARED = {
    "command", "version", "jobs", "seconds", "training_seconds", "verdict", "sample_purity",
}  # fmt: skip


def confirm(name: str, args: argparse.Namespace) -> None:
    """Repeat one seed of an earlier version, and stamp all if its figures are equal."""
    prefix = f"{name}, seed "
    old = [s.part for s in record.stale() if s.name == KEPT.stem and s.part.startswith(prefix)]
    if not old:
        return
    seed = int(old[0].removeprefix(prefix))
    before, now = kept()[name][str(seed)], run_once(name, seed, args)
    measured = set(before) - UNCOMPARED
    changed = sorted(key for key in measured if before[key] != now.get(key))
    if changed:
        print(f"{name}, seed {seed}: changed: {', '.join(changed)}", flush=True)
        return
    record.confirm(KEPT.stem, old, f"seed {seed} repeated, all figures equal")
    print(f"{name}, seed {seed}: all figures equal", flush=True)


def run_once(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train one seed of one experiment."""
    options = options_of(name, seed)
    with LOCK:
        options = options.format(**sets.prepare(args.data_dir, args.workdir, options))
    folder = run_folder(name, seed, args)
    command = [*options.split(), "--seed", str(seed)]
    environment = dict(os.environ)
    if args.jobs > 1:
        environment["OPENBLAS_NUM_THREADS"] = "1"
    started = time.perf_counter()
    with open(f"{folder}.log", "w") as log:
        subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *command, "--data_dir", str(args.data_dir),
             "--outdir", str(folder), "--overwrite"],
            stdout=log, stderr=subprocess.STDOUT, env=environment, check=True,
        )  # fmt: skip
    seconds = time.perf_counter() - started
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics.pop("made_with")  # contains paths of this machine
    return {
        "command": f"python train.py {options_of(name, seed)} --seed {seed}",
        "version": __version__,
        "jobs": args.jobs,
        "seconds": round(seconds, 1),
        **metrics,
    }


def options_of(name: str, seed: int) -> str:
    return EXPERIMENTS[name][0].replace("SEED", str(seed))


def run_folder(name: str, seed: int, args: argparse.Namespace) -> Path:
    return Path(args.workdir / f"{name.replace(' ', '_').replace('/', '')}_{seed}")


def score(name: str, seed: int, result: dict[str, Any], args: argparse.Namespace) -> None:
    """Add the purity of samples and keep the result; in the main thread, as MLX requires."""
    if "clustering" in result:
        model = run_folder(name, seed, args) / "model.npz"
        is_judged = "photos" not in name  # an SVC on their pixels is not accurate
        result["sample_purity"] = sample_purity(model, args.data_dir) if is_judged else None
    keep(name, result, seed)
    print(f"{name}, seed {seed}: {result.get('clustering', result['pairs'])}", flush=True)


def keep_baselines(args: argparse.Namespace) -> None:
    """Keep the accuracies of scikit-learn's methods, for sets that have none yet."""
    from mlx_gmvae.data.datasets import load_dataset

    places = sets.prepare(args.data_dir, args.workdir, "".join(BASELINES.values()))
    for name, source in BASELINES.items():
        found = kept().get("baselines", {})
        if name not in found:
            splits = load_dataset(source.format(**places), args.data_dir)
            keep("baselines", found | {name: baselines.scores(*splits, 10)})


if __name__ == "__main__":
    main()
