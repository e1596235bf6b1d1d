"""Checks that stop a training: too few images, NaN or infinity, a state that does not fit."""

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from ..config import TrainConfig
from ..device import distributed
from ..errors import InputError
from ..models.base import LatentVariableModel
from ..models.mixture_model import MixtureModel

REMEDY = "lower --lr or set --clip_grad; what was saved before is kept"
MOST = 1e300  # whole numbers in JSON can exceed the largest float


def require_enough_images(
    model: LatentVariableModel, num_images: int, batchsize: int, config: TrainConfig
) -> None:
    """Raise InputError if a step, a refit or a process would have too few images."""
    if batchsize < 2 and isinstance(model, MixtureModel):
        raise InputError(
            f"a step of {batchsize} image cannot train a model with components; "
            "give more images or a larger --batchsize"
        )
    if config.refits and num_images < model.config.K:
        raise InputError(
            f"{num_images} images are too few for K = {model.config.K} components; give more "
            "images or a smaller --K"
        )
    distributed.shared_batchsize(batchsize)  # raises if it cannot be divided


def require_resolved(config: TrainConfig) -> None:
    """Raise InputError if the descriptor or augmentation is "auto", which `resolve` replaces."""
    names = ("augment",) if config.features else ("descriptor", "augment")
    for name in names:
        if config.pair_weight and getattr(config, name) == "auto":
            raise InputError(f"{name} is auto; resolve the configuration for the images first")


def require_finite_losses(totals: mx.array, names: Sequence[str], when: str) -> None:
    """Raise InputError with the name of the first term that is NaN or infinite.

    `totals` has the loss and then its terms, summed over the epoch so far. A sum that is not finite
    stays so in later steps.
    """
    values = np.array(totals)
    if not np.isfinite(values).all():
        bad = [
            name for name, value in zip(names, values[1:], strict=True) if not np.isfinite(value)
        ]
        value = next(value for value in values[::-1] if not np.isfinite(value))
        raise InputError(f"{(bad or ['the loss'])[0]} became {value} in {when}; {REMEDY}")


def not_finite(arrays: Mapping[str, mx.array]) -> str:
    """Return the name of the first array with NaN or infinity, found in one evaluation."""
    floats = {n: value for n, value in arrays.items() if mx.issubdtype(value.dtype, mx.floating)}
    are_finite = np.array(mx.stack([mx.isfinite(value).all() for value in floats.values()]))
    return "" if are_finite.all() else list(floats)[int(are_finite.argmin())]


def require_finite_state(arrays: Mapping[str, mx.array], when: str) -> None:
    """Raise InputError with the name of the first array that holds NaN or infinity."""
    name = not_finite(arrays)
    if name:
        raise InputError(f"{name} became NaN or infinite in {when}; {REMEDY}")


def require_like(found: Mapping[str, mx.array], expected: Mapping[str, mx.array]) -> None:
    """Raise ValueError unless saved arrays have the names, shapes and types of those to restore.

    Their values must be finite. Random keys may be those of another number of processes.
    """
    wrong = sorted(set(found) ^ set(expected))
    if wrong:
        raise ValueError(f"{wrong[0]} is missing or extra")
    for name, value in expected.items():
        given = found[name]
        is_key = given.shape == (2,) or (given.ndim == 2 and given.shape[1] == 2 and len(given) > 0)
        is_alike = given.shape == value.shape or (name == "random_key" and is_key)
        if given.dtype != value.dtype or not is_alike:
            raise ValueError(f"{name} is {given.shape} of {given.dtype}, not {value.shape}")
    if not_finite(found):
        raise ValueError(f"{not_finite(found)} is not finite")


def require_progress(progress: Any, steps_per_epoch: int) -> None:
    """Raise ValueError unless the JSON of a state describes the progress of a training."""
    if not isinstance(progress, dict):
        raise ValueError(f"its progress is {progress!r}")
    epoch, step, history = progress["epoch"], progress["step"], progress["history"]
    if not (_is_count(epoch) and _is_count(step) and step <= steps_per_epoch):
        raise ValueError(f"step {step!r} of epoch {epoch!r} is not possible")
    if not isinstance(history, list) or len(history) != epoch:
        raise ValueError("its history does not have one record per epoch")
    for number, record in enumerate(history, 1):
        is_record = isinstance(record, dict) and {"loss", "throughput", "seconds"} <= set(record)
        if not (is_record and record.get("epoch") == number):
            raise ValueError(f"epoch {number} of its history is not a valid record")
        if not all(type(value) is float or _is_number(value) for value in record.values()):
            raise ValueError(f"epoch {number} of its history has values that are not numbers")
    if not (_is_number(progress["seconds"]) and progress["seconds"] >= 0):
        raise ValueError("its time is not a number of seconds")


def required_graph(saved: mx.array, num_images: int) -> np.ndarray:
    """Return the neighbours (N, k) of a state. Raises ValueError unless they are rows of images."""
    graph = np.array(saved)
    if graph.dtype != np.int32 or graph.ndim != 2 or len(graph) != num_images or not graph.size:
        raise ValueError(f"neighbours are {graph.shape} of {graph.dtype}")
    if not (graph.min() >= 0 and graph.max() < num_images):
        raise ValueError(f"neighbours are not all from 0 to {num_images - 1}")
    return graph


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < MOST  # also false for NaN
