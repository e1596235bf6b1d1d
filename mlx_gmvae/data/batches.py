"""Evaluation of functions over large sets of uint8 images, in batches."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np

from ..device import forks
from ..device.async_evaluation import AsyncEvaluation
from ..device.backend import choose_fusing, on_gpu
from ..inputs import Inputs, WithFeatures
from ..system.progress_bar import progress
from .images import Examples, Featured

Item = TypeVar("Item")

BATCH_PIXELS = 1 << 20
DELAY = 2  # seconds before a progress bar appears


def as_float(images: mx.array | np.ndarray) -> mx.array:
    """Return uint8 pixels as float32 in [0, 1], and other numbers as float32, unscaled."""
    x = mx.array(images)
    return x.astype(mx.float32) / 255 if x.dtype == mx.uint8 else x.astype(mx.float32)


def as_inputs(images: np.ndarray | Featured) -> Inputs:
    """Return images as the input of a model: float pixels, with their features if there are any."""
    if isinstance(images, Featured):
        return WithFeatures(as_float(np.asarray(images.images[:])), mx.array(images.features))
    return as_float(images)


def in_batches(images: Examples, copies: int = 1, what: str = "") -> Iterator[Inputs]:
    """Yield uint8 images as batches of floats.

    A progress bar appears after two seconds. `copies` is how many copies of a batch the caller
    will make; batches are smaller for more copies, which limits the memory. Raises InputError in
    a process that was forked after MLX had been used.
    """
    forks.require_usable()
    size = batch_size(images.shape[1:], copies)
    with progress(total=len(images), desc=what, unit="im", delay=DELAY) as bar:
        for start in range(0, len(images), size):
            block = images[start : start + size]
            yield as_inputs(block)
            bar.update(len(block))


def over_batches(
    function: Callable[[Any], mx.array], images: Examples, copies: int = 1, what: str = ""
) -> np.ndarray:
    """Return the concatenated results of `function` over batches of float images.

    There is one evaluation per batch. On a GPU the function is compiled, and each batch is started
    before the result of the previous one is copied to the CPU.
    """
    in_flight = AsyncEvaluation()
    if on_gpu():
        choose_fusing()
        # Without the state of the generator, every batch would repeat the noise of the first.
        function = mx.compile(function, inputs=mx.random.state, outputs=mx.random.state)
    started = (in_flight.start(function(x)) for x in in_batches(images, copies, what))
    found = [np.array(each) for each in started if each is not None]
    last = in_flight.finish()
    return np.concatenate(found if last is None else [*found, np.array(last)])


def with_progress(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Yield `items`, with a progress bar that appears after two seconds."""
    yield from progress(items, desc=what, delay=DELAY)


def batch_size(image_shape: tuple[int, ...], copies: int = 1) -> int:
    """Return how many images of shape (H, W, C) a batch has."""
    return max(1, BATCH_PIXELS // (copies * math.prod(image_shape)))
