"""Schedules: learning rate and weights of the loss, as functions of the epochs done."""

import mlx.core as mx

from ..clustering.pair_objective import Weights
from ..clustering.phases import Merged, balance_weight, half_cosine
from ..config import TrainConfig


def step_weights(config: TrainConfig, epochs_done: float, merged: Merged | None = None) -> Weights:
    """Return all weights of the loss that change from step to step."""
    kl, balance = kl_weight(config, epochs_done), balance_weight(config, epochs_done)
    distillation = distillation_weight(merged, epochs_done)
    return Weights(mx.array(kl), mx.array(balance), mx.array(distillation))


def distillation_weight(merged: Merged | None, epochs_done: float) -> float:
    """Return the weight of the sub-clusters: 1 until they are merged, then falling to 0."""
    if merged is None:
        return 1.0
    start, end = merged.window
    return min(1.0, max(0.0, (end - epochs_done) / (end - start)))


def learning_rate(config: TrainConfig, epochs_done: float) -> float:
    """Return Adam's learning rate: constant, or half a cosine from `lr` to 0 between refits."""
    if config.lr_schedule == "constant":
        return config.lr
    bounds = sorted({0, *config.refits, config.epochs})
    current = max(number for number, first in enumerate(bounds[:-1]) if first <= epochs_done)
    first, last = bounds[current], bounds[current + 1]
    return config.lr * half_cosine((epochs_done - first) / (last - first))


def kl_weight(config: TrainConfig, epochs_done: float) -> float:
    """Return the weight of the KL terms, rising linearly from 0 over `kl_anneal` epochs.

    It is 0 in vade's pretraining, which trains an autoencoder: a KL term with a single Gaussian
    would push together the clusters that the mixture should find.
    """
    since = epochs_done - (config.pretrain_epochs or 0)
    if since < 0:
        return 0.0
    ramp = min(1.0, since / config.kl_anneal) if config.kl_anneal else 1.0
    return config.kl_weight * ramp
