"""Assign images to the components of a trained mixture model, and picture the clusters.

python cluster.py --model pretrained/gmvae_mnist_K10_dims_0008.npz --split test
"""

import sys
from pathlib import Path

from mlx_gmvae import backend, cli, options
from mlx_gmvae.assignments import Assignments
from mlx_gmvae.config import TrainConfig
from mlx_gmvae.evaluation import latents, pair_scores, responsibilities

import numpy as np


@cli.script
def main(argv: list[str] | None = None) -> int:
    parser = cli.Parser(
        "Assign images to the components of a trained mixture model: assignments.csv, a contact "
        "sheet per cluster, a latent scatter, and scores where labels exist."
    )
    options.add_model_file_flags(parser)
    options.add_data_flags(parser, "what the model was trained on")
    group = parser.add_argument_group("output")
    group.add_argument(
        "--split", choices=("train", "test", "all"), default="test",
        help="which images (default: test)",
    )  # fmt: skip
    group.add_argument("--outdir", default="clusters", help="(default: clusters)")
    options.add_device_flags(parser)
    args = parser.parse_args(argv)
    backend.select_device(args.cpu)

    model, loaded = options.load_mixture(args, "cluster.py")
    dataset = options.load_model_data(args, loaded).named(args.split)
    print(backend.describe())

    found = Assignments(dataset, responsibilities(model, dataset.images))
    outdir = Path(args.outdir)
    found.write_csv(outdir / "assignments.csv")
    found.save_contact_sheets(outdir)
    centres = np.array(model.component_latents())
    found.save_scatter(outdir / "latent.png", latents(model, dataset.images), centres)
    scores = found.scores()
    pairs = TrainConfig.from_dict(loaded.training or {})
    scores["pairs"] = pair_scores(model, dataset.images, pairs, args.seed or 0)
    cli.write_json(outdir / "metrics.json", {"split": args.split, **scores})

    sizes = ", ".join(map(str, found.sizes))
    print(f"{len(dataset)} {args.split} images of {dataset.name} in clusters of {sizes}")
    cli.print_scores("without labels", {"confidence": scores["mean_confidence"], **scores["pairs"]})
    if "clustering" in scores:
        cli.print_scores(args.split, scores["clustering"])
    print(f"saved assignments.csv, cluster_*.png, latent.png and metrics.json in {outdir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
