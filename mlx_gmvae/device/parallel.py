"""Parallel work on the cores of the CPU, with one stream per core.

MLX runs each CPU stream on one thread, and the streams run in parallel. So independent terms of
a loss take half of the cores each, and a network that treats images independently gets the batch
in parts. On a GPU nothing is divided.
"""

import atexit
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import TypeVar

import mlx.core as mx

from . import distributed, forks
from .backend import cores, fast_blas, on_gpu

T = TypeVar("T")

SMALLEST_PART = 8  # images; each part costs one addition of gradients, whatever its size
# The streams that the current work may use; None: all.
_own: ContextVar[Sequence[mx.Stream] | None] = ContextVar("_own", default=None)
_is_plain = ContextVar("_is_plain", default=False)


def side_by_side(*functions: Callable[[], T]) -> list[T]:
    """Return the results of independent functions, each run on its share of the cores."""
    streams = streams_to_use()
    if len(streams) < len(functions):
        return [function() for function in functions]
    answers = []
    for number, function in enumerate(functions):
        with _only(streams[number :: len(functions)]):
            answers.append(function())
    return answers


def over_batch(
    function: Callable[..., mx.array], *arrays: mx.array, smallest: int = SMALLEST_PART
) -> mx.array:
    """Return `function(*arrays)`, computed on parts of the batch in parallel.

    The arrays are (B, ...), and the function must treat their rows independently. No part of the
    batch is smaller than `smallest`.
    """
    batch = len(arrays[0])
    streams = streams_to_use()[: batch // smallest]
    if len(streams) < 2:
        return function(*arrays)
    borders = [batch * part // len(streams) for part in range(len(streams) + 1)]
    results = []
    for stream, (start, end) in zip(streams, pairwise(borders), strict=True):
        with _only([stream]):
            # Slices, because mx.compile fails if one array goes through mx.split twice.
            results.append(function(*(array[start:end] for array in arrays)))
    return mx.concatenate(results)


def streams_to_use() -> Sequence[mx.Stream]:
    """Return one stream for each core that the current work may use; none on a GPU."""
    if not on_cpu():
        return []
    own = _own.get()
    return _streams(cores()) if own is None else own


@contextmanager
def on_streams(num: int) -> Iterator[None]:
    """Use `num` CPU streams within this context, and divide BLAS's threads among them."""
    blas = fast_blas()
    before = blas.threads_in_use()
    blas.use_threads(max(1, blas.threads // num))
    try:
        with _only(_streams(num)):
            yield
    finally:
        blas.use_threads(before)


@contextmanager
def _only(streams: Sequence[mx.Stream]) -> Iterator[None]:
    before = _own.set(streams)
    try:
        with mx.stream(streams[0]):
            yield
    finally:
        _own.reset(before)


def on_cpu() -> bool:
    """Return whether operations run on the CPU, where some hand-written ones are faster."""
    return not on_gpu() and not is_plain()


def is_plain() -> bool:
    """Return whether only MLX's own operations may be used, as in exported functions."""
    return _is_plain.get()


@contextmanager
def plain_operations() -> Iterator[None]:
    """Use only MLX's own operations and gradients within this context, on any device."""
    before = _is_plain.set(True)
    try:
        yield
    finally:
        _is_plain.reset(before)


def current_stream() -> mx.Stream:
    """Return the current stream, to which a hand-written gradient must return explicitly."""
    return mx.default_stream(mx.default_device())


@functools.cache
def _streams(num: int) -> list[mx.Stream]:
    if not num:
        return []
    stream = mx.new_stream(mx.cpu)
    atexit.register(_finish, stream)
    return [*_streams(num - 1), stream]


def _finish(stream: mx.Stream) -> None:
    """Wait for a stream before Python ends, since its thread may still hold Python objects.

    Not with several processes, where a message of a lost process would never arrive. Nor in a
    forked process, which has no thread to wait for.
    """
    if forks.is_usable() and distributed.size() == 1:
        mx.synchronize(stream)
