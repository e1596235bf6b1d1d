"""Callbacks of train.py: printed lines, pictures, checkpoints and TensorBoard."""

import time

from ..device import distributed
from ..device.randomness import random_rows
from ..evaluation.scores import reconstruct, sample_rows
from ..models import MixtureModel
from ..report.tensorboard import SummaryWriter
from ..report.training_pictures import save_progress
from ..training.callbacks import Callback, PrintEpochs
from ..training.trainer import Trainer
from .announce import merge_line, step_line
from .script import log_json
from .start import Run

SECONDS_BETWEEN_SAVES = 20  # at most this much training is lost in a crash
STEPS_BETWEEN_VOTES = 16
PICTURES_PER_RUN = 10
PICTURED_IMAGES = 64
SAMPLES_PER_COMPONENT = 10


def callbacks_of(run: Run, save_every: int | None, log_every: int | None) -> list[Callback]:
    """Return the callbacks of a run; only the first process prints and writes."""
    checkpoint = Checkpoint(run)
    if not distributed.is_first():
        return [checkpoint]
    every = save_every or max(1, run.trainer.config.epochs // PICTURES_PER_RUN)
    steps = [PrintSteps(log_every)] if log_every else []
    return [*steps, PrintMerge(run.trainer), PrintEpochs(), LogJson(), *tensorboard(run),
            Pictures(run, every), checkpoint]  # fmt: skip


class PrintSteps(Callback):
    """Print a line every `every` steps."""

    def __init__(self, every: int):
        self.every = every

    def on_step(self, trainer: Trainer) -> None:
        if trainer.step % self.every == 0:
            print(step_line(trainer), flush=True)


class PrintMerge(Callback):
    """Print a line when the sub-clusters have been merged."""

    def __init__(self, trainer: Trainer):
        self.before = merge_line(trainer)

    def on_epoch(self, trainer: Trainer, record: dict[str, float]) -> None:
        line = merge_line(trainer)
        if line != self.before:
            print(line)
            self.before = line


class LogJson(Callback):
    """Print a line of JSON per epoch, if --json is given."""

    def on_epoch(self, trainer: Trainer, record: dict[str, float]) -> None:
        log_json("epoch", record)


class TensorBoard(Callback):
    """Write the scalars of each epoch."""

    def __init__(self, writer: SummaryWriter):
        self.writer = writer

    def on_epoch(self, trainer: Trainer, record: dict[str, float]) -> None:
        self.writer.scalars(record, trainer.epoch)

    def on_end(self, trainer: Trainer) -> None:
        self.writer.close()


def tensorboard(run: Run) -> list[Callback]:
    return [TensorBoard(run.tensorboard)] if run.tensorboard else []


class Pictures(Callback):
    """Write reconstructions of a fixed random set of test images, and samples, every few epochs."""

    def __init__(self, run: Run, every: int):
        self.run = run
        self.every = every

    def on_epoch(self, trainer: Trainer, record: dict[str, float]) -> None:
        if not (trainer.is_done or trainer.epoch % self.every == 0):
            return
        model, images = trainer.model, self.run.splits.test.images
        originals = images[random_rows(len(images), PICTURED_IMAGES)]
        model.eval()
        rows = sample_rows(model, SAMPLES_PER_COMPONENT)
        pictures = save_progress(
            self.run.folder.path, trainer.epoch, originals, reconstruct(model, originals), rows,
            SAMPLES_PER_COMPONENT, in_clusters=isinstance(model, MixtureModel),
        )  # fmt: skip
        if self.run.tensorboard:
            self.run.tensorboard.pictures(pictures, trainer.epoch)


class Checkpoint(Callback):
    """Save the model and the state that --resume reads, every 20 seconds and at the end.

    It also saves the weights of the best epoch, and the model after each iteration of mutual
    learning.
    """

    def __init__(self, run: Run):
        self.run = run
        self.saved = time.monotonic()

    def on_step(self, trainer: Trainer) -> None:
        # Several processes must agree on this, which needs communication: not at every step.
        done = trainer.epoch * trainer.steps_per_epoch + trainer.step
        may_ask = distributed.size() == 1 or done % STEPS_BETWEEN_VOTES == 0
        is_due = time.monotonic() - self.saved > SECONDS_BETWEEN_SAVES
        if may_ask and distributed.any_process(is_due):
            trainer.collect_random_keys()
            self._save()
            self.saved = time.monotonic()

    def on_epoch(self, trainer: Trainer, record: dict[str, float]) -> None:
        if not distributed.is_first():
            return
        config, folder = trainer.config, self.run.folder
        if config.early_stopping and trainer.epoch == trainer.best_epoch:
            folder.save_best(trainer.model)
        if config.mutual_iterations is not None and trainer.epoch in config.refits:
            iteration = config.refits.index(trainer.epoch)
            folder.save_iteration(iteration, trainer.model, self.run.source, config)

    def on_end(self, trainer: Trainer) -> None:
        self._save()

    def _save(self) -> None:
        if distributed.is_first():
            self.run.save()
