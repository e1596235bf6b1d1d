"""Reconstruct images with a trained model and measure how well.

python reconstruct.py --model pretrained/vae_mnist_filters_0064_dims_0008.npz --rec_testdata
"""

import argparse
import sys
from pathlib import Path

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
    scores = {"mse": float(errors.mean()), "ssim": float(similarities.mean())}
    interrupts.say(f"what is in {args.outdir} may not be whole; run the same command again")
    names = save_tables(args, dataset, split, scores, {"mse": errors, "ssim": similarities})
    names += save_pictures(args, dataset, split, loaded.model, errors)
    print_scores(f"{len(dataset)} {split} images of {dataset.name}", scores)
    print(saved_line(Path(args.outdir), names) + " (originals above their reconstructions)")
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
    args: argparse.Namespace,
    dataset: Dataset,
    split: str,
    means: dict[str, float],
    scores: dict[str, np.ndarray],
) -> list[str]:
    """The scores (N,) of each image as CSV, and their means as JSON; the names of both."""
    outdir, stem = Path(args.outdir), f"{split}_reconstructions"
    texts = {name: [f"{score:.6f}" for score in each] for name, each in scores.items()}
    columns = {"index": dataset.index, **texts}
    rows = zip(*columns.values(), strict=True)
    tables.write_csv(outdir / f"{stem}.csv", [dict(zip(columns, r, strict=True)) for r in rows])
    described = {"split": split, "images": len(dataset), **means}
    tables.write_json(outdir / f"{stem}.json", described)
    return [f"{stem}.csv", f"{stem}.json"]


def save_pictures(
    args: argparse.Namespace,
    dataset: Dataset,
    split: str,
    model: LatentVariableModel,
    errors: np.ndarray,
) -> list[str]:
    """Random images, the worst and the best by their errors (N,); the names of the pictures."""
    ranked = np.argsort(-errors, kind="stable")
    shuffled = np.random.default_rng(args.seed or 0).permutation(len(dataset))
    pictures = {
        f"{split}_reconstructions.png": shuffled[: args.num],
        f"{split}_worst.png": ranked[:EXTREMES],
        f"{split}_best.png": ranked[::-1][:EXTREMES],
    }
    for name, rows in pictures.items():
        originals = dataset.images[rows]
        shown = figures.interleave(originals, reconstruct(model, originals), COLUMNS)
        figures.save_grid(Path(args.outdir) / name, shown, COLUMNS)
    return list(pictures)


if __name__ == "__main__":
    sys.exit(main())
