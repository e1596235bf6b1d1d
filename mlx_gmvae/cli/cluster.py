"""Assign images to the clusters of a trained model and show the clusters.

python cluster.py --model pretrained/gmvae_mnist_K10_dims_0008.npz --split test
"""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

from ..clustering.duplicates import near_duplicates
from ..clustering.pair_scores import pair_scores
from ..config import TrainConfig
from ..data.images import Rows
from ..data.splits import Dataset, Splits
from ..device import backend
from ..errors import InputError
from ..evaluation.scores import (
    ANOMALY_SCORES,
    anomaly_scores,
    bits_per_dim,
    component_gaussians,
    latents,
    responsibilities,
    surveyed_elbo,
)
from ..models import LatentVariableModel, MixtureModel
from ..models.mixture import Gaussians
from ..report import model_summary, plots, sorted_folders, tables
from ..report.assignments import TABLE, Assignments, earlier_results, scores_title
from ..report.duplicate_groups import save_groups
from ..report.exports import EXPORTS, require_exportable
from ..report.model_explorer import rows_shown, save_explorer
from ..report.summary import write_summary
from ..report.written_files import alike, remove_outdated, saved_line
from ..runs.checkpoint import ModelFile
from ..system import interrupts
from ..system.cache import without_home
from ..training.resolve import resolve_training
from . import flags, options
from .curated import MODEL_SUFFIXES, curation_line, curation_of, save_curated
from .script import Parser, log_json, print_scores, require_at_least, script

SCATTER_POINTS = 5000
TSNE_POINTS = 2000
MANY_DUPLICATES = 0.2  # share of the images
FAR = 0.25  # relative increase of the negative bound over that of the model's own test images
EXAMPLES = (
    "%(prog)s --model results/gmvae_birds_K20_dims_0008/model.npz --sort_into sorted",
    "%(prog)s --model pretrained/gmvae_digits_K10_dims_0008.npz --explorer --anomalies 20",
)
RARE = (
    "latent_dims",
    "max_filters",
    "K",
    "config",
    "data_dir",
    "hard_links",
    "anomaly_score",
    "json",
)


