"""Lines that train.py prints before a run starts and after each epoch."""

import numpy as np

from ..clustering import frozen
from ..device import backend
from ..formatting import duration
from ..models import effective_options
from ..training import memory
from ..training.trainer import Trainer
from . import profiling
from .script import print_options
from .start import Run


def print_summary(run: Run) -> None:
    """Print the options in use, the machine, the data, and the memory of a training step."""
    model, splits, config = run.trainer.model, run.splits, run.trainer.config
    print_options(effective_options(model.config) | config.effective())
    for name, reason in run.record.get("decided", {}).items():
        if name != "K":  # the search for K has printed it
            print(f"decided by the images: {name} {reason}")
    print(backend.describe())
    parameters = sum(value.size for value in model.arrays().values())
    print(f"data: {splits.train.name}, {len(splits.train)} training and {len(splits.test)} test "
          f"images of {splits.train.image_shape}")  # fmt: skip
    print(f"run: {run.folder.path}")
    print(f"number of trainable parameters: {parameters:,}")
    batchsize = run.trainer.batchsize
    step = memory.step_bytes(model.config, config, batchsize, parameters)
    print(memory.describe(step, batchsize, splits.train.images))


def print_estimate(trainer: Trainer) -> None:
    """Print the expected duration of the run, from the time of one step that is then undone."""
    if trainer.objective.clusters_first and trainer.epoch == trainer.step == 0:
        steps = frozen.STEPS + frozen.VOTE_STEPS
        print(f"before training: {steps:,} steps to find clusters in the features")
    print("compiling a training step", flush=True)
    epochs, steps = trainer.config.epochs - trainer.epoch, trainer.steps_per_epoch
    seconds = epochs * steps * profiling.seconds_per_step(trainer)
    print(f"training: {epochs} epochs of {steps} steps, about {duration(seconds)}", flush=True)


OUTCOMES = {
    "agreed": "q(y|x) agrees with them",
    "doubted": "they separate too many neighbours, so q(y|x) keeps its own clusters",
    "distil": "q(y|x) learns them by distillation",
}


def merge_line(trainer: Trainer) -> str:
    """Return a line about the merge of the sub-clusters, or "" before it."""
    sub_clusters = trainer.objective.sub_clusters
    if sub_clusters is None or trainer.merged is None:
        return ""
    sizes = " ".join(f"{share:.0%}" for share in np.sort(sub_clusters.sizes)[::-1])
    line = f"{len(sub_clusters.groups)} sub-clusters merged: clusters of {sizes} of the images; "
    return line + OUTCOMES[trainer.merged.outcome]


def step_line(trainer: Trainer) -> str:
    """Return a line with the progress of an epoch and its mean loss so far."""
    loss = float(trainer.totals[0]) / trainer.step
    steps = f"{trainer.step:,} of {trainer.steps_per_epoch:,} steps"
    return f"epoch {trainer.epoch + 1}: {steps} | Loss {loss:10.3f} | Time {trainer.seconds:7.1f} s"
