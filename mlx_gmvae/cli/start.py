"""A run from the command line, new or resumed: its images, its model, its folder."""

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

from ..clustering.choices import fitted_model
from ..clustering.neighbours import nearest, unit_length
from ..config import ModelConfig, TrainConfig
from ..data.source import Source
from ..data.splits import Splits
from ..device import distributed
from ..errors import InputError
from ..models import MixtureModel, build_model, kind_of, require_effect
from ..report.plots import save_leaks
from ..report.tables import write_csv
from ..report.tensorboard import SummaryWriter, require_tensorboard
from ..runs import provenance
from ..runs.checkpoint import ModelFile, load_model
from ..runs.folder import RunFolder, SavedRun, run_name
from ..runs.lock import locked
from ..training.defaults import for_model, for_set_size
from ..training.division import divide, training_part
from ..training.initial import start_from
from ..training.number import SMALL_LEAK, Number, number_of_clusters, require_findable, rising
from ..training.trainer import Trainer
from . import options
from .flags import AUTO

LIGHT_AND_COLOUR = (
    "photographs by their pixels: clusters will follow light and colour; --features dinov2-small "
    "(pip install huggingface_hub) clusters them by what is in them"
)
MOST_SHOWN = 30  # clusters, in the picture of their number


@dataclass
class Run:
    """What is trained on what, where it is written, and with what it is made."""

    folder: RunFolder
    splits: Splits
    source: Source
    trainer: Trainer
    summary: SummaryWriter | None = None
    record: dict[str, Any] = field(default_factory=dict)  # of `provenance`

    def save(self) -> None:
        """All that is written of a training under way."""
        self.folder.save(self.trainer, self.source, self.record)


class Plan(NamedTuple):
    """What a run is to be, from the command line or from a file."""

    splits: Splits
    source: Source
    model: ModelConfig
    training: TrainConfig
    graph: np.ndarray | None = None  # the neighbours, if they are known already
    number: Number | None = None  # what --K auto found
    initial: ModelFile | None = None  # whose weights to start from
    origin: dict[str, str] | None = None  # its file: --overwrite may remove it

    def trainer(self) -> Trainer:
        """A new model, untrained. Raises InputError if it cannot be trained as planned."""
        mx.random.seed(self.training.seed)
        trainer = Trainer(build_model(self.model), self.splits.train.examples, self.training)
        if self.initial is not None:
            print(start_from(trainer, self.initial.model))
        return trainer


def planned(args: argparse.Namespace) -> Plan:
    """The images and options on the command line. Raises InputError if they cannot be used."""
    splits, source = options.load_or_fall_back(args)
    splits.train.require_outside(Path(args.outdir or "results"), "--outdir")
    *image_size, channels = splits.train.image_shape
    initial = load_model(args.init) if args.init else None
    given = options.given_fields(ModelConfig, args)
    is_auto = given.get("K") == AUTO
    if is_auto:
        given["K"] = 2  # as good as any to check the other options with
    shape = {"image_size": image_size, "channels": channels}
    training = options.given_fields(TrainConfig, args)
    if training.get("features") and sees_features(given):
        shape |= {"classifier": "features"}
    like = initial.model.config.to_dict() if initial else {}
    if like.get("model") != given.get("model", like.get("model")):
        like = {}  # another kind of model: what fits of it may still be taken over
    model_config = ModelConfig.from_dict(like | given | shape)
    if "classifier" not in given | shape and not like:
        model_config = fitted_model(model_config)
    for name in given:
        require_effect(model_config, name)
    if args.summary:
        require_tensorboard()
    train_config = for_set_size(TrainConfig.from_dict(training), splits.train, set(training))
    train_config = for_model(train_config, model_config, set(training))
    origin = provenance.file_of(args.init) if args.init else None
    plan = Plan(splits, source, model_config, train_config, initial=initial, origin=origin)
    if splits.train.files and model_config.classifier == "patches" and not train_config.features:
        print(LIGHT_AND_COLOUR, file=sys.stderr)
    if train_config.features:
        plan = with_features(plan, args.data_dir)
    return with_number(plan) if is_auto else plan


