"""Configurations, models and images from the flags that the scripts share."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..clustering.pair_loss import BALANCES
from ..config import ModelConfig
from ..data.dataset_spec import DatasetSpec
from ..data.downloads import DownloadError, expanded
from ..data.published import PUBLISHED
from ..data.splits import Dataset, Splits
from ..errors import InputError
from ..models import require_effect
from ..runs import provenance
from ..runs.checkpoint import ModelFile, load_model
from ..system.cache import cache_dir
from .flags import CHECKED


def given_fields(config: type, args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of a configuration that the command line sets."""
    names = {field.name for field in dataclasses.fields(config)}
    given = {n: value for n, value in vars(args).items() if n in names and value is not None}
    if "balance" in given:
        given["balance"] = _read_balance(given["balance"])
    if "features" in given:
        given["features"] = _absolute(given["features"])
    return given


def _absolute(features: str) -> str:
    """Return the absolute path of a file or folder; keep the name of an encoder on the Hub."""
    return str(Path(features).absolute()) if expanded(features).exists() else features


def _read_balance(value: str) -> str:
    """Return a name in BALANCES, or the numbers in a file of that name, separated by commas."""
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
    """Load --model. Raises InputError if a size on the command line differs from the model's."""
    loaded = load_model(args.model, _read_config(args.config) if args.config else None)
    for name in CHECKED:
        given, actual = getattr(args, name), getattr(loaded.model.config, name)
        if given is not None:
            require_effect(loaded.model.config, name)
            if given != actual:
                raise InputError(f"--{name} is {given}, but {args.model} has {actual}")
    return loaded


def _read_config(path: str) -> ModelConfig:
    try:
        values = json.loads(Path(path).read_text())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    return ModelConfig.from_dict(values)


class ModelData(NamedTuple):
    """Images for a trained model, and whether they are from the dataset it was trained on."""

    splits: Splits
    is_own: bool

    def images(self, split: str) -> Dataset:
        """Return the images of a split, and print how many if they are a part of the dataset.

        Raises InputError if there are none.
        """
        dataset, num = self.splits.named(split), sum(map(len, self.splits))
        if split == "all":
            dataset = self.splits.whole()
        if not len(dataset):
            raise InputError(f"{dataset.name} has no {split} images; use --split all")
        if len(dataset) < num:
            print(f"{len(dataset):,} {split} images of {num:,} (--split all for all of them)")
        return dataset

    @property
    def usual_split(self) -> str:
        """The default split of cluster.py: "test" if the model's dataset has one, else "all"."""
        return "all" if not self.is_own or self.splits.train.is_divided else "test"

    def parts_of(self, dataset: Dataset) -> np.ndarray | None:
        """Return "train" or "test" for each image, (N,), or None for another dataset."""
        return self.splits.parts_of(dataset) if self.is_own else None


def load_model_data(
    args: argparse.Namespace, loaded: ModelFile, both_parts: bool = False
) -> ModelData:
    """Load the images named on the command line, by default those that the model was trained on.

    They are converted to the model's size and channels. Another dataset may have a single image,
    unless training and test images are needed (`both_parts`). Raises InputError.
    """
    config = loaded.model.config
    is_own, fit, bits = args.dataset is None, args.fit, args.bits
    if loaded.data or is_own:
        own = DatasetSpec.from_dict(loaded.data, args.model)
        is_own = is_own or own.is_named_by(args.dataset)
        fit, bits = fit or own.fit, bits or own.bits
    if tuple(args.image_size or config.image_size) != tuple(config.image_size):
        raise InputError(
            f"--image_size is {_by(args.image_size)}, but {args.model} has "
            f"{_by(config.image_size)}; leave out --image_size"
        )
    if is_own:
        source = dataclasses.replace(
            own,
            classes=args.classes or own.classes,
            fit=fit,
            labels=(own.labels or bool(args.labels)) and not args.no_labels,
            bits=bits,
        )
        if source.is_gone():
            raise InputError(
                f"{source.path or source.dataset}, on which {args.model} was trained, no longer "
                "exists; give the new place of its images, or other images, with --dataset"
            )
    else:
        source = DatasetSpec.typed(args.dataset, args.classes, fit, not args.no_labels, bits)
    least = 2 if is_own or both_parts else 1
    splits = source.load(args.data_dir, config.image_size, config.channels, least)
    say_notes(splits, fitted=not is_own)
    if is_own and source.classes == own.classes:
        warn_of_other_images(splits.train, loaded.data.get("training_images"))
    return ModelData(splits, is_own)


def warn_of_other_images(train: Dataset, before: object) -> None:
    """Print a warning if the dataset has changed since the training, and so has its split."""
    if isinstance(before, int) and before != len(train):
        print(
            f"{train.name} has {len(train):,} training images now, but the model was trained on "
            f"{before:,}: some images of the test split may have been used in training",
            file=sys.stderr,
        )


def load_resumed(
    args: argparse.Namespace, source: DatasetSpec, config: ModelConfig, record: dict[str, Any]
) -> Splits:
    """Load the images of a resumed run. Raises InputError if they do not exist."""
    if source.is_gone():
        may_move = ", or give the new place of its images with --dataset"
        raise InputError(
            f"{source.path}, on which the run in {args.resume} was trained, no longer exists; "
            "put it back" + (may_move if provenance.knows_images(record) else "")
        )
    splits = source.load(args.data_dir, config.image_size, config.channels)
    say_notes(splits, fitted=False)
    return splits


def source_now(
    args: argparse.Namespace, source: DatasetSpec, record: dict[str, Any]
) -> DatasetSpec:
    """Return the place of the images of a resumed run: --dataset, or the place stored in the run.

    Raises InputError if the run has no checksum to recognise the images by.
    """
    if args.dataset is None:
        return source
    if not provenance.knows_images(record):
        raise InputError(
            f"--dataset cannot change: the run in {args.resume} has no checksum of its images; put "
            "them back where they were"
        )
    return DatasetSpec.typed(args.dataset, source.classes, source.fit, source.labels, source.bits)


def say_notes(splits: Splits, fitted: bool) -> None:
    """Print the notes about the images on stderr and, if `fitted`, how they were resized."""
    for line in splits.train.notes:
        print(line, file=sys.stderr)
    if fitted and splits.train.fitted:
        print(splits.train.fitted, file=sys.stderr)


def load_or_fall_back(args: argparse.Namespace) -> tuple[Splits, DatasetSpec]:
    """Return the training data named on the command line, and how to load it again.

    Without --dataset they are MNIST or, if it cannot be downloaded, scikit-learn's digits.
    """
    how, size = (args.classes, args.fit, not args.no_labels, args.bits), args.image_size
    source = DatasetSpec.typed(args.dataset or "mnist", *how)
    try:
        splits = source.load(args.data_dir, size)
    except DownloadError as error:
        if args.dataset:
            place = Path(args.data_dir or cache_dir()) / args.dataset
            raise InputError(
                f"{error}; put {PUBLISHED[args.dataset].wanted} into {place}"
            ) from None
        print(f"{error}: training on scikit-learn's 1,797 handwritten digits instead")
        source = DatasetSpec.typed("digits", *how)
        return source.load(args.data_dir, size), source
    say_notes(splits, fitted=True)
    return splits, dataclasses.replace(source, bits=splits.train.bits)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
