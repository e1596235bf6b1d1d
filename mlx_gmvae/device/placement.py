"""Device of the computation within a context."""

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx


@contextmanager
def on_device(device: mx.Device | mx.DeviceType) -> Iterator[None]:
    """Make `device` MLX's default within the context, and restore the former one afterwards."""
    before = mx.default_device()
    mx.set_default_device(device)
    try:
        yield
    finally:
        mx.set_default_device(before)
