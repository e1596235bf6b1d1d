"""Generate images from the prior of a trained model or from one of its components.

python generate.py --model pretrained/gmvae_mnist_K10_dims_0008.npz --outfile samples.png
"""

import argparse
import math
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..data.arrays import require_memory
from ..data.batches import with_progress
from ..device import backend
from ..errors import InputError
from ..evaluation.scores import samples
from ..evaluation.traversal import interpolation, manifold
from ..models import LatentVariableModel, MixtureModel
from ..report import figures
from ..report.written_files import alike, files_named, remove_outdated, saved_line
from ..system import interrupts
from . import flags, options
from .script import Parser, log_json, require_at_least, script

FLOAT_BYTES = 4
GRID_COLUMNS = 8
PER_COMPONENT = 10
MANIFOLD_SIDE = 20
GMVAE = "pretrained/gmvae_mnist_K10_dims_0008.npz"
EXAMPLES = (
    f"%(prog)s --model {GMVAE}",
    f"%(prog)s --model {GMVAE} --cluster 3 --num 100 --outdir threes",
    f"%(prog)s --model {GMVAE} --interpolate 1 7 --outfile path.png",
)
RARE = ("latent_dims", "max_filters", "K", "config", "nimg_channels", "json")


@script
def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    backend.select_device(args.cpu)
    model = options.load_checked_model(args).model
    check_channels(args, model)
    mx.random.seed(args.seed or 0)
    interrupts.say("the output may be incomplete; run the same command again")

    if args.interpolate or args.manifold:
        images, columns = path_or_plane(args, model)
        figures.save_grid(args.outfile, images, columns)
        print(f"saved {args.outfile} ({len(images)} images)")
        components: list[int] | list[None] = [None]
        drawn = [images]
    else:
        components = chosen_components(args, model)
        drawn = draw_samples(args, model, components)
    if args.outdir:
        save_files(Path(args.outdir), components, drawn)
    shown = {"outfile": str(args.outfile), "folder": args.outdir, "images": sum(map(len, drawn))}
    log_json("result", {**shown, "components": components})
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "Generate images from a trained model. Writes samples.png: one row of samples per "
        "component, or a grid for a single component or a model without components.",
        EXAMPLES,
        RARE,
    )
    flags.add_model_file_flags(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--outfile", help="image file of the grid (default: samples.png, in --outdir if given)"
    )
    group.add_argument(
        "--outdir", metavar="DIR",
        help="also write each sample to a file in DIR, and remove earlier samples of its component",
    )  # fmt: skip
    group.add_argument(
        "--num", type=int, help="number of samples in the grid (default: "
        f"{GRID_COLUMNS**2}) or in each row (default: {PER_COMPONENT}); with --manifold, images "
        f"per side (default: {MANIFOLD_SIDE})",
    )  # fmt: skip
    chosen = group.add_mutually_exclusive_group()
    chosen.add_argument("--cluster", type=int, metavar="k", help="sample only component k")
    chosen.add_argument(
        "--interpolate", type=int, nargs=2, metavar=("i", "j"),
        help="draw a row of images from the centre of component i to that of component j; for a "
        "vae, from sample i to sample j",
    )  # fmt: skip
    chosen.add_argument(
        "--manifold", action="store_true",
        help="draw a grid over a 2-D latent space, equally spaced in probability",
    )  # fmt: skip
    group.add_argument(
        "--nimg_channels", type=int, metavar="C", help="stop if the model has another number of "
        "image channels",
    )  # fmt: skip
    flags.add_json_flag(group, "the result")
    flags.add_device_flags(parser)
    args = parser.parse_args(argv)
    args.outfile = Path(args.outfile or Path(args.outdir or "") / "samples.png")
    if not figures.can_write(args.outfile):
        raise InputError(
            f"--outfile is {args.outfile}; its name must end in .png or another image format"
        )
    return args


def draw_samples(
    args: argparse.Namespace, model: LatentVariableModel, components: list[int] | list[None]
) -> list[np.ndarray]:
    """Return samples of each component and save them as a grid: one row each, or a square."""
    in_rows = len(components) > 1
    num = args.num if args.num is not None else PER_COMPONENT if in_rows else GRID_COLUMNS**2
    require_at_least("num", num, 1)
    require_room(model, len(components) * num)
    drawn = [samples(model, num, component) for component in components]
    columns = num if in_rows else min(num, GRID_COLUMNS)
    figures.save_grid(args.outfile, np.concatenate(drawn), columns)
    print(f"saved {args.outfile} ({len(drawn) * num} samples"
          + (", a row per component)" if in_rows else ")"))  # fmt: skip
    return drawn


def require_room(model: LatentVariableModel, num: int) -> None:
    """Raise InputError if the memory cannot hold so many images."""
    require_memory(FLOAT_BYTES * num * math.prod(model.config.image_shape))


def path_or_plane(args: argparse.Namespace, model: LatentVariableModel) -> tuple[np.ndarray, int]:
    """Return the images of --interpolate or --manifold, and the number of columns of their grid."""
    if args.interpolate:
        num = args.num if args.num is not None else PER_COMPONENT
        require_at_least("num", num, 2)
        require_room(model, num)
        first, last = args.interpolate
        return interpolation(model, first, last, num), num
    side = args.num if args.num is not None else MANIFOLD_SIDE
    require_at_least("num", side, 2)
    require_room(model, side**2)
    return manifold(model, side), side


def check_channels(args: argparse.Namespace, model: LatentVariableModel) -> None:
    if args.nimg_channels not in (None, model.config.channels):
        raise InputError(
            f"--nimg_channels is {args.nimg_channels}, but {args.model} has {model.config.channels}"
        )


def chosen_components(
    args: argparse.Namespace, model: LatentVariableModel
) -> list[int] | list[None]:
    """Return the components to sample, or [None] for the prior of a model without components."""
    config = model.config
    if not isinstance(model, MixtureModel):
        if args.cluster is not None:
            raise InputError(f"--cluster needs a model with components; {args.model} is a vae")
        return [None]
    if args.cluster is None:
        return list(range(config.K))
    if not 0 <= args.cluster < config.K:
        raise InputError(f"--cluster is {args.cluster}; choose one of 0 to {config.K - 1}")
    return [args.cluster]


def save_files(outdir: Path, components: list[int] | list[None], samples: list[np.ndarray]) -> None:
    """Write one PNG per sample: cluster_03_00007.png, or sample_00007.png without components.

    Samples of an earlier call are removed, except those of other components: several calls may
    fill one folder.
    """
    written = []
    for component, images in zip(components, samples, strict=True):
        prefix = "sample" if component is None else f"cluster_{component:02d}"
        for number in with_progress(range(len(images)), "saving"):
            written.append(outdir / f"{prefix}_{number:05d}.png")
            figures.save_image(written[-1], images[number], durable=False)
    if len(components) > 1:  # remove all, as an earlier model may have had more components
        prefix = r"cluster_(\d\d|[1-9]\d\d+)"
    remove_outdated(files_named(outdir, prefix + r"_(\d{5}|[1-9]\d{5,})\.png"), written)
    pattern = "cluster_*_*.png" if len(components) > 1 else f"{prefix}_*.png"
    print(saved_line(outdir, alike(pattern, len(written))))
