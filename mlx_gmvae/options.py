"""The flags that scripts share, and what is made of them: data, configurations, a loaded model."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from .checkpoint import ModelFile, load_model
from .cli import Parser
from .config import (
    ARCHS,
    AUGMENTATIONS,
    DESCRIPTORS,
    LIKELIHOODS,
    LR_SCHEDULES,
    MODELS,
    POSTERIORS,
    ModelConfig,
    TrainConfig,
)
from .data.datasets import NAMES, load_dataset
from .data.download import DownloadError
from .data.published import PUBLISHED
from .data.splits import Dataset, Splits
from .data.store import default_data_dir
from .errors import InputError

Field = tuple[str, str, dict[str, Any]]  # name, help, options of add_argument
CHECKED = ("latent_dims", "max_filters", "K")


def add_device_flags(parser: Parser) -> None:
    """--cpu, and --seed (None if it is not given, which means 0)."""
    group = parser.add_argument_group("device")
    group.add_argument("--cpu", action="store_true", help="use the CPU even if there is a GPU")
    group.add_argument("--seed", type=int, metavar="N", help="random seed (default: 0)")


def add_data_flags(parser: Parser, default_dataset: str) -> None:
    """--dataset, --data_dir, --image_size, --classes."""
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
    group.add_argument(
        "--image_size", type=int, nargs=2, metavar=("H", "W"), help="resize images to H x W"
    )
    group.add_argument("--classes", nargs="+", metavar="NAME", help="keep only these classes")


def add_model_flags(parser: Parser) -> None:
    """The fields of ModelConfig; a flag that is not given does not appear in the namespace."""
    group = parser.add_argument_group("model")
    fields: list[Field] = [
        ("model", "which model", {"choices": MODELS}),
        ("arch", "convolutional or dense networks", {"choices": ARCHS}),
        ("latent_dims", "dimensions of z", {"type": int, "metavar": "D"}),
        ("K", "number of components (all models but vae)", {"type": int}),
        ("w_dims", "dimensions of the style w (gmvae)", {"type": int, "metavar": "M"}),
        (
            "posterior",
            "q(y|.) of the gmvae: a classifier's, or Bayes' rule at z and w",
            {"choices": POSTERIORS},
        ),
        ("likelihood", "of the pixels given z", {"choices": LIKELIHOODS}),
        ("sigma", "of the gaussian likelihood", {"type": float}),
        (
            "max_filters",
            "channels of the coarsest conv stage; finer ones halve it, down to 16",
            {"type": int, "metavar": "N"},
        ),
        ("hidden_dims", "width of the mlp layers", {"type": int, "metavar": "N"}),
        (
            "num_layers",
            "conv stages (default: by image size) or mlp hidden layers (default: 2)",
            {"type": int, "metavar": "N"},
        ),
        ("mc_samples", "draws of the latents per image", {"type": int, "metavar": "N"}),
    ]
    for name, text, options in fields:
        _add_field(group, ModelConfig, name, text, options)


def add_training_flags(parser: Parser) -> None:
    """The fields of TrainConfig but `seed`; absent from the namespace when not given."""
    group = parser.add_argument_group("training")
    fields: list[Field] = [
        ("epochs", "passes over the training images; more for small sets", {"type": int}),
        ("batchsize", "images per step", {"type": int, "metavar": "N"}),
        ("lr", "Adam's learning rate", {"type": float}),
        ("recon_weight", "weight of the reconstruction", {"type": float}),
        ("kl_weight", "weight of the KL terms", {"type": float}),
        (
            "kl_anneal",
            "raise the KL weight from 0 over so many epochs",
            {"type": int, "metavar": "EPOCHS"},
        ),
        (
            "lr_schedule",
            "cosine lets the learning rate fall to 0 at the last epoch",
            {"choices": LR_SCHEDULES},
        ),
        ("clip_grad", "largest gradient norm", {"type": float, "metavar": "NORM"}),
        (
            "early_stopping",
            "hold out a tenth of the training images and stop when their bound has not improved "
            "for so many epochs; the best epoch's weights are kept",
            {"type": int, "metavar": "PATIENCE"},
        ),
        (
            "pretrain_epochs",
            "epochs before vade's mixture is fitted to the latents (default: a third)",
            {"type": int, "metavar": "EPOCHS"},
        ),
        (
            "mutual_iterations",
            "times that vae-gmm trains with the mixture fitted before (default: 4); the epochs "
            "are shared evenly, the first share without a mixture",
            {"type": int, "metavar": "N"},
        ),
    ]
    for name, text, options in fields:
        _add_field(group, TrainConfig, name, text, options)
    group = parser.add_argument_group("clustering", "Neighbour pairs, for models with components.")
    fields = [
        ("pair_weight", "weight of the pair objective; 0 leaves the plain ELBO", {"type": float}),
        ("pair_balance", "weight of the balance between clusters in it", {"type": float}),
        (
            "balance",
            "cluster sizes to expect: uniform, free, or a file of K numbers",
            {"metavar": "uniform|free|FILE"},
        ),
        ("neighbours", "nearest neighbours to pair an image with", {"type": int, "metavar": "N"}),
        (
            "descriptor",
            "what neighbours are near in: pixels, or pixels and oriented gradients (hog)",
            {"choices": DESCRIPTORS},
        ),
        ("augment", "distortions of the images of a pair", {"choices": AUGMENTATIONS}),
        (
            "heads",
            "last layers of the classifier to train side by side, of which the best is used",
            {"type": int, "metavar": "N"},
        ),
        (
            "sample_weight",
            "weight of samples being recognised as of their component",
            {"type": float},
        ),
    ]
    for name, text, options in fields:
        _add_field(group, TrainConfig, name, text, options)


def _add_field(group: Any, config: type, name: str, text: str, options: dict[str, Any]) -> None:
    default = getattr(config, name)
    shown = "" if default is None else f" (default: {default})"
    group.add_argument(f"--{name}", default=argparse.SUPPRESS, help=text + shown, **options)


def given_fields(config: type, args: argparse.Namespace) -> dict[str, Any]:
    """The fields of a configuration that the command line sets."""
    names = {field.name for field in dataclasses.fields(config)}
    given = {n: value for n, value in vars(args).items() if n in names and value is not None}
    if "balance" in given:
        given["balance"] = _read_balance(given["balance"])
    return given


def _read_balance(value: str) -> str:
    """ "uniform", "free", or the numbers in a file of that name, with commas between."""
    if value in ("uniform", "free"):
        return value
    try:
        return ",".join(Path(value).read_text().replace(",", " ").split())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--balance is {value!r}; it must be uniform, free, or a file of K numbers ({error})"
        ) from None


def add_model_file_flags(parser: Parser) -> None:
    """--model FILE, and sizes that are checked against it."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", required=True, metavar="FILE", help="an .npz from train.py")
    for name in CHECKED:
        group.add_argument(f"--{name}", type=int, metavar="N", help="checked against the file")
    group.add_argument(
        "--config", metavar="FILE", help="JSON model configuration, for weights that carry none"
    )


