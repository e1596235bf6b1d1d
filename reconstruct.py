"""Reconstruct images with a trained model and measure how well.

python reconstruct.py --model pretrained/vae_mnist_filters_0064_dims_0008.npz --rec_testdata
"""

import sys
from pathlib import Path

from mlx_gmvae.cli import flags, options
from mlx_gmvae.cli.script import Parser, print_scores, require_at_least, script
from mlx_gmvae.device import backend, interrupts
from mlx_gmvae.evaluation.scores import reconstruct, reconstruction_scores
from mlx_gmvae.report import figures, tables
from mlx_gmvae.report.outputs import saved_line

import numpy as np

COLUMNS = 8
EXTREMES = 16


@script
def main(argv: list[str] | None = None) -> int:
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
    backend.select_device(args.cpu)

    loaded = options.load_checked_model(args)
    split = "test" if args.rec_testdata else "train"
    dataset = options.load_model_data(args, loaded).named(split)
    print(backend.describe())

    errors, similarities = reconstruction_scores(loaded.model, dataset.images)
    scores = {"mse": float(errors.mean()), "ssim": float(similarities.mean())}

    interrupts.say(f"what is in {args.outdir} may not be whole; run the same command again")
    outdir, stem = Path(args.outdir), f"{split}_reconstructions"
    ranked = np.argsort(-errors, kind="stable")
    shuffled = np.random.default_rng(args.seed or 0).permutation(len(dataset))
    pictures = {
        "reconstructions": shuffled[: args.num],
        "worst": ranked[:EXTREMES],
        "best": ranked[::-1][:EXTREMES],
    }
    for name, rows in pictures.items():
        originals = dataset.images[rows]
        shown = figures.interleave(originals, reconstruct(loaded.model, originals), COLUMNS)
        figures.save_grid(outdir / f"{split}_{name}.png", shown, COLUMNS)
    tables.write_csv(
        outdir / f"{stem}.csv",
        [
            {"index": index, "mse": f"{error:.6f}", "ssim": f"{similarity:.6f}"}
            for index, error, similarity in zip(dataset.index, errors, similarities, strict=True)
        ],
    )
    tables.write_json(outdir / f"{stem}.json", {"split": split, "images": len(dataset), **scores})
    print_scores(f"{len(dataset)} {split} images of {dataset.name}", scores)
    names = [f"{stem}.csv", f"{stem}.json", *(f"{split}_{name}.png" for name in pictures)]
    print(saved_line(outdir, names) + " (originals above their reconstructions)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
