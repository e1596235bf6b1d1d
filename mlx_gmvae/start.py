"""A run from the command line, new or resumed: its images, its model, its folder."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from . import distributed, options
from .config import ModelConfig, TrainConfig, training_of
from .data.splits import Splits
from .defaults import for_set_size
from .errors import InputError
from .models import LatentVariableModel, build_model
from .runs import RunFolder, run_name
from .summary import SummaryWriter, require_tensorboard
from .training import Trainer


@dataclass
class Run:
    """What is trained on what, and where it is written."""

    folder: RunFolder
    splits: Splits
    data: dict[str, Any]  # dataset, image_size, classes
    trainer: Trainer
    summary: SummaryWriter | None = None


def new_run(args: argparse.Namespace, parent: Path | None = None) -> Run:
    """A run in its own folder or, of several seeds, in a folder of its seed below `parent`."""
    splits, data = options.load_or_fall_back(args)
    *image_size, channels = splits.train.image_shape
    given = options.given_fields(ModelConfig, args)
    shape = {"image_size": image_size, "channels": channels}
    model_config = ModelConfig.from_dict(given | shape)
    for name in given:
        model_config.require_effect(name)
    if args.summary:
        require_tensorboard()
    given = options.given_fields(TrainConfig, args)
    train_config = for_set_size(TrainConfig.from_dict(given), splits.train, set(given))
    train_config = training_of(train_config, model_config, set(given))
    mx.random.seed(train_config.seed)
    model = build_model(model_config)
    if args.seeds and not train_config.pair_weight:
        raise InputError("--seeds needs the pair objective, which compares runs without labels")
    name = run_name(model_config, data["dataset"])
    if parent or not distributed.is_first():  # only the first process writes
        folder = RunFolder(parent or Path())
    else:
        folder = RunFolder.create(args.outdir, name, args.overwrite)
    trainer = make_trainer(model, splits, train_config, folder)
    # Only now, when nothing can be refused any more, is an earlier run given up.
    if args.overwrite and not parent and distributed.is_first():
        folder.clear()
    if args.seeds:
        folder = folder.of_seed(train_config.seed)
    return Run(folder, splits, data, trainer, make_summary(args, folder))


def make_summary(args: argparse.Namespace, folder: RunFolder) -> SummaryWriter | None:
    wanted = args.summary and distributed.is_first()
    return SummaryWriter(folder.path / "summary") if wanted else None


def make_trainer(
    model: LatentVariableModel, splits: Splits, config: TrainConfig, folder: RunFolder
) -> Trainer:
    images = splits.train.images
    neighbours = None
    if config.pair_weight:
        k = min(config.neighbours, len(images) - 1)
        built = distributed.is_first()  # by one, for all
        neighbours = distributed.from_first(
            folder.load_neighbours(images, config)
            if built
            else np.empty((len(images), k), np.int32)
        )
    return Trainer(model, images, config, neighbours)


def resumed_run(args: argparse.Namespace) -> Run:
    given = options.given_fields(ModelConfig, args) | options.given_fields(TrainConfig, args)
    given |= {name: vars(args)[name] for name in ("dataset", "classes", "outdir")}
    fixed = [name for name in given if name != "epochs" and given[name] is not None]
    if fixed:
        raise InputError(f"--{fixed[0]} cannot change in a resumed run; only --epochs can")
    folder, saved = RunFolder.open(args.resume)
    splits = options.load_and_report(**saved.data, data_dir=args.data_dir)
    options.check_shape(splits.train, folder.state, saved.model)
    epochs = getattr(args, "epochs", saved.training.epochs)
    if saved.training.mutual_iterations is not None and epochs != saved.training.epochs:
        raise InputError("--epochs cannot change in a resumed vae-gmm: its iterations share them")
    train_config = TrainConfig.from_dict(saved.training.to_dict() | {"epochs": epochs})
    trainer = make_trainer(build_model(saved.model), splits, train_config, folder)
    folder.restore(trainer, saved)
    if trainer.is_done and (folder.path / "metrics.json").exists():
        raise InputError(
            f"the run in {folder.path} is finished after {trainer.epoch} epochs; give more --epochs"
        )
    return Run(folder, splits, saved.data, trainer, make_summary(args, folder))