def load_checked_model(args: argparse.Namespace) -> ModelFile:
    """The model in --model, if the sizes given on the command line agree with it."""
    loaded = load_model(args.model, _read_config(args.config) if args.config else None)
    for name in CHECKED:
        given, actual = getattr(args, name), getattr(loaded.model.config, name)
        if given is not None:
            loaded.model.config.require_effect(name)
            if given != actual:
                raise InputError(f"--{name} is {given}, but {args.model} was made with {actual}")
    return loaded


def _read_config(path: str) -> ModelConfig:
    try:
        values = json.loads(Path(path).read_text())
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    return ModelConfig.from_dict(values)


def load_model_data(args: argparse.Namespace, loaded: ModelFile) -> Splits:
    """The images named on the command line, by default those that the model was trained on.

    Raises InputError if their shape is not the model's.
    """
    source, image_size, classes = args.dataset, args.image_size, args.classes
    if source is None:
        source = loaded.data.get("dataset")
        if not isinstance(source, str):
            raise InputError(f"{args.model} does not say what it was trained on; give --dataset")
        image_size = image_size or loaded.data.get("image_size")
        classes = classes or loaded.data.get("classes")
    splits = load_and_report(source, args.data_dir, image_size, classes)
    check_shape(splits.train, args.model, loaded.model.config)
    return splits


def load_and_report(*args: Any, **options: Any) -> Splits:
    """`load_dataset`, with what there is to say about the images on stderr."""
    splits = load_dataset(*args, **options)
    for note in splits.train.notes:
        print(note, file=sys.stderr)
    return splits


def check_shape(dataset: Dataset, model_path: str | Path, config: ModelConfig) -> None:
    """Raise InputError unless the images have the model's height, width and channels."""
    height, width, channels = dataset.image_shape
    if channels != config.channels:
        raise InputError(
            f"{model_path} is for images of {config.channels} channels, {dataset.name} has "
            f"{channels}"
        )
    if (height, width) != tuple(config.image_size):
        rows, columns = config.image_size
        raise InputError(
            f"{model_path} is for images of {rows} x {columns}, {dataset.name} has "
            f"{height} x {width}; add --image_size {rows} {columns} to resize them"
        )


def load_or_fall_back(args: argparse.Namespace) -> tuple[Splits, dict[str, Any]]:
    """The training data named on the command line, and its description for the model's file.

    With no --dataset: MNIST, or where it cannot be had, the digits that come with scikit-learn.
    """
    data: dict[str, Any] = {"dataset": args.dataset or "mnist", "image_size": args.image_size}
    data["classes"] = args.classes
    try:
        return load_and_report(**data, data_dir=args.data_dir), data
    except DownloadError as error:
        if args.dataset:
            place = Path(args.data_dir or default_data_dir()) / args.dataset
            raise InputError(
                f"{error}; put {PUBLISHED[args.dataset].wanted} into {place}"
            ) from None
        print(f"{error}: training on scikit-learn's 1,797 handwritten digits instead")
    data |= {"dataset": "digits", "image_size": args.image_size or [28, 28]}
    return load_dataset(**data, data_dir=args.data_dir), data
