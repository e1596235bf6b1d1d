"""New and resumed runs of train.py: images, model and run folder."""

import argparse
import dataclasses
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from ..config import ModelConfig, TrainConfig
from ..data.dataset_spec import DatasetSpec
from ..data.splits import Splits
from ..device import distributed
from ..errors import InputError
from ..hub.model_files import find_model
from ..models import build_model
from ..report.plots import save_conductances
from ..report.tables import write_csv
from ..report.tensorboard import SummaryWriter, require_tensorboard
from ..runs import provenance
from ..runs.checkpoint import ModelFile, load_model
from ..runs.lock import locked
from ..runs.run_folder import RunFolder, SavedRun, run_name
from ..training.initial import start_from
from ..training.resolve import Experiment, Options, resolve, resolve_training
from ..training.select_k import SelectedK, isotonic
from ..training.trainer import Trainer
from . import options

LIGHT_AND_COLOUR = (
    "photographs are clustered by their pixels, so clusters will follow light and colour; to "
    "cluster them by content, use --features dinov2-small (needs pip install huggingface_hub)"
)
MOST_SHOWN = 30  # numbers of clusters in select_k.png


@dataclass
class Run:
    """A run: its trainer, images, folder, and the record of its provenance."""

    folder: RunFolder
    splits: Splits
    source: DatasetSpec
    trainer: Trainer
    tensorboard: SummaryWriter | None = None
    record: dict[str, Any] = field(default_factory=dict)  # of `provenance`

    def save(self) -> None:
        """Save the model and the training state to the run folder."""
        self.folder.save(self.trainer, self.source, self.record)


class Plan(NamedTuple):
    """Images and resolved options of a run, from the command line or from a file."""

    splits: Splits
    source: DatasetSpec
    experiment: Experiment
    initial: ModelFile | None = None  # the model whose weights to start from
    origin: dict[str, str] | None = None  # its file, which --overwrite may remove

    def with_training(self, **fields: Any) -> "Plan":
        """Return a copy with other values of training options."""
        training = dataclasses.replace(self.experiment.training, **fields)
        return self._replace(experiment=dataclasses.replace(self.experiment, training=training))

    def trainer(self) -> Trainer:
        """Return a trainer of a new model. Raises InputError if it cannot be trained as planned."""
        experiment, images = self.experiment, self.splits.train.examples
        mx.random.seed(experiment.training.seed)
        trainer = Trainer(build_model(experiment.model), images, experiment.training)
        if self.initial is not None:
            print(start_from(trainer, self.initial.model))
        return trainer


def planned(args: argparse.Namespace) -> Plan:
    """Return the images and options of the command line. Raises InputError if they are invalid."""
    splits, source = options.load_or_fall_back(args)
    splits.train.require_outside(Path(args.outdir or "results"), "--outdir")
    found = find_model(args.init) if args.init else None
    initial = load_model(found.path) if found else None
    origin = provenance.file_of(*found) if found else None
    wanted = Options(
        options.given_fields(ModelConfig, args),
        options.given_fields(TrainConfig, args),
        initial.model.config.to_dict() if initial else {},
    )
    if args.tensorboard:
        require_tensorboard()
    encoder = None

    def load_features(name: str) -> np.ndarray:
        from .seen import load_seen  # not needed without features

        nonlocal splits, encoder
        splits, encoder = load_seen(name, splits, args.data_dir)
        assert splits.train.features is not None
        return splits.train.features

    experiment = resolve(wanted, splits.train, load_features, partial(print, flush=True))
    if experiment.model.classifier == "features":
        source = dataclasses.replace(source, encoder=encoder)
    elif splits.train.features is not None:  # only the neighbours needed them
        splits = Splits(*(dataclasses.replace(part, features=None) for part in splits))
    by_patches = experiment.model.classifier == "patches" and not experiment.training.features
    if splits.train.files and by_patches:
        print(LIGHT_AND_COLOUR, file=sys.stderr)
    return Plan(splits, source, experiment, initial, origin)


def new_run(args: argparse.Namespace, held: ExitStack) -> Run:
    """Create a run in a folder of its own, which can be resumed even before its first step.

    The folder stays locked until `held` is closed.
    """
    plan = planned(args)
    trainer = plan.trainer()  # raises InputError before anything is written
    if not distributed.is_first():  # only the first process writes, and knows the folder
        folder = RunFolder(Path(args.outdir or "RUN"))
        find_neighbours(trainer, folder, plan)
        return Run(folder, plan.splits, plan.source, trainer)
    name = run_name(plan.experiment.model, plan.source.dataset)
    with RunFolder.create(args.outdir, name, args.overwrite, held) as folder:
        find_neighbours(trainer, folder, plan)
        if args.overwrite:  # an earlier run is kept until everything else has succeeded
            folder.clear()
        if plan.experiment.selected:
            save_selection(folder.path, plan.experiment.selected)
        return begun(args, folder, plan, trainer)


