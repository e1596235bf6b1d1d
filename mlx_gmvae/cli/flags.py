"""The flags that scripts share."""

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

Fields = dict[str, tuple[str, str | Iterable[str]]]  # by name: help; its metavar, or choices
AUTO = "auto"
CHECKED = ("latent_dims", "max_filters", "K")


def add_device_flags(parser: Parser) -> None:
    """--cpu, and --seed (None if it is not given, which means 0)."""
    group = parser.add_argument_group("device")
    group.add_argument("--cpu", action="store_true", help="use the CPU even if there is a GPU")
    group.add_argument("--seed", type=seed, metavar="N", help="random seed (default: 0)")


def add_json_flag(group: Any, what: str) -> None:
    text = f"{what} as a line of JSON on stdout, all else on stderr"
    group.add_argument("--json", action="store_true", help=text)


def seed(text: str) -> int:
    """A seed that every generator takes."""
    number = int(text)
    try:
        require_range("seed", number, 0, 2**32 - 1)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return number


def number_or_auto(text: str) -> int | str:
    """--K: a whole number, or "auto" as it is."""
    if text == AUTO:
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor {AUTO}") from None


def add_data_flags(
    parser: Parser,
    default_dataset: str,
    size: str = "checked against the model, to whose size images are brought",
    fit: str = "as in the model's training",
) -> None:
    """--dataset, --data_dir, --image_size, --fit, --classes, --no_labels, --bits."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--dataset",
        metavar="NAME|PATH",
        help=f"{', '.join(NAMES)}, or a path: a folder of images or of IDX files, or an .npy or "
        f".npz array file (images, labels) (default: {default_dataset})",
    )
    group.add_argument(
        "--data_dir",
        metavar="DIR",
        help="where published sets and decoded images are looked for and kept (default: mlx_gmvae "
        "in the user's cache folder)",
    )
    group.add_argument("--image_size", type=int, nargs=2, metavar=("H", "W"), help=size)
    group.add_argument(
        "--fit", choices=FITS, help="how images come to another size: cropped to their middle, "
        f"padded, or stretched (default: {fit})",
    )  # fmt: skip
    group.add_argument("--classes", nargs="+", metavar="NAME", help="keep only these classes")
    chosen = group.add_mutually_exclusive_group()
    for name, text in (
        ("no_labels", "ignore labels; sub-folders are no classes"),
        ("labels", "the opposite, for a model that was trained with --no_labels"),
    ):
        chosen.add_argument(f"--{name}", action="store_true", default=None, help=text)
    group.add_argument(
        "--bits", type=int, choices=DEPTHS,
        help="how many bits the values of 16-bit images use at least (default: those of the "
        "largest value)",
    )  # fmt: skip
    parser.rare = (*parser.rare, "labels", "bits")


def add_features_flag(parser: Parser) -> None:
    """--features of the images that a trained model is shown."""
    parser.add_argument(
        "--features", metavar="FILE|ENCODER",
        help="for a model whose q(y|x) sees features: a file of those of these images, or where "
        "its encoder is (default: where it was)",
    )  # fmt: skip


MODEL_FIELDS: Fields = {
    "model": ("which model", MODELS),
    "arch": ("convolutional or dense networks", ARCHS),
    "latent_dims": ("dimensions of z", "D"),
    "K": ("number of components, or auto, which finds one for a gmvae", "K|auto"),
    "w_dims": ("dimensions of the style w", "M"),
    "classifier": (
        "first layers of q(y|x): convolutions, or counts of kinds of small patches (the default "
        "for images in colour); --features replace both",
        tuple(name for name in CLASSIFIERS if name != "features"),
    ),
    "posterior": ("q(y|.): a classifier's, or Bayes' rule at z and w", POSTERIORS),
    "likelihood": ("of the pixels given z", LIKELIHOODS),
    "sigma": ("of the gaussian likelihood", "SIGMA"),
    "max_filters": ("channels of the coarsest conv stage; finer ones halve it, down to 16", "N"),
    "hidden_dims": ("width of the mlp layers, or of the one after counts of patches", "N"),
    "num_layers": ("conv stages (default: by image size) or mlp hidden layers (default: 2)", "N"),
    "mc_samples": ("draws of the latents per image", "N"),
}
TRAINING_FIELDS: Fields = {
    "epochs": ("passes over the training images; more for small sets", "EPOCHS"),
    "batchsize": ("images per step", "N"),
    "lr": ("Adam's learning rate", "LR"),
    "recon_weight": ("weight of the reconstruction", "WEIGHT"),
    "kl_weight": ("weight of the KL terms", "WEIGHT"),
    "kl_anneal": ("raise the KL weight from 0 over so many epochs", "EPOCHS"),
    "lr_schedule": ("cosine lets the learning rate fall to 0 at the last epoch", LR_SCHEDULES),
    "clip_grad": ("largest gradient norm", "NORM"),
    "early_stopping": (
        "hold out a tenth of the training images and stop when their bound has not improved for so "
        "many epochs; the best epoch's weights are kept", "PATIENCE",
    ),
    "pretrain_epochs": (
        "epochs before vade's mixture is fitted to the latents (default: a third)", "EPOCHS",
    ),
    "mutual_iterations": (
        "times that vae-gmm trains with the mixture fitted before (default: 4); the epochs are "
        "shared evenly, the first share without a mixture", "N",
    ),
}  # fmt: skip
PAIR_FIELDS: Fields = {
    "pair_weight": ("weight of the pair objective; 0 leaves the plain ELBO", "WEIGHT"),
    "pair_balance": ("weight of the balance in it (free: at the start)", "WEIGHT"),
    "balance": (
        "cluster sizes: auto (found by merging sub-clusters), uniform, free (for a K larger than "
        "the number of classes), or a file of K numbers to expect", "auto|uniform|free|FILE",
    ),
    "sub_clusters": (
        "sub-clusters per component, which balance auto merges into clusters", "N",
    ),
    "neighbours": ("nearest neighbours to pair an image with", "N"),
    "descriptor": (
        "what neighbours are near in: pixels, pixels and oriented gradients (hog), kinds of "
        "patches, or what fits the images", ("auto", *DESCRIPTORS),
    ),
    "features": (
        "what q(y|x) sees in place of pixels: a pretrained encoder (dinov2-small, ORG/NAME on the "
        "Hugging Face Hub, a folder), or a file of features", "ENCODER",
    ),
    "augment": (
        f"augmentation of the images of a pair: none, auto (what suits the images), or of "
        f"{', '.join(KINDS)} with commas between", "KIND,...",
    ),
    "heads": ("last layers of the classifier to train side by side; the best is used", "N"),
    "sample_weight": ("weight of samples being recognised as of their component", "WEIGHT"),
}  # fmt: skip


def add_model_flags(parser: Parser) -> Any:
    """The fields of ModelConfig; a flag that is not given does not appear in the namespace.

    Answers their group, for more.
    """
    group = parser.add_argument_group("model")
    for name, (text, values) in MODEL_FIELDS.items():
        owners = owners_of(name)
        shown = f"{text} ({', '.join(owners)})" if owners else text
        _add_field(group, ModelConfig, name, shown, values)
    return group


def add_training_flags(parser: Parser) -> None:
    """The fields of TrainConfig but `seed`; absent from the namespace when not given."""
    paired = " and ".join(name for name, kind in MODELS.items() if kind.trained_by_pairs)
    for title, description, fields in (
        ("training", None, TRAINING_FIELDS),
        ("clustering", f"Neighbour pairs, for {paired}.", PAIR_FIELDS),
    ):
        group = parser.add_argument_group(title, description)
        for name, (text, values) in fields.items():
            _add_field(group, TrainConfig, name, text, values)


def _add_field(
    group: Any, config: type[Record], name: str, text: str, values: str | Iterable[str]
) -> None:
    """A flag of the field's own type, with its default; `values` are choices, or a metavar."""
    default, kind = getattr(config, name), get_type_hints(config)[name]
    shown = "" if default is None else f" (default: {default})"
    options: dict[str, Any] = {"choices": tuple(values)}
    if isinstance(values, str):
        of_type = number_or_auto if values == "K|auto" else (get_args(kind) or (kind,))[0]
        options = {"metavar": values, "type": of_type}
    group.add_argument(f"--{name}", default=argparse.SUPPRESS, help=text + shown, **options)
    for old, new in config.RENAMED.items():  # flags of earlier versions, without a line of help
        if new == name:
            options |= {"dest": name, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
            group.add_argument(f"--{old}", **options)


def add_model_file_flags(parser: Parser) -> None:
    """--model FILE, and sizes that are checked against it."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", required=True, metavar="FILE", help="from train.py: .npz or .safetensors"
    )
    for name in CHECKED:
        group.add_argument(f"--{name}", type=int, metavar="N", help="checked against the file")
    group.add_argument(
        "--config", metavar="FILE", help="JSON model configuration, for weights that carry none"
    )
