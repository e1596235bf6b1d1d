"""Reconstruct images with a trained model and measure how well.

python reconstruct.py --model pretrained/vae_mnist_filters_0064_dims_0008.npz --rec_testdata
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from mlx_gmvae.cli import flags, options
from mlx_gmvae.cli.script import Parser, print_scores, require_at_least, script
from mlx_gmvae.data.splits import Dataset
from mlx_gmvae.device import backend, interrupts
from mlx_gmvae.evaluation.scores import reconstruct, reconstruction_scores
from mlx_gmvae.models import LatentVariableModel
from mlx_gmvae.report import figures, tables
from mlx_gmvae.report.outputs import saved_line

import numpy as np

COLUMNS = 8
EXTREMES = 16


@script
def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    backend.select_device(args.cpu)
    loaded = options.load_checked_model(args)
    split = "test" if args.rec_testdata else "train"
    dataset = options.load_model_data(args, loaded).named(split)
    print(backend.describe())

    errors, similarities = reconstruction_scores(loaded.model, dataset.images)
    means = {"mse": float(errors.mean()), "ssim": float(similarities.mean())}
    shuffled = np.random.default_rng(args.seed or 0).permutation(len(dataset))
    ranked = np.argsort(-errors, kind="stable")
    shown = {
        "reconstructions": shuffled[: args.num],
        "worst": ranked[:EXTREMES],
        "best": ranked[::-1][:EXTREMES],
    }

    outdir, stem = Path(args.outdir), f"{split}_reconstructions"
    interrupts.say(f"what is in {outdir} may not be whole; run the same command again")
    described = {"split": split, "images": len(dataset), **means}
    names = save_tables(outdir, stem, dataset, described, {"mse": errors, "ssim": similarities})
    names += save_pictures(outdir, split, dataset.images, loaded.model, shown)
    print_scores(f"{len(dataset)} {split} images of {dataset.name}", means)
    print(saved_line(outdir, names) + " (originals above their reconstructions)")
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("Reconstruct images with a trained model: a picture, MSE and SSIM.")
    flags.add_model_file_flags(parser)
    flags.add_data_flags(parser, "what the model was trained on")
    group = parser.add_argument_group("output")
    group.add_argument(
        "--rec_testdata", action="store_true", help="use the test images, not the training images"
    )
    group.add_argument(
        "--num", type=int, default=64, help="images in the picture, at random (default: 64)"
    )
    group.add_argument("--outdir", default="reconstructions", help="(default: reconstructions)")
    flags.add_device_flags(parser)
    args = parser.parse_args(argv)
    require_at_least("num", args.num, 1)
    return args


def save_tables(
    outdir: Path, stem: str, dataset: Dataset, described: dict[str, Any], scores: dict[str, Any]
) -> list[str]:
    """The scores (N,) of each image as CSV, and what describes them as JSON; both names."""
    rows = []
    for index, *values in zip(dataset.index, *scores.values(), strict=True):
        texts = [f"{value:.6f}" for value in values]
        rows.append({"index": index, **dict(zip(scores, texts, strict=True))})
    tables.write_csv(outdir / f"{stem}.csv", rows)
    tables.write_json(outdir / f"{stem}.json", described)
    return [f"{stem}.csv", f"{stem}.json"]


def save_pictures(
    outdir: Path, split: str, images: np.ndarray, model: LatentVariableModel, shown: dict[str, Any]
) -> list[str]:
    """A picture for each name in `shown`, of the images at its rows; the names of the files."""
    for name, rows in shown.items():
        pair = figures.interleave(images[rows], reconstruct(model, images[rows]), COLUMNS)
        figures.save_grid(outdir / f"{split}_{name}.png", pair, COLUMNS)
    return [f"{split}_{name}.png" for name in shown]


if __name__ == "__main__":
    sys.exit(main())
