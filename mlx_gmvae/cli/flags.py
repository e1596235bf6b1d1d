"""Command-line flags shared by the scripts."""

import argparse
from collections.abc import Iterable
from typing import Any, get_args, get_type_hints

from ..clustering.augment import KINDS
from ..clustering.descriptors import DESCRIPTORS
from ..config import ModelConfig, TrainConfig
from ..config.model import ARCHS, CLASSIFIERS, LIKELIHOODS, POSTERIORS
from ..config.record import Record, require_range
from ..config.training import LR_SCHEDULES
from ..data.datasets import NAMES
from ..data.depth import DEPTHS
from ..data.fitting import FITS
from ..errors import InputError
from ..models import MODELS, owners_of
from .script import Parser

Fields = dict[str, tuple[str, str | Iterable[str]]]  # by name: help text; metavar or choices
AUTO = "auto"
CHECKED = ("latent_dims", "max_filters", "K")


def add_device_flags(parser: Parser) -> None:
    """Add --cpu and --seed (None if not given, which means 0)."""
    group = parser.add_argument_group("device")
    group.add_argument(
        "--cpu", action="store_true", help="run on the CPU even if a GPU is available"
    )
    group.add_argument("--seed", type=seed, metavar="N", help="random seed (default: 0)")


def add_json_flag(group: Any, what: str) -> None:
    """Add --json, whose help names `what` is printed."""
    text = f"print {what} as lines of JSON on stdout, and all other output on stderr"
    group.add_argument("--json", action="store_true", help=text)


def seed(text: str) -> int:
    """Convert --seed to a number that every random generator accepts."""
    number = int(text)
    try:
        require_range("seed", number, 0, 2**32 - 1)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return number


def number_or_auto(text: str) -> int | str:
    """Convert --K to a whole number; "auto" stays as it is."""
    if text == AUTO:
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor {AUTO}") from None


def add_data_flags(
    parser: Parser,
    default_dataset: str,
    size: str = "stop if the model was trained on another image size; images are always resized to "
    "that of the model",
    fit: str = "as in training",
) -> argparse._ArgumentGroup:
    """Add --dataset, --data_dir, --image_size, --fit, --classes, --no_labels and --bits.

    Returns their group.
    """
    group = parser.add_argument_group("data")
    group.add_argument(
        "--dataset",
        metavar="NAME|PATH",
        help=f"{', '.join(NAMES)}, or a path: a folder of images or IDX files, or an .npy or .npz "
        f"file (arrays images, labels) (default: {default_dataset})",
    )
    group.add_argument(
        "--data_dir",
        metavar="DIR",
        help="cache folder of downloaded datasets and decoded images (default: mlx_gmvae in the "
        "user's cache folder)",
    )
    group.add_argument("--image_size", type=int, nargs=2, metavar=("H", "W"), help=size)
    group.add_argument(
        "--fit", choices=FITS, help="how images are resized: crop (keep the centre), pad (keep the "
        f"whole image), or stretch (change the aspect ratio) (default: {fit})",
    )  # fmt: skip
    group.add_argument("--classes", nargs="+", metavar="NAME", help="use only these classes")
    chosen = group.add_mutually_exclusive_group()
    for name, text in (
        ("no_labels", "ignore labels; do not treat sub-folders as classes"),
        ("labels", "use labels although the model was trained with --no_labels"),
    ):
        chosen.add_argument(f"--{name}", action="store_true", default=None, help=text)
    group.add_argument(
        "--bits", type=int, choices=DEPTHS,
        help="minimum bit depth of the values in 16-bit images, used to scale them (default: the "
        "depth of the largest value)",
    )  # fmt: skip
    parser.rare = (*parser.rare, "labels", "bits")
    return group


def add_features_flag(group: argparse._ArgumentGroup) -> None:
    """Add --features, for the images given to a trained model."""
    group.add_argument(
        "--features", metavar="FILE|ENCODER",
        help="for models trained with --features: a file with the features of these images, or "
        "the location of the encoder (default: as in training)",
    )  # fmt: skip