@script
def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    backend.select_device(args.cpu)
    loaded = options.load_checked_model(args)
    require_something_to_do(args, loaded.model)
    decided = curation_of(args, loaded)
    data = options.load_model_data(args, loaded, both_parts=bool(args.labelled))
    if args.features or loaded.model.config.classifier == "features":
        from .seen import as_trained  # not needed by other models

        splits = as_trained(loaded, args.features, data.splits, args.data_dir, args.model)
        data = data._replace(splits=splits)
    args.split = args.split or ("test" if args.labelled else data.usual_split)
    dataset = data.images(args.split)
    require_own_folder(Path(args.outdir), dataset)
    require_exportable(args.export, bool(dataset.files))
    if args.sort_into:
        sorted_folders.prepare(dataset, Path(args.sort_into), args.hard_links)
    print(backend.describe())

    interrupts.say(f"files in {args.outdir} may be incomplete; run the same command again")
    found, gaussians = assign(args, loaded, data.splits, dataset)
    found.split = args.split
    if args.split == "all":
        found.parts = data.parts_of(dataset)
    if decided is not None:
        found = found.curated(decided)
        print(curation_line(args.curation or args.model, decided, found))
    scores = save_results(args, loaded, found, gaussians)
    if not data.is_own:
        say_how_far(loaded, dataset)
    if args.sort_into:
        interrupts.say(f"remove {args.sort_into}, then run the same command again")
        sorted_folders.sort_into(found, Path(args.sort_into), args.hard_links)
        print(f"saved {len(dataset)} images in folders of {args.sort_into}")
    if args.save_model and decided is not None:
        save_curated(args, loaded, dataset, found, decided)
    # Slow steps come last, so that Ctrl-C keeps the results of the others.
    if args.anomalies:
        save_anomalies(args, loaded, found, scores)
    for name in args.export:
        z = latents(loaded.model, dataset.images)
        print(saved_line(Path(args.outdir), EXPORTS[name](Path(args.outdir), found, z)))
    if args.duplicates:
        save_duplicates(args, dataset, scores)
    by_tsne = save_tsne(args, loaded, found) if args.tsne else None
    if args.explorer:
        page = Path(args.outdir) / "explorer.html"
        title = f"{Path(dataset.name).name}, {args.split} images"
        score, seed = args.anomaly_score, args.seed or 0
        save_explorer(page, title, loaded.model, found, score, seed, by_tsne)
        print(saved_line(Path(args.outdir), ["explorer.html"]))
    save_summary(args, loaded, found, scores)
    log_json("result", {"folder": args.outdir, **scores})
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "Assign images to the clusters of a trained model. Writes assignments.csv, a contact sheet "
        "per cluster, latent.png, scores if there are labels, and summary.html with all results.",
        EXAMPLES,
        RARE,
    )
    flags.add_model_file_flags(parser)
    flags.add_features_flag(flags.add_data_flags(parser, "what the model was trained on"))
    group = parser.add_argument_group("output")
    group.add_argument(
        "--split", choices=("train", "test", "all"),
        help="images to assign (default: test if the model's own dataset has a test split, else "
        "all)",
    )  # fmt: skip
    group.add_argument("--outdir", default="clusters", help="output folder (default: clusters)")
    group.add_argument(
        "--labelled", type=int, metavar="N",
        help="assign images to classes, by N labelled training images of each; a model without "
        "components gets a Gaussian mixture over z, initialised with them",
    )  # fmt: skip
    group.add_argument(
        "--sort_into", metavar="DIR", help="copy the images into one folder per cluster in DIR"
    )
    group.add_argument(
        "--hard_links", action="store_true",
        help="with --sort_into, make hard links instead of copies",
    )  # fmt: skip
    group.add_argument(
        "--curation", metavar="FILE",
        help="apply a curation.json (cluster names, merges and moved images, downloaded from "
        "explorer.html) to these images or to new ones",
    )  # fmt: skip
    group.add_argument(
        "--save_model", metavar="FILE",
        help="with --curation, also write a model that contains the names and merges and has "
        "learned from the moved images; new images then need no --curation",
    )  # fmt: skip
    group.add_argument(
        "--anomalies", type=int, metavar="N",
        help="score every image (column anomaly of assignments.csv) and show the N images with the "
        "highest scores in anomalies.png; also for models without components",
    )  # fmt: skip
    group.add_argument(
        "--anomaly_score", choices=ANOMALY_SCORES,
        help="; ".join(f"{name}: {text}" for name, text in ANOMALY_SCORES.items())
        + "; with a bernoulli likelihood, importance and elbo are high for every grey texture "
        "(default: deviance)",
    )  # fmt: skip
    group.add_argument(
        "--save_latents", action="store_true",
        help="also write the mean of q(z|x) of each image to latents.npy and latents.csv",
    )  # fmt: skip
    group.add_argument(
        "--duplicates", action="store_true",
        help="also find near-duplicates, which differ in size, compression, brightness or by a "
        "small crop: duplicates.csv and duplicates.png, the best image of each group first; also "
        "for models without components",
    )  # fmt: skip
    group.add_argument(
        "--export", nargs="+", choices=list(EXPORTS), default=[], metavar="FORMAT",
        help="also write the assignments for other programs: projector (vectors and metadata for "
        "TensorBoard's Embedding Projector) or label-studio (tasks with predictions)",
    )  # fmt: skip
    group.add_argument(
        "--tsne", action="store_true", help="also draw the latents by t-SNE in latent_tsne.png"
    )
    group.add_argument(
        "--explorer", action="store_true",
        help="also write explorer.html, an interactive map of the latents with the image at each "
        "point; with --tsne it opens on the t-SNE map",
    )  # fmt: skip
    flags.add_json_flag(group, "the result")
    flags.add_device_flags(parser)
    args = parser.parse_args(argv)
    for name in ("labelled", "anomalies"):
        require_at_least(name, getattr(args, name), 1)
    if args.curation and args.labelled:
        raise InputError("--curation and --labelled both name the clusters; give one of them")
    if args.save_model and not args.curation:
        raise InputError("--save_model has no effect without --curation")
    if args.save_model and Path(args.save_model).suffix not in MODEL_SUFFIXES:
        raise InputError(f"--save_model is {args.save_model}; it must end in .npz or .safetensors")
    if args.save_model and Path(args.save_model).is_dir():
        raise InputError(f"--save_model {args.save_model} is a folder; give a file in it")
    if args.save_model and Path(args.save_model).resolve() == Path(args.model).resolve():
        raise InputError("--save_model would replace --model; give another file")
    if args.hard_links and not args.sort_into:
        raise InputError("--hard_links has no effect without --sort_into")
    if args.anomaly_score and not (args.anomalies or args.explorer):
        raise InputError("--anomaly_score has no effect without --anomalies or --explorer")
    args.anomaly_score = args.anomaly_score or next(iter(ANOMALY_SCORES))
    return args


