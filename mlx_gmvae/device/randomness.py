"""MLX's random state, which can be read but not assigned, and random choices of rows."""

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx
import numpy as np

from . import forks


def random_key() -> mx.array:
    """Return the state of MLX's global generator, (2,) uint32."""
    return mx.random.state[0]  # type: ignore[index, no-any-return, unused-ignore]


def set_random_key(key: mx.array) -> None:
    """Set the state of the global generator to a result of `random_key`."""
    high, low = (int(word) for word in np.array(key))
    mx.random.seed((high << 32) | low)


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore the state of the generator at the end of this context, whatever was drawn.

    Raises InputError in a process that was forked after MLX had been used.
    """
    forks.require_usable()
    key = random_key()
    try:
        yield
    finally:
        set_random_key(key)


def random_rows(num: int, most: int, seed: int | np.random.Generator = 0) -> np.ndarray:
    """Return at most `most` of the rows 0 to `num` - 1 in random order, the same for a seed.

    Use it where some images represent all of them. Images of a class are often adjacent, so the
    first rows are not a fair sample.

    >>> sorted(random_rows(3, 10).tolist()), len(random_rows(100, 10))
    ([0, 1, 2], 10)
    """
    return np.random.default_rng(seed).permutation(num)[:most]
