"""Work on the CPU's cores side by side: parts of a batch, each on a stream of its own.

MLX runs all but its matrix products on one core. Streams of the CPU run at the same time, so a
network that treats images one by one is given the batch in parts. On a GPU the batch stays whole.
"""

import functools
from collections.abc import Callable
from itertools import pairwise

import mlx.core as mx

from .backend import cores

_inside = False  # a part is not divided again
SMALLEST_PART = 8  # images; the gradients of parts must be added, which costs as much for each


def over_batch(function: Callable[..., mx.array], *arrays: mx.array) -> mx.array:
    """`function(*arrays)`, which must treat the rows of axis 0 one by one, (B, ...) each."""
    global _inside
    num = 1 if _inside else number_of_parts(len(arrays[0]))
    if num == 1:
        return function(*arrays)
    borders = [len(arrays[0]) * part // num for part in range(num + 1)]
    results = []
    _inside = True
    try:
        for stream, (start, end) in zip(_streams(num), pairwise(borders), strict=True):
            with mx.stream(stream):
                # Slices, since mx.compile fails where one array goes through mx.split twice.
                results.append(function(*(array[start:end] for array in arrays)))
    finally:
        _inside = False
    return mx.concatenate(results)


def number_of_parts(batch: int) -> int:
    """How many parts a batch is worth: one on a GPU, at most one a core."""
    if not on_cpu():
        return 1
    return max(1, min(cores(), batch // SMALLEST_PART))


def on_cpu() -> bool:
    """Whether operations run on the CPU, where some are better written by hand."""
    return bool(mx.default_device().type == mx.cpu)


def current_stream() -> mx.Stream:
    """Where operations go now: a hand-written gradient must return there by itself."""
    return mx.default_stream(mx.default_device())


@functools.cache
def _streams(num: int) -> list[mx.Stream]:
    return [*_streams(num - 1), mx.new_stream(mx.cpu)] if num else []