def sees_features(given: dict[str, Any]) -> bool:
    """Whether q(y|x) of the model on the command line is to see --features in place of pixels.

    Not if it is none of its own, or if other first layers were asked for: then they are for the
    neighbours alone.
    """
    kind = ModelConfig.from_dict({n: given[n] for n in ("model", "posterior") if n in given})
    is_own = kind_of(kind)
    return (
        issubclass(is_own, MixtureModel) and is_own.classifies(kind) and "classifier" not in given
    )


def with_features(plan: Plan, data_dir: str | None) -> Plan:
    """`plan` with the features that it names, for q(y|x) or for the neighbours alone."""
    from .seen import load_seen  # which runs without features need not load

    config = plan.training
    splits, encoder = load_seen(str(config.features), plan.splits, data_dir)
    features = splits.train.features
    assert features is not None
    if plan.model.classifier == "features":
        model = dataclasses.replace(plan.model, feature_dims=features.shape[1])
        source = dataclasses.replace(plan.source, encoder=encoder)
        return plan._replace(splits=splits, source=source, model=model)
    rows, _ = divide(len(features), config)
    return plan._replace(graph=nearest(unit_length(features[rows]), config.neighbours))


def with_number(plan: Plan) -> Plan:
    """`plan` with the number of components that its images suggest. Raises InputError."""
    require_findable(plan.model, plan.training)
    if distributed.size() > 1:
        raise InputError("--K auto runs in one process; find K there, then give it to all")
    images = training_part(plan.splits.train.examples, plan.training)
    say = partial(print, flush=True)
    number, graph = number_of_clusters(plan.model, plan.training, images, plan.graph, say)
    model = ModelConfig.from_dict(plan.model.to_dict() | {"K": number.clusters})
    return plan._replace(model=model, graph=graph, number=number)


def new_run(args: argparse.Namespace, held: ExitStack) -> Run:
    """A run in a folder of its own, from where it can be resumed before its first step.

    No other training may write there until `held` is closed.
    """
    plan = planned(args)
    trainer = plan.trainer()  # which refuses what cannot be trained, before anything is written
    if not distributed.is_first():  # only the first process writes, and knows where
        folder = RunFolder(Path(args.outdir or "RUN"))
        find_neighbours(trainer, folder, plan)
        return Run(folder, plan.splits, plan.source, trainer)
    name = run_name(plan.model, plan.source.dataset)
    with RunFolder.create(args.outdir, name, args.overwrite, held) as folder:
        find_neighbours(trainer, folder, plan)
        if args.overwrite:  # only now is an earlier run given up
            folder.clear()
        if plan.number:
            save_number(folder.path, plan.number)
        return begun(args, folder, plan, trainer)


def begun(args: argparse.Namespace, folder: RunFolder, plan: Plan, trainer: Trainer) -> Run:
    """A run that can be resumed before its first step."""
    record = provenance.started(plan.splits.train, args.command, plan.origin)
    folder.save_state(trainer, plan.source, record)
    summary = make_summary(args, folder)
    return Run(folder, plan.splits, plan.source, trainer, summary, record)


def save_number(folder: Path, number: Number) -> None:
    """The leaks of each number of clusters, as a table and as a picture."""
    rows = [{"clusters": k, "leak": leak} for k, leak in sorted(number.leaks.items())]
    write_csv(folder / "number.csv", rows)
    shown = [k for k in sorted(number.leaks) if k <= max(MOST_SHOWN, number.clusters)]
    leaks, fitted = ([each[k] for k in shown] for each in (number.leaks, rising(number.leaks)))
    save_leaks(folder / "number.png", shown, leaks, fitted, SMALL_LEAK, number.clusters)


