"""Train the models in pretrained/, and write their card.

    python benchmarks/pretrained.py gmvae_mnist_K10_dims_0008 --data_dir DIR
    python benchmarks/pretrained.py --data_dir DIR     all of them
    python benchmarks/pretrained.py --card             write pretrained/README.md from the files

Each model is a run of `python train.py` with the options below, in results/pretrained/NAME. A run
that was stopped is resumed. The weights are then rounded to 16 bits, which halves the file; they
are read back as 32 bits. Metrics are computed with the rounded weights and, for comparison, with
the original ones. The file stores the metrics, the command and the machine, and the card is
written from them.

DIR holds mnist/, frey/, letters.npz and a zip of class folders of photographs (*jpg*.zip),
anywhere below it.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlx_gmvae.data.dataset_spec import DatasetSpec  # noqa: E402
from mlx_gmvae.data.splits import Dataset  # noqa: E402
from mlx_gmvae.evaluation.scores import generative_scores, responsibilities  # noqa: E402
from mlx_gmvae.models import LatentVariableModel, MixtureModel  # noqa: E402
from mlx_gmvae.report.assignments import Assignments  # noqa: E402
from mlx_gmvae.runs.checkpoint import load_info, load_model, save_model  # noqa: E402

import mlx.core as mx  # noqa: E402
import page_tables  # noqa: E402
import pages  # noqa: E402
import sets  # noqa: E402
from purity import sample_purity  # noqa: E402

FOLDER = ROOT / "pretrained"
CARD = FOLDER / "README.md"
MODELS = {
    "gmvae_mnist_K10_dims_0008": "--dataset mnist --latent_dims 8 --K 10 --epochs 40",
    "gmvae_mnist_K30_dims_0008": "--dataset mnist --latent_dims 8 --K 30 --balance free",
    "vae_mnist_filters_0064_dims_0008": (
        "--dataset mnist --model vae --latent_dims 8 --epochs 20 --batchsize 128"
    ),
    "vae_mnist_mlp_dims_0002": "--dataset mnist --model vae --arch mlp --latent_dims 2 --epochs 40",
    "vade_mnist_K10_dims_0010": (
        "--dataset mnist --model vade --arch mlp --latent_dims 10 --K 10 --epochs 60"
    ),
    "vae-gmm_mnist_K10_dims_0010": (
        "--dataset mnist --model vae-gmm --arch mlp --latent_dims 10 --K 10 --epochs 30"
    ),
    "gmvae_digits_K10_dims_0008": (
        "--dataset digits --image_size 28 28 --latent_dims 8 --K 10 --batchsize 128 --epochs 80"
    ),
    "gmvae_frey_K8_dims_0008": "--dataset {frey} --latent_dims 8 --K 8",
    "gmvae_letters_K10_dims_0016": "--dataset {letters} --latent_dims 16 --K 10",
    "gmvae_photos_K10_dims_0032": (
        "--dataset {photos} --latent_dims 32 --K 10 --hidden_dims 128 --epochs 44"
    ),
}
FIGURES = {
    "elbo": ("ELBO", 1), "importance_bound": ("importance-weighted bound", 1),
    "mse": ("MSE", 4), "ssim": ("SSIM", 3), "accuracy": ("ACC", 3),
    "nmi": ("NMI", 3), "ari": ("ARI", 3), "purity": ("sample purity", 3),
}  # fmt: skip
MANY_TO_ONE = "majority_accuracy"  # the relevant one where there are more clusters than classes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--data_dir", type=Path)
    parser.add_argument("--workdir", type=Path, default=ROOT / "results" / "pretrained")
    parser.add_argument("--card", action="store_true", help="write the card and train nothing")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in MODELS]
    if unknown or bool(args.card) == bool(args.data_dir):
        parser.error(f"give --card, or --data_dir and some or none of {', '.join(MODELS)}")
    for name in [] if args.card else args.names or MODELS:
        train(name, args.data_dir, args.workdir)
        store(name, args.data_dir, args.workdir)
    CARD.write_text(pages.updated(CARD.read_text(), TABLES))


def train(name: str, data_dir: Path, workdir: Path) -> None:
    """Train a model, or resume a run that was stopped; do nothing if it has finished."""
    run, options = workdir / name, MODELS[name]
    if (run / "metrics.json").exists():
        return
    if (run / "state.npz").exists():
        words = ["--resume", str(run)]
    else:
        words = options.format(**sets.prepare(data_dir, workdir, options)).split()
        words += ["--outdir", str(run), "--seed", "0"]
    command = [sys.executable, str(ROOT / "train.py"), *words, "--cpu", "--data_dir", str(data_dir)]
    subprocess.run(command, check=True, env=os.environ)


def store(name: str, data_dir: Path, workdir: Path) -> None:
    """Write the trained model with 16 bits a weight, and its figures."""
    run = workdir / name
    loaded = load_model(run / "model.npz")
    source = DatasetSpec.from_dict(loaded.data, run)
    test = source.load(str(data_dir), loaded.model.config.image_size).test
    before = measured(loaded.model, test)
    rounded = [(key, value.astype(mx.float16)) for key, value in loaded.model.arrays().items()]
    loaded.model.load_weights([(key, value.astype(mx.float32)) for key, value in rounded])
    metrics: dict[str, Any] = {"split": "test", "images": len(test)}
    metrics |= measured(loaded.model, test) | {"before_rounding": before}
    kept = json.loads((run / "metrics.json").read_text())
    metrics["training_seconds"] = kept["training_seconds"]
    metrics |= {name: kept[name] for name in ("pairs", "test_pairs") if name in kept}
    if "clustering" in metrics and loaded.model.config.channels == 1:  # for the SVC
        metrics["sample_purity"] = sample_purity(run / "model.npz", data_dir)
    session = kept["made_with"]["sessions"][0]
    of_machine = {key: value for key, value in session.items() if key not in ("command", "epoch")}
    options = MODELS[name].format(frey="frey.npz", letters="letters.npz", photos="photos.npz")
    description = {
        "data": loaded.data | {"dataset": Path(source.dataset).name, "path": None},
        "training": loaded.training,
        "metrics": metrics,
        "command": shlex.join(["python", "train.py", *options.split()]),
        "made_with": of_machine | {"crc32": kept["made_with"]["images"]["crc32"]},
    }
    loaded.model.load_weights(rounded)
    save_model(FOLDER / f"{name}.npz", loaded.model, **description)
    print(f"{name}: {metrics}")


def measured(model: LatentVariableModel, test: Dataset) -> dict[str, Any]:
    """Return figures of the held-out test images, with the same noise each time."""
    mx.random.seed(0)
    model.eval()
    found = {"generative": generative_scores(model, test.images)}
    if isinstance(model, MixtureModel):
        found |= Assignments(test, responsibilities(model, test.images)).scores()
    return found


def card_rows() -> list[list[str]]:
    """Return a row for each file: its data and its figures."""
    rows = []
    for path in files():
        info = load_info(path)
        metrics = info["metrics"]
        figures = metrics["generative"] | metrics.get("clustering", {})
        figures["purity"] = metrics.get("sample_purity")
        if info["model"].get("K", 10) > 10 and "accuracy" in figures:
            figures["accuracy"] = figures[MANY_TO_ONE]
        shown = [figures.get(name) for name in FIGURES]
        digits = [digits for _, digits in FIGURES.values()]
        rows.append([
            f"`{path.name}`", str(info["training"]["epochs"]),
            f"{metrics['training_seconds'] / 60:.0f}",
            *("" if v is None else f"{v:.{d}f}" for v, d in zip(shown, digits, strict=True)),
            f"{path.stat().st_size / 1024:.0f}",
        ])  # fmt: skip
    return rows


def card() -> str:
    header = ["file", "epochs", "minutes", *(title for title, _ in FIGURES.values()), "KB"]
    return page_tables.markdown(header, card_rows())


def commands() -> str:
    lines = [load_info(path)["command"] for path in files()]
    return "\n".join(["```bash", *lines, "```"])


def checksums() -> str:
    lines = [f"{sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in files()]
    return "\n".join(["```", *lines, "```"])


def files() -> list[Path]:
    return sorted(FOLDER.glob("*.npz"))


TABLES: dict[str, Callable[[], str]] = {
    "models": card,
    "commands": commands,
    "checksums": checksums,
}

if __name__ == "__main__":
    main()