MODEL_FIELDS: Fields = {
    "model": ("model to train", MODELS),
    "arch": ("network architecture: convolutional or fully connected", ARCHS),
    "latent_dims": ("dimensions of the latent space z", "D"),
    "K": ("number of components, or auto to select it from the images with a gmvae", "K|auto"),
    "w_dims": ("dimensions of the style variable w", "M"),
    "classifier": (
        "first layers of the classifier q(y|x): convolutions, or a histogram of visual words of "
        "small patches (the default in colour from 20 px); --features replaces both",
        tuple(name for name in CLASSIFIERS if name != "features"),
    ),
    "posterior": (
        "posterior of the component y: amortised (a classifier) or bayes (Bayes' rule at the "
        "sampled z and w)", POSTERIORS,
    ),
    "likelihood": ("distribution of the pixels given z", LIKELIHOODS),
    "sigma": ("standard deviation of the gaussian likelihood", "SIGMA"),
    "max_filters": (
        "channels of the coarsest conv stage; each finer stage has half as many, at least 16", "N",
    ),
    "hidden_dims": ("units of each mlp layer, or of the layer after the visual words", "N"),
    "num_layers": (
        "number of conv stages (default: by image size) or of mlp hidden layers (default: 2)", "N",
    ),
    "mc_samples": ("samples of the latents per image", "N"),
}  # fmt: skip
TRAINING_FIELDS: Fields = {
    "epochs": ("passes over the training images; more for small sets", "EPOCHS"),
    "batchsize": ("images per training step", "N"),
    "lr": ("learning rate of Adam", "LR"),
    "recon_weight": ("weight of the reconstruction term", "WEIGHT"),
    "kl_weight": ("weight of the KL terms", "WEIGHT"),
    "kl_anneal": ("epochs over which the KL weight rises from 0", "EPOCHS"),
    "lr_schedule": (
        "learning rate: constant, or falling to 0 at the last epoch along a cosine", LR_SCHEDULES,
    ),
    "clip_grad": ("maximum norm of the gradient (default: no clipping)", "NORM"),
    "early_stopping": (
        "stop when the ELBO of a held-out tenth of the images has not improved for this many "
        "epochs, and keep the weights of the best epoch (default: off)", "PATIENCE",
    ),
    "pretrain_epochs": (
        "epochs before the mixture of vade is fitted to the latents (default: a third of them)",
        "EPOCHS",
    ),
    "mutual_iterations": (
        "for vae-gmm: number of iterations that train with a fitted mixture (default: 4), after a "
        "first one without; all have an equal share of the epochs", "N",
    ),
}  # fmt: skip
PAIR_FIELDS: Fields = {
    "pair_weight": ("weight of the pair loss; 0 trains on the plain ELBO", "WEIGHT"),
    "pair_balance": (
        "weight of the balance term of the pair loss; its initial weight for --balance free",
        "WEIGHT",
    ),
    "balance": (
        "expected cluster sizes: auto (found by merging sub-clusters), uniform, free (if K exceeds "
        "the number of classes), or a file of K numbers", "auto|uniform|free|FILE",
    ),
    "sub_clusters": (
        "sub-clusters per component, which --balance auto merges into clusters", "N",
    ),
    "neighbours": ("nearest neighbours that an image can be paired with", "N"),
    "descriptor": (
        "image descriptor for the nearest-neighbour search: pixels, hog (pixels and oriented "
        "gradients), patches (visual words), or auto (chosen from the images)",
        ("auto", *DESCRIPTORS),
    ),
    "features": (
        "input of the classifier q(y|x) in place of pixels: a pretrained encoder (dinov2-small, "
        "ORG/NAME on the Hugging Face Hub, or a folder), or a file of features", "ENCODER",
    ),
    "augment": (
        f"augmentation of paired images: none, auto (chosen from the images), or a comma-separated "
        f"list of {', '.join(KINDS)}", "KIND,...",
    ),
    "heads": (
        "heads of the classifier that are trained in parallel; the one with the lowest loss is "
        "used", "N",
    ),
    "sample_weight": (
        "weight of the loss that classifies generated images as the component they were drawn "
        "from", "WEIGHT",
    ),
}  # fmt: skip


def add_model_flags(parser: Parser) -> Any:
    """Add a flag for each field of ModelConfig and return their group.

    A flag that is not given does not appear in the namespace.
    """
    group = parser.add_argument_group("model")
    for name, (text, values) in MODEL_FIELDS.items():
        owners = owners_of(name)
        shown = f"{text} (for {', '.join(owners)})" if owners else text
        _add_field(group, ModelConfig, name, shown, values)
    return group


def add_training_flags(parser: Parser) -> None:
    """Add a flag for each field of TrainConfig except `seed`.

    A flag that is not given does not appear in the namespace.
    """
    paired = " and ".join(name for name, kind in MODELS.items() if kind.trained_by_pairs)
    for title, description, fields in (
        ("training", None, TRAINING_FIELDS),
        ("clustering", f"Training on pairs of nearest neighbours, for {paired}.", PAIR_FIELDS),
    ):
        group = parser.add_argument_group(title, description)
        for name, (text, values) in fields.items():
            _add_field(group, TrainConfig, name, text, values)


def _add_field(
    group: Any, config: type[Record], name: str, text: str, values: str | Iterable[str]
) -> None:
    """Add a flag with the type and the default of a field; `values` are choices or a metavar."""
    default, kind = getattr(config, name), get_type_hints(config)[name]
    shown = "" if default is None else f" (default: {default})"
    options: dict[str, Any] = {"choices": tuple(values)}
    if isinstance(values, str):
        of_type = number_or_auto if values == "K|auto" else (get_args(kind) or (kind,))[0]
        options = {"metavar": values, "type": of_type}
    group.add_argument(f"--{name}", default=argparse.SUPPRESS, help=text + shown, **options)
    for old, new in config.RENAMED.items():  # hidden flags of earlier versions
        if new == name:
            options |= {"dest": name, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
            group.add_argument(f"--{old}", **options)


def add_model_file_flags(parser: Parser) -> None:
    """Add --model, the sizes to check against it, and --config."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", required=True, metavar="FILE|NAME",
        help="model file from train.py (.npz or .safetensors), name of a pretrained model, or "
        "ORG/NAME[@REVISION] on the Hugging Face Hub",
    )  # fmt: skip
    for name in CHECKED:
        text = "stop if the model file has another value"
        group.add_argument(f"--{name}", type=int, metavar="N", help=text)
    group.add_argument(
        "--config", metavar="FILE", help="JSON file with the model configuration, for a model file "
        "without one",
    )  # fmt: skip
