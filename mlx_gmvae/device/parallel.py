"""Work on the CPU's cores side by side, each on a stream of its own.

MLX runs a stream of the CPU on one thread, and streams run at the same time. So terms of a loss
that need nothing of each other take half of the cores each, and a network that treats images one by
one is given the batch in parts. On a GPU everything stays whole.
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

SMALLEST_PART = 8  # images; the gradients of parts must be added, which costs as much for each
# The streams that a part of the work may use; None: all.
_own: ContextVar[Sequence[mx.Stream] | None] = ContextVar("_own", default=None)
_is_plain = ContextVar("_is_plain", default=False)


def side_by_side(*functions: Callable[[], T]) -> list[T]:
    """The answers of functions that need nothing of each other, each on its share of the cores."""
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
    """`function(*arrays)`, which must treat the rows of axis 0 one by one, (B, ...) each.

    No part of the batch is smaller than `smallest`.
    """
    batch = len(arrays[0])
    streams = streams_to_use()[: batch // smallest]
    if len(streams) < 2:
        return function(*arrays)
    borders = [batch * part // len(streams) for part in range(len(streams) + 1)]
    results = []
    for stream, (start, end) in zip(streams, pairwise(borders), strict=True):
        with _only([stream]):
            # Slices, since mx.compile fails where one array goes through mx.split twice.
            results.append(function(*(array[start:end] for array in arrays)))
    return mx.concatenate(results)


def streams_to_use() -> Sequence[mx.Stream]:
    """One for each core that the work at hand may use; none on a GPU."""
    if not on_cpu():
        return []
    own = _own.get()
    return _streams(cores()) if own is None else own


@contextmanager
def on_streams(num: int) -> Iterator[None]:
    """Within, work on the CPU takes so many streams, whatever is set; with one, BLAS's threads."""
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
    """Whether operations run on the CPU, where some are better written by hand."""
    return not on_gpu() and not is_plain()


def is_plain() -> bool:
    """Whether only operations of MLX's own may be used, as in functions that are exported."""
    return _is_plain.get()


@contextmanager
def plain_operations() -> Iterator[None]:
    """Within, nothing is written by hand, whatever the device; gradients are MLX's own."""
    before = _is_plain.set(True)
    try:
        yield
    finally:
        _is_plain.reset(before)


def current_stream() -> mx.Stream:
    """Where operations go now: a hand-written gradient must return there by itself."""
    return mx.default_stream(mx.default_device())


@functools.cache
def _streams(num: int) -> list[mx.Stream]:
    if not num:
        return []
    stream = mx.new_stream(mx.cpu)
    atexit.register(_finish, stream)
    return [*_streams(num - 1), stream]


def _finish(stream: mx.Stream) -> None:
    """Wait until its thread holds nothing of Python's, which is about to end.

    Not of several processes: what a lost one would have sent never comes. Nor of one that was
    forked, where no thread is left to wait for.
    """
    if forks.is_usable() and distributed.size() == 1:
        mx.synchronize(stream)