def begun(args: argparse.Namespace, folder: RunFolder, plan: Plan, trainer: Trainer) -> Run:
    """Save the state of a new run, so that it can be resumed, and return the run."""
    reasons = plan.experiment.reasons
    record = provenance.started(plan.splits.train, args.command, plan.origin, reasons)
    folder.save_state(trainer, plan.source, record)
    tensorboard = make_writer(args, folder)
    return Run(folder, plan.splits, plan.source, trainer, tensorboard, record)


def save_selection(folder: Path, selected: SelectedK) -> None:
    """Write the conductance of each number of clusters as a table and a diagram."""
    found, limits = selected.conductances, selected.limits
    rows = [
        {"clusters": k, "conductance": value, "limit": limits[k]}
        for k, value in sorted(found.items())
    ]
    write_csv(folder / "select_k.csv", rows)
    shown = [k for k in sorted(found) if k <= max(MOST_SHOWN, selected.clusters)]
    values, fitted, below = ([each[k] for k in shown] for each in (found, isotonic(found), limits))
    path = folder / "select_k.png"
    save_conductances(path, shown, values, fitted, below, selected.clusters)


def make_writer(args: argparse.Namespace, folder: RunFolder) -> SummaryWriter | None:
    wanted = args.tensorboard and distributed.is_first()
    return SummaryWriter(folder.path / "tensorboard") if wanted else None


def find_neighbours(trainer: Trainer, folder: RunFolder, plan: Plan) -> None:
    """Set the trainer's neighbour graph; the first process computes or reads it for all."""
    images, config = trainer.training_images, trainer.config
    if not trainer.needs_neighbours:
        return
    if distributed.is_first():
        own = folder.load_neighbours(images, config, plan.experiment.graph, plan.splits.train.crc32)
    else:
        own = np.empty((len(images), min(config.neighbours, len(images) - 1)), np.int32)
    trainer.neighbours = distributed.broadcast(own)


def resumed_run(args: argparse.Namespace, held: ExitStack) -> Run:
    """Return the run in --resume at its saved state. Raises InputError if it is finished."""
    refuse_changes(args)
    if Path(args.resume).is_dir() and distributed.is_first():
        held.enter_context(locked(Path(args.resume)))
    folder, saved = RunFolder.open(args.resume)
    source = options.source_now(args, saved.source, saved.record)
    splits = options.load_resumed(args, source, saved.model, saved.record)
    splits = with_saved_features(args, splits, source, saved.model, saved.training)
    epochs = getattr(args, "epochs", saved.training.epochs)
    if saved.training.mutual_iterations is not None and epochs != saved.training.epochs:
        raise InputError(
            "--epochs cannot change when a vae-gmm is resumed, because its iterations share them"
        )
    train_config = TrainConfig.from_dict(saved.training.to_dict() | {"epochs": epochs})
    examples = splits.train.examples  # versions before 0.3 saved unresolved options
    train_config, _ = resolve_training(train_config, saved.model, examples)
    plan = Plan(splits, source, Experiment(saved.model, train_config))
    run = continued(args, folder, saved, plan)
    if source != saved.source and distributed.is_first():
        folder.move(source)
    return run


def continued(args: argparse.Namespace, folder: RunFolder, saved: SavedRun, plan: Plan) -> Run:
    """Restore a run from its saved state.

    Raises InputError if it is finished and evaluated, or if the images have changed.
    """
    if args.tensorboard:
        require_tensorboard()
    provenance.require_same_images(saved.record, plan.splits.train, str(folder.path))
    trainer = plan.trainer()
    folder.restore(trainer, saved)
    if trainer.is_done and folder.metrics.exists():
        raise InputError(
            f"the run in {folder.path} is finished after {trainer.epoch} epochs; to train longer, "
            "give a larger --epochs"
        )
    find_neighbours(trainer, folder, plan)
    changes = provenance.changes(saved.record)
    if distributed.is_first():
        folder.metrics.unlink(missing_ok=True)  # these scores are outdated
        if changes:
            print(f"the run continues with {changes}: its weights will not be bit for bit those "
                  "of an uninterrupted run", file=sys.stderr)  # fmt: skip
    record, data = saved.record, plan.splits.train
    record = provenance.resumed(record, data, args.command, trainer.epoch, trainer.step)
    tensorboard = make_writer(args, folder)
    return Run(folder, plan.splits, plan.source, trainer, tensorboard, record)


def with_saved_features(
    args: argparse.Namespace,
    splits: Splits,
    source: DatasetSpec,
    model: ModelConfig,
    training: TrainConfig,
) -> Splits:
    """Return the images of a resumed run, with features if its classifier uses them."""
    if model.classifier != "features":
        return splits
    from .seen import as_before

    return as_before(source, str(training.features), splits, args.data_dir)


def refuse_changes(args: argparse.Namespace) -> None:
    """Raise InputError if a flag would change a resumed run."""
    given = options.given_fields(ModelConfig, args) | options.given_fields(TrainConfig, args)
    kept = ("image_size", "fit", "classes", "no_labels", "labels", "bits", "outdir")
    given |= {name: vars(args)[name] for name in kept}
    fixed = [name for name in given if name != "epochs" and given[name] is not None]
    if fixed:
        raise InputError(
            f"--{fixed[0]} cannot change in a resumed run; only --epochs can, and --dataset if the "
            "same images have moved"
        )
