"""The images of each training step: on the GPU already, or read while the step before runs."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

import mlx.core as mx
import numpy as np

from ..device.backend import gpu_memory

SHARE_OF_GPU = 0.1  # of its memory, which the images may take


class Residency(Enum):
    """Where images wait: on the GPU, in memory, or where a thread must read them ahead."""

    GPU = "gpu"
    MEMORY = "memory"
    PREFETCH = "prefetch"


class Loader:
    """Batches of uint8 images (N, H, W, C).

    A set that a GPU has room for is copied there once, and batches are gathered there. What is
    mapped from a disk, or is too large for the GPU in use, is read by a thread one batch ahead.
    """

    def __init__(self, images: np.ndarray, residency: Residency | None = None):
        self.images = images
        self.residency = residency or best_residency(images)
        self._on_gpu = mx.array(images) if self.residency == Residency.GPU else None

    def batches(self, rows: Iterable[tuple[np.ndarray, ...]]) -> Iterator[tuple[mx.array, ...]]:
        """The images at each of the tuples of `rows`, in their order."""
        if self._on_gpu is not None:
            for each in rows:
                yield tuple(self._on_gpu[mx.array(part.astype(np.int32))] for part in each)
        elif self.residency == Residency.MEMORY:
            for each in rows:
                yield _as_arrays(self._read(each))
        else:
            yield from self._prefetched(rows)

    def _prefetched(self, rows: Iterable[tuple[np.ndarray, ...]]) -> Iterator[tuple[mx.array, ...]]:
        # The thread handles NumPy alone: arrays of MLX belong to the thread that made them.
        with ThreadPoolExecutor(1) as reader:
            coming = None
            for each in rows:
                read, coming = coming, reader.submit(self._read, each)
                if read:
                    yield _as_arrays(read.result())
            if coming:
                yield _as_arrays(coming.result())

    def _read(self, rows: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return tuple(self.images[part] for part in rows)


def best_residency(images: np.ndarray) -> Residency:
    """Where images are to wait for their steps, on the device in use."""
    if isinstance(images, np.memmap):
        return Residency.PREFETCH
    memory = gpu_memory()
    if memory is None:
        return Residency.MEMORY
    return Residency.GPU if images.nbytes <= SHARE_OF_GPU * memory else Residency.PREFETCH


def _as_arrays(images: tuple[np.ndarray, ...]) -> tuple[mx.array, ...]:
    return tuple(map(mx.array, images))
