"""Progress bars, shown only on a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

_is_silent = ContextVar("_is_silent", default=False)


def progress(*items: Any, **options: Any) -> tqdm:
    """Return a tqdm bar that disappears when it is done; hidden if the output is not a terminal."""
    return tqdm(*items, leave=False, disable=_is_silent.get() or None, **options)


@contextmanager
def silence(wanted: bool = True) -> Iterator[None]:
    """Hide all progress bars within this context."""
    token = _is_silent.set(wanted)
    try:
        yield
    finally:
        _is_silent.reset(token)
