"""Progress bars, shown where somebody watches a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

_is_silent = ContextVar("_is_silent", default=False)


def progress(*items: Any, **options: Any) -> tqdm:
    """A bar of tqdm's that goes when it is done; none where the output is not a terminal's."""
    return tqdm(*items, leave=False, disable=_is_silent.get() or None, **options)


@contextmanager
def silence(wanted: bool = True) -> Iterator[None]:
    """Within, there are no bars at all."""
    token = _is_silent.set(wanted)
    try:
        yield
    finally:
        _is_silent.reset(token)
