"""Profile of an epoch, and training speed on each device of this machine."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..data.batches import as_float
from ..data.images import Examples
from ..device import distributed
from ..device.backend import STREAMS_VARIABLE, cores, has_gpu
from ..device.parallel import on_streams
from ..evaluation.scores import latents, responsibilities
from ..inputs import Batch, WithFeatures
from ..models import MixtureModel, build_model
from ..runs.checkpoint import save_arrays, save_model
from ..training.schedule import step_weights
from ..training.trainer import Trainer

WARM_UP, REPEATS = 2, 7
ENOUGH_SECONDS = 2.0


def phases(trainer: Trainer, test_images: Examples) -> dict[str, float]:
    """Return the seconds of each phase of an epoch, without changing the trainer.

    Each phase is the median of several runs. Forward, backward and optimiser are differences
    between compiled functions that contain more and more of a step, so they add up to the whole
    step. Evaluation (the posterior of the test images and, for a mixture, their components) and
    checkpoint count once per epoch.
    """
    with _left_as_it_was(trainer):
        batch = np.arange(trainer.batchsize)
        arrays = _arrays(trainer, batch)
        end = step_weights(trainer.config, trainer.config.epochs)
        state = [trainer.trained.state, mx.random.state]
        compiled = partial(mx.compile, inputs=state, outputs=state)
        objective, phase = trainer.objective, trainer.phase
        loss = compiled(lambda *inputs: objective.loss[phase](*inputs)[0])
        gradients = compiled(nn.value_and_grad(trainer.trained, objective.loss[phase]))
        step, captured = trainer.compiled_step()
        data = _median(lambda: _arrays(trainer, batch))
        augmentation = 0.0
        pixels, partners = arrays
        if objective.pairs and partners is not None and not isinstance(pixels, WithFeatures):
            augment = compiled(objective.pairs.augmentation[phase].__call__)
            both = as_float(mx.concatenate([pixels, partners]))
            augmentation = _median(lambda: [augment(both), mx.random.state])
        forward = _median(lambda: [loss(arrays, end), captured])
        backward = _median(lambda: [gradients(arrays, end), captured])
        whole = _median(lambda: [step(arrays, end, mx.array(0.0)), captured])
        per_step = {
            "data": data,
            "augmentation": augmentation,
            "forward": max(0.0, forward - augmentation),
            "backward": max(0.0, backward - forward),
            "optimiser": max(0.0, whole - backward),
        }
        seconds = {name: each * trainer.steps_per_epoch for name, each in per_step.items()}
        seconds["evaluation"] = _median(lambda: _evaluation(trainer, test_images), repeats=1)
        seconds["checkpoint"] = _median(lambda: _checkpoint(trainer), repeats=3)
    return {name: value for name, value in seconds.items() if value or name != "augmentation"}


def seconds_per_step(trainer: Trainer) -> float:
    """Return the seconds of a compiled training step, without changing the trainer."""
    with _left_as_it_was(trainer):
        step, captured = trainer.compiled_step()
        batch = _arrays(trainer, np.arange(distributed.shared_batchsize(trainer.batchsize)))
        weights = step_weights(trainer.config, 0)
        return _median(lambda: [step(batch, weights, mx.array(0.0)), captured], repeats=3)


def print_phases(seconds: dict[str, float], steps: int) -> None:
    """Print the result of `phases` as a table."""
    whole = sum(seconds.values())
    print(f"an epoch of {steps} steps: {whole:.2f} s")
    for name, value in seconds.items():
        print(f"  {name:<12}{value:9.2f} s {value / whole:7.1%}")


def print_devices(trainer: Trainer) -> None:
    """Print the speed of training on each device, with a trainer's model, images and options.

    The CPU is measured with one stream, and with one stream per core.
    """
    speeds = {}
    for num in sorted({1, cores()}):
        with on_streams(num):
            speeds[num] = images_per_second(trainer, mx.Device(mx.cpu))
        print(f"cpu: {speeds[num]:9.0f} images/s, {num} stream{'s' * (num > 1)}")
    if len(speeds) > 1:
        faster = max(speeds, key=lambda num: speeds[num])
        print(f"the CPU is faster with {STREAMS_VARIABLE}={faster} (the default is {cores()})")
    if has_gpu():
        print(f"gpu: {images_per_second(trainer, mx.Device(mx.gpu)):9.0f} images/s")
    else:
        print("gpu: none that MLX can use on this machine")


def images_per_second(trainer: Trainer, device: mx.Device) -> float:
    """Return the training speed on `device` of a new trainer like the given one."""
    before = mx.default_device()
    mx.set_default_device(device)
    try:
        model = build_model(trainer.model.config)
        there = Trainer(model, trainer.images, trainer.config, trainer.neighbours)
        return there.batchsize / seconds_per_step(there)
    finally:
        mx.set_default_device(before)


def _arrays(trainer: Trainer, rows: np.ndarray) -> Batch:
    both = (rows, rows) if trainer.objective.pairs else (rows,)
    return next(trainer.reader.batches(iter([both])))


def _evaluation(trainer: Trainer, images: Examples) -> Any:
    trainer.model.eval()
    latents(trainer.model, images)
    if isinstance(trainer.model, MixtureModel):
        responsibilities(trainer.model, images)
    trainer.model.train()
    return []


def _checkpoint(trainer: Trainer) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder) / "model.npz", trainer.model)
        save_arrays(Path(folder) / "state.npz", trainer.state()[0], {})
    return []


def _median(run: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Return the median seconds to evaluate the result of `run`, with fewer repeats if slow."""
    seconds: list[float] = []
    for number in range(WARM_UP + repeats):
        started = time.perf_counter()
        mx.eval(run())
        seconds.append(time.perf_counter() - started)
        # All processes must run equally often, because they communicate in each step.
        if distributed.any_process(bool(number) and sum(seconds) > ENOUGH_SECONDS):
            break
    first = min(WARM_UP, repeats - 1, len(seconds) - 1)
    return statistics.median(seconds[first:])


@contextmanager
def _left_as_it_was(trainer: Trainer) -> Iterator[None]:
    arrays, progress = trainer.state()
    arrays = {name: mx.array(np.array(value)) for name, value in arrays.items()}
    trainer.trained.train()
    try:
        yield
    finally:
        trainer.restore(arrays, progress)
