"""Reconstruct images with a trained model and measure the reconstruction error.

python reconstruct.py --model pretrained/vae_mnist_filters_0064_dims_0008.npz --rec_testdata
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from ..data.splits import Dataset
from ..device import backend
from ..device.randomness import random_rows
from ..evaluation.scores import reconstruct, reconstruction_scores
from ..models import LatentVariableModel
from ..report import figures, tables
from ..report.sheets import Section, save_sheet
from ..report.written_files import saved_line
from ..system import interrupts
from . import flags, options
from .script import Parser, log_json, print_scores, require_at_least, script

COLUMNS = 8
EXTREMES = 16
EXAMPLES = (
    "%(prog)s --model pretrained/gmvae_digits_K10_dims_0008.npz --rec_testdata",
    "%(prog)s --model results/gmvae_birds_K20_dims_0008/model.npz --dataset ~/Desktop/new",
)
RARE = ("latent_dims", "max_filters", "K", "config", "data_dir", "json")


@script
def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    backend.select_device(args.cpu)
    loaded = options.load_checked_model(args)
    data = options.load_model_data(args, loaded)
    split = args.split or ("train" if data.is_own else "all")
    dataset = data.images(split)
    dataset.require_outside(Path(args.outdir), "--outdir")
    print(backend.describe())

    errors, similarities = reconstruction_scores(loaded.model, dataset.images)
    means = {"mse": float(errors.mean()), "ssim": float(similarities.mean())}
    if args.num > len(dataset):
        print(f"showing all {len(dataset)} images, which are fewer than --num {args.num}")

    outdir, stem = Path(args.outdir), f"{split}_reconstructions"
    interrupts.say(f"files in {outdir} may be incomplete; run the same command again")
    described = {"split": split, "images": len(dataset), **means}
    names = save_tables(outdir, stem, dataset, described, {"mse": errors, "ssim": similarities})
    images = dataset.images[random_rows(len(dataset), args.num, args.seed or 0)]
    pairs = figures.interleave(images, reconstruct(loaded.model, images), COLUMNS)
    figures.save_grid(outdir / f"{stem}.png", pairs, COLUMNS)
    names.append(f"{stem}.png")
    ranked = np.argsort(-errors, kind="stable")
    for name, rows in (("worst", ranked[:EXTREMES]), ("best", ranked[::-1][:EXTREMES])):
        title = f"the {len(rows)} {name} of {len(dataset):,} reconstructions, below their originals"
        names.append(f"{split}_{name}.png")
        section = compared(dataset, loaded.model, rows, errors)
        save_sheet(outdir / names[-1], title, [section])
    print_scores(f"{len(dataset)} {split} images of {dataset.name}", means)
    print(saved_line(outdir, names) + " (originals above their reconstructions)")
    log_json("result", {"folder": args.outdir, **described})
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "Reconstruct images with a trained model. Writes <split>_reconstructions.png, .csv (MSE "
        "and SSIM of each image) and .json (their means), and the best and worst reconstructions "
        "as <split>_best.png and <split>_worst.png.",
        EXAMPLES,
        RARE,
    )
    flags.add_model_file_flags(parser)
    flags.add_data_flags(parser, "what the model was trained on")
    group = parser.add_argument_group("output")
    chosen = group.add_mutually_exclusive_group()
    chosen.add_argument(
        "--split", choices=("train", "test", "all"),
        help="images to reconstruct (default: train for the model's own dataset, else all)",
    )  # fmt: skip
    chosen.add_argument(
        "--rec_testdata", action="store_const", const="test", dest="split",
        help="the same as --split test",
    )  # fmt: skip
    group.add_argument(
        "--num", type=int, default=64, help="number of random images in the picture (default: 64)"
    )
    group.add_argument(
        "--outdir", default="reconstructions", help="output folder (default: reconstructions)"
    )
    flags.add_json_flag(group, "the result")
    flags.add_device_flags(parser)
    args = parser.parse_args(argv)
    require_at_least("num", args.num, 1)
    return args


def save_tables(
    outdir: Path, stem: str, dataset: Dataset, described: dict[str, Any], scores: dict[str, Any]
) -> list[str]:
    """Write the scores (N,) of each image as CSV and their summary as JSON; return both names."""
    texts = {name: [f"{value:.6f}" for value in values] for name, values in scores.items()}
    tables.write_columns(outdir / f"{stem}.csv", dataset.columns() | texts)
    tables.write_json(outdir / f"{stem}.json", described)
    return [f"{stem}.csv", f"{stem}.json"]


def compared(
    dataset: Dataset, model: LatentVariableModel, rows: np.ndarray, errors: np.ndarray
) -> Section:
    """Return the images at `rows`, each above its reconstruction, with error and name below."""
    images = dataset.images[rows]
    between = np.full_like(images[:, :1], 255)
    shown = figures.to_uint8(reconstruct(model, images))
    both = np.concatenate([images, between, shown], axis=1)
    captions = [[f"MSE {errors[row]:.4f}", dataset.short_name(row)] for row in rows]
    return Section("", both, captions, COLUMNS)
