"""What changes from step to step and epoch to epoch, as functions of the epochs done."""

import math
from typing import NamedTuple

import mlx.core as mx

from ..clustering.objective import balance_weight
from ..config import TrainConfig


class Weights(NamedTuple):
    """Of terms of the loss in one step: arrays, since Python floats would retrace the step.

    A NamedTuple, because it passes through `mx.compile` and `value_and_grad`.
    """

    kl: mx.array  # of the KL terms of the bound
    balance: mx.array  # lambda of the pair objective
    teaching: mx.array  # of the parts in it


def step_weights(
    config: TrainConfig, epochs_done: float, lesson: tuple[float, float] | None = None
) -> Weights:
    """All that change from step to step. `lesson` are the epochs in which parts teach ever less."""
    kl, balance = kl_weight(config, epochs_done), balance_weight(config, epochs_done)
    return Weights(mx.array(kl), mx.array(balance), mx.array(teaching_weight(lesson, epochs_done)))


def teaching_weight(lesson: tuple[float, float] | None, epochs_done: float) -> float:
    """How much parts matter: all until they are put together, then ever less."""
    if lesson is None:
        return 1.0
    start, end = lesson
    return min(1.0, max(0.0, (end - epochs_done) / (end - start)))


def learning_rate(config: TrainConfig, epochs_done: float) -> float:
    """Adam's rate: constant, or half a cosine from `lr` to 0 over each stage between refits."""
    if config.lr_schedule == "constant":
        return config.lr
    bounds = sorted({0, *config.refits, config.epochs})
    stage = max(number for number, first in enumerate(bounds[:-1]) if first <= epochs_done)
    first, last = bounds[stage], bounds[stage + 1]
    return config.lr * half_cosine((epochs_done - first) / (last - first))


def half_cosine(share_done: float) -> float:
    """From 1 to 0 as the share that is done goes from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * share_done))


def kl_weight(config: TrainConfig, epochs_done: float) -> float:
    """The weight of the KL terms, rising linearly from 0 over `kl_anneal` epochs.

    0 in vade's pretraining, which is then an autoencoder: a KL from one Gaussian would push the
    clusters together that the mixture is to find.
    """
    since = epochs_done - (config.pretrain_epochs or 0)
    if since < 0:
        return 0.0
    ramp = min(1.0, since / config.kl_anneal) if config.kl_anneal else 1.0
    return config.kl_weight * ramp