def require_something_to_do(args: argparse.Namespace, model: LatentVariableModel) -> None:
    """Raise InputError for a model without components unless a flag asks for other results."""
    wanted = ("labelled", "anomalies", "save_latents", "tsne", "explorer", "duplicates", "export")
    others = any(getattr(args, name) for name in wanted)
    if args.curation and not isinstance(model, MixtureModel):
        raise InputError(f"--curation needs a model with components, not a {model.config.model}")
    if not (others or isinstance(model, MixtureModel)):
        raise InputError(
            f"{args.model} is a {model.config.model}, and cluster.py needs a model with components "
            "(such as a gmvae); for this model, add --labelled N, --anomalies N, --save_latents, "
            "--export FORMAT, --tsne, --explorer or --duplicates"
        )


def assign(
    args: argparse.Namespace, loaded: ModelFile, splits: Splits, dataset: Dataset
) -> tuple[Assignments, Gaussians | None]:
    """Return the clusters, or classes from a few labels, and the components' Gaussians over z.

    With a model without components, all images are in one cluster.
    """
    model, seed = loaded.model, args.seed or 0
    if args.labelled:
        # Imported here because scikit-learn's mixtures are slow to load and rarely needed.
        from ..evaluation.labelled import classify

        classes = classify(model, splits.train, dataset.examples, args.labelled, seed)
        return Assignments(dataset, classes.values, classes.names), classes.gaussians
    if isinstance(model, MixtureModel):
        found = Assignments(dataset, responsibilities(model, dataset.examples))
        return found, component_gaussians(model)
    return Assignments(dataset, np.ones((len(dataset), 1))), None


def save_results(
    args: argparse.Namespace, loaded: ModelFile, found: Assignments, gaussians: Gaussians | None
) -> dict[str, Any]:
    """Write tables, contact sheets, scores and latent.png, and remove those of an earlier call."""
    outdir = Path(args.outdir)
    earlier = earlier_results(outdir)
    found.write_csv(outdir / TABLE)
    sheets = found.save_contact_sheets(outdir)
    scores = report(args, loaded, found)
    names = [TABLE, "metrics.json", "latent.png"]
    panels, some = found.colourings(SCATTER_POINTS)
    if args.save_latents:
        z = latents(loaded.model, found.dataset.images)
        tables.write_array(outdir / "latents.npy", z)
        columns = {f"z{number + 1}": column for number, column in enumerate(z.T)}
        tables.write_columns(outdir / "latents.csv", found.dataset.columns() | columns)
        names += ["latents.npy", "latents.csv"]
        z = z[some]
    else:
        z = latents(loaded.model, Rows(found.dataset.images, some))
    plots.save_latent_plane(outdir / "latent.png", z, panels, gaussians)
    if "confusion" in scores:
        counts, rows = (scores["confusion"][name] for name in ("counts", "labels"))
        classes = list(found.class_names)
        plots.save_confusion(outdir / "confusion.png", np.array(counts), rows, classes)
        names.append("confusion.png")
    remove_outdated(earlier, [*sheets, *(outdir / name for name in names)])
    pattern = "class_*.png" if found.class_names else "cluster_*.png"
    print(saved_line(outdir, [*names, *alike(pattern, len(sheets))]))
    return scores


def require_own_folder(outdir: Path, dataset: Dataset) -> None:
    """Raise InputError if `outdir` is the folder of a training run or lies among the images."""
    if any((outdir / name).exists() for name in ("state.npz", "seeds.json")):
        raise InputError(
            f"{outdir} holds a training run, and its metrics.json and pictures would be replaced; "
            "choose another --outdir"
        )
    dataset.require_outside(outdir, "--outdir")


def say_how_far(loaded: ModelFile, dataset: Dataset) -> None:
    """Print the bound of images from another dataset beside that of the model's test images."""
    scores = loaded.metrics.get("generative")
    elbo = scores.get("elbo") if isinstance(scores, dict) else None
    if not isinstance(elbo, float):
        return
    bounds = surveyed_elbo(loaded.model, dataset.examples), elbo
    unit, dims = "bits per dimension", math.prod(loaded.model.config.image_shape)
    found, usual = (bits_per_dim(loaded.model, -each) for each in bounds)
    if found is None or usual is None:
        unit = "negative ELBO, nats per pixel and channel"
        found, usual = (-each / dims for each in bounds)
    line = f"{unit}: {found:.3g} ({usual:.3g} for the model's own test images)"
    strange = (
        "; these images differ from the training images" if found > usual + FAR * abs(usual) else ""
    )
    print(line + strange)


