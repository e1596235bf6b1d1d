"""MLX's random state, which can be read but not assigned: save it, restore it."""

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx
import numpy as np


def random_key() -> mx.array:
    """The state of MLX's global generator, (2,) uint32."""
    return mx.random.state[0]  # type: ignore[index, no-any-return, unused-ignore]


def set_random_key(key: mx.array) -> None:
    """Continue the global generator from `random_key`'s answer."""
    high, low = (int(word) for word in np.array(key))
    mx.random.seed((high << 32) | low)


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Within, draws may be made; afterwards the generator is where it was before."""
    key = random_key()
    try:
        yield
    finally:
        set_random_key(key)
