"""A run from the command line, new or resumed: its images, its model, its folder."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from ..clustering.features import load_features
from ..config import ModelConfig, TrainConfig
from ..data.splits import Splits
from ..device import distributed
from ..errors import InputError
from ..models import build_model, require_effect
from ..report.tensorboard import SummaryWriter, require_tensorboard
from ..runs.folder import RunFolder, SavedRun, run_name
from ..training.defaults import for_model, for_set_size
from ..training.trainer import Trainer
from . import options


@dataclass
class Run:
    """What is trained on what, and where it is written."""

    folder: RunFolder
    splits: Splits
    data: dict[str, Any]  # dataset, image_size, classes
    trainer: Trainer
    summary: SummaryWriter | None = None


class Plan(NamedTuple):
    """What a run is to be, from the command line or from a file."""

    splits: Splits
    data: dict[str, Any]
    model: ModelConfig
    training: TrainConfig
    features: np.ndarray | None = None  # of the training images, given instead of a descriptor

    def trainer(self) -> Trainer:
        """A new model, untrained. Raises InputError if it cannot be trained as planned."""
        mx.random.seed(self.training.seed)
        return Trainer(build_model(self.model), self.splits.train.images, self.training)


def planned(args: argparse.Namespace) -> Plan:
    """The images and options on the command line. Raises InputError if they cannot be used."""
    splits, data = options.load_or_fall_back(args)
    *image_size, channels = splits.train.image_shape
    given = options.given_fields(ModelConfig, args)
    shape = {"image_size": image_size, "channels": channels}
    model_config = ModelConfig.from_dict(given | shape)
    for name in given:
        require_effect(model_config, name)
    if args.summary:
        require_tensorboard()
    given = options.given_fields(TrainConfig, args)
    train_config = for_set_size(TrainConfig.from_dict(given), splits.train, set(given))
    train_config = for_model(train_config, model_config, set(given))
    features = load_features(train_config.features, splits) if train_config.features else None
    return Plan(splits, data, model_config, train_config, features)


def new_run(args: argparse.Namespace) -> Run:
    """A run in a folder of its own, from where it can be resumed before its first step."""
    plan = planned(args)
    trainer = plan.trainer()  # which refuses what cannot be trained, before anything is written
    if not distributed.is_first():  # only the first process writes
        find_neighbours(trainer, RunFolder(Path()), plan)
        return Run(RunFolder(Path()), plan.splits, plan.data, trainer)
    name = run_name(plan.model, plan.data["dataset"])
    with RunFolder.create(args.outdir, name, args.overwrite) as folder:
        find_neighbours(trainer, folder, plan)
        if args.overwrite:  # only now is an earlier run given up
            folder.clear()
        folder.save_state(trainer, plan.data)
        return Run(folder, plan.splits, plan.data, trainer, make_summary(args, folder))


def make_summary(args: argparse.Namespace, folder: RunFolder) -> SummaryWriter | None:
    wanted = args.summary and distributed.is_first()
    return SummaryWriter(folder.path / "summary") if wanted else None


def find_neighbours(trainer: Trainer, folder: RunFolder, plan: Plan) -> None:
    """The neighbour graph that the pair objective needs: found or read by one process, for all."""
    images, config = trainer.images, trainer.config
    if trainer.objective.pairs is None:
        return
    if distributed.is_first():
        own = folder.load_neighbours(images, config, plan.features)
    else:
        own = np.empty((len(images), min(config.neighbours, len(images) - 1)), np.int32)
    trainer.neighbours = distributed.from_first(own)


def resumed_run(args: argparse.Namespace) -> Run:
    """The run in --resume where it left off. Raises InputError if it is finished."""
    refuse_changes(args)
    folder, saved = RunFolder.open(args.resume)
    splits = options.load_and_report(**saved.data, data_dir=args.data_dir)
    options.check_shape(splits.train, folder.state, saved.model)
    epochs = getattr(args, "epochs", saved.training.epochs)
    if saved.training.mutual_iterations is not None and epochs != saved.training.epochs:
        raise InputError("--epochs cannot change in a resumed vae-gmm: its iterations share them")
    train_config = TrainConfig.from_dict(saved.training.to_dict() | {"epochs": epochs})
    return continued(args, folder, saved, Plan(splits, saved.data, saved.model, train_config))


def continued(args: argparse.Namespace, folder: RunFolder, saved: SavedRun, plan: Plan) -> Run:
    """A run where its saved state left off. Raises InputError if it is finished and measured."""
    trainer = plan.trainer()
    folder.restore(trainer, saved)
    if trainer.is_done and folder.metrics.exists():
        raise InputError(
            f"the run in {folder.path} is finished after {trainer.epoch} epochs; give more --epochs"
        )
    find_neighbours(trainer, folder, plan)
    if distributed.is_first():  # what was measured of it holds no longer
        folder.metrics.unlink(missing_ok=True)
    return Run(folder, plan.splits, plan.data, trainer, make_summary(args, folder))


def refuse_changes(args: argparse.Namespace) -> None:
    """Raise InputError if a flag would change what is resumed."""
    given = options.given_fields(ModelConfig, args) | options.given_fields(TrainConfig, args)
    given |= {name: vars(args)[name] for name in ("dataset", "classes", "outdir")}
    fixed = [name for name in given if name != "epochs" and given[name] is not None]
    if fixed:
        raise InputError(f"--{fixed[0]} cannot change in a resumed run; only --epochs can")
