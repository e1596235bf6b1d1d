"""Several runs in one folder that differ only in their seed, of which the best is kept.

seeds.json in that folder stores the seeds and the configuration of the runs, so that --resume can
continue after an interruption, at any seed.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import ModelConfig, TrainConfig
from ..data.dataset_spec import DatasetSpec
from ..errors import InputError
from ..report import tables
from ..runs import provenance
from ..runs.lock import locked
from ..runs.run_folder import RunFolder, run_name
from ..training.resolve import Experiment
from . import options, start
from .start import Plan, Run


@dataclass
class Seeds:
    """Runs with `count` seeds, starting at the seed of `plan`, in sub-folders of `folder`."""

    folder: RunFolder
    plan: Plan
    count: int

    @property
    def numbers(self) -> range:
        first = self.plan.experiment.training.seed
        return range(first, first + self.count)

    def unfinished(self, args: argparse.Namespace) -> Iterator[Run]:
        """Yield each new or resumed run that is not yet trained or not yet evaluated."""
        for number in self.numbers:
            folder = self.folder.of_seed(number)
            plan = self.plan.with_training(seed=number)
            if folder.metrics.exists():  # written last
                continue
            with locked(folder.path):
                if folder.state.is_file():
                    _, saved = RunFolder.open(str(folder.path))
                    yield start.continued(args, folder, saved, plan)
                    continue
                trainer = plan.trainer()
                start.find_neighbours(trainer, folder, plan)
                yield start.begun(args, folder, plan, trainer)

    def pair_losses(self) -> dict[int, float]:
        """Return the pair loss of each seed, lowest first."""
        losses = {}
        for number in self.numbers:
            path = self.folder.of_seed(number).metrics
            try:
                losses[number] = float(json.loads(path.read_text())["pairs"]["pair_loss"])
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise InputError(f"{path} is damaged ({error}); remove it and resume") from None
        return dict(sorted(losses.items(), key=lambda item: item[1]))


def new_seeds(args: argparse.Namespace, held: ExitStack) -> Seeds:
    """Create the runs of --seeds in a new folder, which stays locked until `held` is closed.

    Raises InputError if they cannot be trained.
    """
    plan = start.planned(args)
    model, training = plan.experiment.model, plan.experiment.training
    if not training.pair_weight:
        raise InputError(
            "--seeds needs the pair loss to compare runs; train a gmvae or vade with --pair_weight "
            "above 0"
        )
    plan.with_training(seed=training.seed + args.seeds - 1)  # raises if it is too large
    trainer = plan.trainer()
    name = run_name(model, plan.source.dataset)
    with RunFolder.create(args.outdir, name, args.overwrite, held) as folder:
        start.find_neighbours(trainer, folder, plan)  # once for all seeds
        if args.overwrite:
            folder.clear()
        made_of = {"model": model.to_dict(), "training": training.to_dict()}
        made_of |= {"data": plan.source.to_dict(), "count": args.seeds}
        reasons, selected = plan.experiment.reasons, plan.experiment.selected
        started = provenance.started(plan.splits.train, args.command, reasons=reasons)
        made_of["record"] = started
        if selected:
            start.save_selection(folder.path, selected)
        tables.write_json(folder.seeds, made_of)
    experiment = replace(plan.experiment, graph=None)  # it is stored in the folder
    return Seeds(folder, plan._replace(experiment=experiment), args.seeds)


def is_cut_short(path: str) -> bool:
    """Return whether a folder has runs of --seeds of which the best is not chosen yet."""
    folder = RunFolder(Path(path))
    return folder.seeds.is_file() and not folder.state.is_file()


def resumed_seeds(args: argparse.Namespace, held: ExitStack) -> Seeds:
    """Load the runs of --seeds from the folder --resume. Raises InputError if it cannot."""
    start.refuse_changes(args)
    if "epochs" in args:
        raise InputError(f"--epochs cannot change while the seeds in {args.resume} are unfinished")
    folder = RunFolder(Path(args.resume))
    held.enter_context(locked(folder.path))
    try:
        saved = json.loads(folder.seeds.read_text())
        source = DatasetSpec.from_dict(saved["data"], folder.seeds)
        model = ModelConfig.from_dict(saved["model"])
        training = TrainConfig.from_dict(saved["training"])
        count, record = int(saved["count"]), dict(saved.get("record") or {})
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise InputError(f"{folder.seeds} does not describe runs ({error})") from None
    moved = options.source_now(args, source, record)
    splits = options.load_resumed(args, moved, model, record)
    splits = start.with_saved_features(args, splits, moved, model, training)
    provenance.require_same_images(record, splits.train, args.resume)
    seeds = Seeds(folder, Plan(splits, moved, Experiment(model, training)), count)
    if moved != source:
        for number in seeds.numbers:
            folder.of_seed(number).move(moved)
        tables.write_json(folder.seeds, saved | {"data": moved.to_dict()})
    return seeds