def make_summary(args: argparse.Namespace, folder: RunFolder) -> SummaryWriter | None:
    wanted = args.summary and distributed.is_first()
    return SummaryWriter(folder.path / "summary") if wanted else None


def find_neighbours(trainer: Trainer, folder: RunFolder, plan: Plan) -> None:
    """The neighbour graph that the pair objective needs: found or read by one process, for all."""
    images, config = trainer.training_images, trainer.config
    if trainer.objective.pairs is None:
        return
    if distributed.is_first():
        own = folder.load_neighbours(images, config, plan.graph, plan.splits.train.crc32)
    else:
        own = np.empty((len(images), min(config.neighbours, len(images) - 1)), np.int32)
    trainer.neighbours = distributed.from_first(own)


def resumed_run(args: argparse.Namespace, held: ExitStack) -> Run:
    """The run in --resume where it left off. Raises InputError if it is finished."""
    refuse_changes(args)
    if Path(args.resume).is_dir() and distributed.is_first():
        held.enter_context(locked(Path(args.resume)))
    folder, saved = RunFolder.open(args.resume)
    source = options.source_now(args, saved.source, saved.record)
    splits = options.load_resumed(args, source, saved.model, saved.record)
    splits = with_saved_features(args, splits, source, saved.model, saved.training)
    epochs = getattr(args, "epochs", saved.training.epochs)
    if saved.training.mutual_iterations is not None and epochs != saved.training.epochs:
        raise InputError("--epochs cannot change in a resumed vae-gmm: its iterations share them")
    train_config = TrainConfig.from_dict(saved.training.to_dict() | {"epochs": epochs})
    run = continued(args, folder, saved, Plan(splits, source, saved.model, train_config))
    if source != saved.source and distributed.is_first():
        folder.move(source)
    return run


def continued(args: argparse.Namespace, folder: RunFolder, saved: SavedRun, plan: Plan) -> Run:
    """A run where its saved state left off.

    Raises InputError if it is finished and measured, or if the images are others now.
    """
    if args.summary:
        require_tensorboard()
    provenance.require_same_images(saved.record, plan.splits.train, str(folder.path))
    trainer = plan.trainer()
    folder.restore(trainer, saved)
    if trainer.is_done and folder.metrics.exists():
        raise InputError(
            f"the run in {folder.path} is finished after {trainer.epoch} epochs; give more --epochs"
        )
    find_neighbours(trainer, folder, plan)
    changes = provenance.changes(saved.record)
    if distributed.is_first():
        folder.metrics.unlink(missing_ok=True)  # what was measured of it holds no longer
        if changes:
            print(f"the run goes on with {changes}: its weights will not be bit for bit those of "
                  "an uninterrupted run", file=sys.stderr)  # fmt: skip
    record, data = saved.record, plan.splits.train
    record = provenance.resumed(record, data, args.command, trainer.epoch, trainer.step)
    summary = make_summary(args, folder)
    return Run(folder, plan.splits, plan.source, trainer, summary, record)


def with_saved_features(
    args: argparse.Namespace,
    splits: Splits,
    source: Source,
    model: ModelConfig,
    training: TrainConfig,
) -> Splits:
    """The images of a run that is resumed, with their features if its q(y|x) sees some."""
    if model.classifier != "features":
        return splits
    from .seen import as_before

    return as_before(source, str(training.features), splits, args.data_dir)


def refuse_changes(args: argparse.Namespace) -> None:
    """Raise InputError if a flag would change what is resumed."""
    given = options.given_fields(ModelConfig, args) | options.given_fields(TrainConfig, args)
    kept = ("image_size", "fit", "classes", "no_labels", "labels", "bits", "outdir")
    given |= {name: vars(args)[name] for name in kept}
    fixed = [name for name in given if name != "epochs" and given[name] is not None]
    if fixed:
        raise InputError(
            f"--{fixed[0]} cannot change in a resumed run; only --epochs can, and --dataset where "
            "the same images are elsewhere now"
        )
