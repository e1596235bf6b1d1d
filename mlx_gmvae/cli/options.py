"""What is made of the flags that scripts share: configurations, a loaded model, its images."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from ..clustering.objective import BALANCES
from ..config import ModelConfig
from ..data.datasets import load_dataset
from ..data.published import PUBLISHED
from ..data.splits import Dataset, Splits
from ..data.store import DownloadError
from ..device.cache import cache_dir
from ..errors import InputError
from ..models import require_effect
from ..runs.checkpoint import ModelFile, load_model
from .flags import CHECKED


def given_fields(config: type, args: argparse.Namespace) -> dict[str, Any]:
    """The fields of a configuration that the command line sets."""
    names = {field.name for field in dataclasses.fields(config)}
    given = {n: value for n, value in vars(args).items() if n in names and value is not None}
    if "balance" in given:
        given["balance"] = _read_balance(given["balance"])
    if "features" in given:
        given["features"] = str(Path(given["features"]).absolute())
    return given


def _read_balance(value: str) -> str:
    """A name in BALANCES, or the numbers in a file of that name, with commas between."""
    if value in BALANCES:
        return value
    try:
        return ",".join(Path(value).read_text().replace(",", " ").split())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--balance is {value!r}; it must be {', '.join(BALANCES)}, or a file of K numbers "
            f"({error})"
        ) from None


def load_checked_model(args: argparse.Namespace) -> ModelFile:
    """The model in --model, if the sizes given on the command line agree with it."""
    loaded = load_model(args.model, _read_config(args.config) if args.config else None)
    for name in CHECKED:
        given, actual = getattr(args, name), getattr(loaded.model.config, name)
        if given is not None:
            require_effect(loaded.model.config, name)
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
            place = Path(args.data_dir or cache_dir()) / args.dataset
            raise InputError(
                f"{error}; put {PUBLISHED[args.dataset].wanted} into {place}"
            ) from None
        print(f"{error}: training on scikit-learn's 1,797 handwritten digits instead")
    data |= {"dataset": "digits", "image_size": args.image_size or [28, 28]}
    return load_dataset(**data, data_dir=args.data_dir), data