def save_tsne(args: argparse.Namespace, loaded: ModelFile, found: Assignments) -> np.ndarray:
    """Write latent_tsne.png and return its points: 2,000 images, or all those of the explorer."""
    rows = rows_shown(found) if args.explorer else found.some(TSNE_POINTS)
    z = latents(loaded.model, Rows(found.dataset.images, rows))
    print(f"t-SNE of {len(z):,} latents", flush=True)
    points = plots.tsne(z)
    plots.save_tsne(Path(args.outdir) / "latent_tsne.png", points, found.kinds(rows))
    print(saved_line(Path(args.outdir), ["latent_tsne.png"]))
    return points


def save_summary(
    args: argparse.Namespace, loaded: ModelFile, found: Assignments, scores: dict[str, Any]
) -> None:
    """Write summary.html, which shows all results."""
    outdir, dataset = Path(args.outdir), found.dataset
    text = described(found, args.split, Path(dataset.name).name)
    text += f", assigned by {without_home(args.model)}."
    blocks = [model_summary.figures_block(scores, text)]
    if found.responsibilities.shape[1] > 1:
        blocks.append(model_summary.clusters_block(loaded.model, found))
    if found.anomaly is not None:
        blocks.append(model_summary.anomalies_block(found, args.anomaly_score))
    blocks.append(model_summary.diagrams_block(outdir))
    write_summary(outdir / "summary.html", f"Clusters of {Path(dataset.name).name}", blocks)
    print(saved_line(outdir, ["summary.html"]))


def save_anomalies(
    args: argparse.Namespace, loaded: ModelFile, found: Assignments, scores: dict[str, Any]
) -> None:
    """Score every image; write a column of the table, metrics.json and anomalies.png."""
    outdir = Path(args.outdir)
    images, seed = found.dataset.examples, args.seed or 0
    found.anomaly = anomaly_scores(loaded.model, images, args.anomaly_score, seed)
    spread = {"median": float(np.median(found.anomaly)), "highest": float(found.anomaly.max())}
    print_scores(f"anomaly score ({args.anomaly_score}), nats", spread)
    found.write_csv(outdir / TABLE)
    scores["anomaly"] = {"score": args.anomaly_score, **spread}
    tables.write_json(outdir / "metrics.json", scores)
    found.save_anomalies(outdir / "anomalies.png", args.anomalies)
    print(saved_line(outdir, [TABLE, "metrics.json", "anomalies.png"]))


def save_duplicates(args: argparse.Namespace, dataset: Dataset, scores: dict[str, Any]) -> None:
    """Write duplicates.csv and duplicates.png, and the number of duplicates to metrics.json."""
    outdir = Path(args.outdir)
    groups = near_duplicates(dataset.images)
    found = {"groups": len(groups), "images": sum(map(len, groups))}
    of = f"{found['images']:,} of {len(dataset):,} images, in {len(groups):,} groups"
    print(f"near-duplicates: {of}")
    if found["images"] > MANY_DUPLICATES * len(dataset):
        print("so many are rarely real copies: simple drawings often look alike")
    scores["near_duplicates"] = found
    tables.write_json(outdir / "metrics.json", scores)
    print(saved_line(outdir, ["metrics.json", *save_groups(outdir, dataset, groups)]))


def described(found: Assignments, split: str, name: str) -> str:
    """Describe the images: their number, their source, and how many were used in training."""
    num = len(found.dataset)
    if split != "all":
        return f"{num:,} {split} images of {name}"
    if found.parts is None:
        return f"all {num:,} images of {name}"
    trained_on = int((found.parts == "train").sum())
    return f"all {num:,} images of {name} ({trained_on:,} of them used in training)"


def report(args: argparse.Namespace, loaded: ModelFile, found: Assignments) -> dict[str, Any]:
    """Print the scores and write them to metrics.json."""
    dataset = found.dataset
    scores = {"split": args.split, **found.scores()}
    what = f"classes {', '.join(found.class_names)}" if found.class_names else "clusters"
    sizes = ", ".join(map(str, found.sizes))
    print(f"{described(found, args.split, dataset.name)} in {what} of {sizes}")
    if isinstance(loaded.model, MixtureModel):
        config = TrainConfig.from_dict(loaded.training or {})
        config, _ = resolve_training(config, loaded.model.config, dataset.examples)
        scores["pairs"] = pair_scores(loaded.model, dataset.examples, config, args.seed or 0)
        without_labels = {"confidence": scores["mean_confidence"], **scores["pairs"]}
        print_scores("without labels", without_labels)
    if "classification" in scores:
        title = f"{args.split}, from {args.labelled} labelled images per class"
        print_scores(title, scores["classification"])
    if "clustering" in scores:
        print_scores(scores_title(args.split, scores), scores["clustering"])
    tables.write_json(Path(args.outdir) / "metrics.json", scores)
    return scores
