"""Command-line flags of cluster.py."""

import argparse
from pathlib import Path

from ..errors import InputError
from ..evaluation.scores import ANOMALY_SCORES
from ..models import LatentVariableModel, MixtureModel
from ..report.embeddings import EMBEDDINGS
from ..report.exports import EXPORTS
from . import flags
from .curated import MODEL_SUFFIXES
from .script import Parser, require_at_least

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
    "tsne",
    "hard_links",
    "anomaly_score",
    "json",
)


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
        "--reject", type=float, metavar="P",
        help="leave images unassigned whose confidence is below P: cluster -1 in assignments.csv, "
        "folder unassigned of --sort_into; also draws risk_coverage.png",
    )  # fmt: skip
    group.add_argument(
        "--curation", metavar="FILE",
        help="apply a curation.json (cluster names, merges and moved images, downloaded from "
        "explorer.html) to these images or to new ones",
    )  # fmt: skip
    group.add_argument(
        "--merge_to", type=int, metavar="N",
        help="merge the model's clusters to N without training, those that share most "
        "neighbours first (dendrogram.png); merged.json can be given to --curation",
    )  # fmt: skip
    group.add_argument(
        "--save_model", metavar="FILE",
        help="with --curation or --merge_to, also write a model that contains the names and merges "
        "and has learned from the moved images; new images then need no --curation",
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
        "--compare", action="store_true",
        help="also cluster the images with k-means, a Gaussian mixture and spectral clustering, on "
        "pixels and on features, and compare the clusters with those of the model",
    )  # fmt: skip
    group.add_argument(
        "--export", nargs="+", choices=list(EXPORTS), default=[], metavar="FORMAT",
        help="also write the assignments for other programs: projector (vectors and metadata for "
        "TensorBoard's Embedding Projector) or label-studio (tasks with predictions)",
    )  # fmt: skip
    group.add_argument(
        "--map", choices=list(EMBEDDINGS),
        help="also draw a map of the latents in latent_<map>.png: by t-SNE, UMAP (pip install "
        "umap-learn) or PaCMAP (pip install pacmap)",
    )  # fmt: skip
    group.add_argument("--tsne", action="store_true", help="the same as --map tsne")
    group.add_argument(
        "--explorer", action="store_true",
        help="also write explorer.html, an interactive map of the latents with the image at each "
        "point; with --map it opens on that map",
    )  # fmt: skip
    flags.add_json_flag(group, "the result")
    flags.add_device_flags(parser)
    args = parser.parse_args(argv)
    for name in ("labelled", "anomalies", "merge_to"):
        require_at_least(name, getattr(args, name), 1)
    if args.curation and args.labelled:
        raise InputError("--curation and --labelled both name the clusters; give one of them")
    if args.reject is not None and not 0 < args.reject < 1:
        raise InputError(f"--reject is {args.reject:g}; it must be between 0 and 1")
    if args.compare and args.labelled:
        raise InputError("--compare compares clusters, not classes; leave out --labelled")
    if args.merge_to and args.labelled:
        raise InputError("--merge_to merges clusters, not classes; leave out --labelled")
    if args.save_model and not (args.curation or args.merge_to):
        raise InputError("--save_model has no effect without --curation or --merge_to")
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
    if args.tsne and args.map not in (None, "tsne"):
        raise InputError(f"--tsne and --map {args.map} are two maps; give one of them")
    args.map = "tsne" if args.tsne else args.map
    args.anomaly_score = args.anomaly_score or next(iter(ANOMALY_SCORES))
    return args


def require_something_to_do(args: argparse.Namespace, model: LatentVariableModel) -> None:
    """Raise InputError for a model without components unless a flag asks for other results."""
    wanted = ("labelled", "anomalies", "save_latents", "map", "explorer", "duplicates", "export")
    others = any(getattr(args, name) for name in wanted)
    for name in ("curation", "compare", "merge_to"):
        if getattr(args, name) and not isinstance(model, MixtureModel):
            raise InputError(f"--{name} needs a model with components, not a {model.config.model}")
    if args.reject and not (args.labelled or isinstance(model, MixtureModel)):
        raise InputError(
            f"--reject has no effect without clusters; a {model.config.model} has none"
        )
    if not (others or isinstance(model, MixtureModel)):
        raise InputError(
            f"{args.model} is a {model.config.model}, and cluster.py needs a model with components "
            "(such as a gmvae); for this model, add --labelled N, --anomalies N, --save_latents, "
            "--export FORMAT, --map METHOD, --explorer or --duplicates"
        )
