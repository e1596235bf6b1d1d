"""Loader of training batches, from GPU memory, host memory or a prefetching thread."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

import mlx.core as mx
import numpy as np

from ..device.backend import gpu_memory

SHARE_OF_GPU = 0.1  # fraction of the GPU memory that the images may use


class Residency(Enum):
    """Location of the images: on the GPU, in memory, or read ahead by a prefetching thread."""

    GPU = "gpu"
    MEMORY = "memory"
    PREFETCH = "prefetch"


class Loader:
    """Loader of batches of uint8 images (N, H, W, C).

    If the GPU has room for all images, they are copied there once and batches are gathered there.
    Images that are mapped from a disk, or are too large for the GPU, are read by a thread that
    prefetches one batch.
    """

    def __init__(self, images: np.ndarray, residency: Residency | None = None):
        self.images = images
        self.residency = residency or best_residency(images)
        self._on_gpu = mx.array(images) if self.residency == Residency.GPU else None

    def batches(self, rows: Iterable[tuple[np.ndarray, ...]]) -> Iterator[tuple[mx.array, ...]]:
        """Yield the images at each tuple of `rows`, in order."""
        if self._on_gpu is not None:
            for each in rows:
                yield tuple(self._on_gpu[mx.array(part.astype(np.int32))] for part in each)
        elif self.residency == Residency.MEMORY:
            for each in rows:
                yield _as_arrays(self._read(each))
        else:
            yield from self._prefetched(rows)

    def _prefetched(self, rows: Iterable[tuple[np.ndarray, ...]]) -> Iterator[tuple[mx.array, ...]]:
        # The thread uses NumPy alone: MLX arrays belong to the thread that made them.
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
    """Return the best location for the images on the current device."""
    if isinstance(images, np.memmap):
        return Residency.PREFETCH
    memory = gpu_memory()
    if memory is None:
        return Residency.MEMORY
    return Residency.GPU if images.nbytes <= SHARE_OF_GPU * memory else Residency.PREFETCH


def _as_arrays(images: tuple[np.ndarray, ...]) -> tuple[mx.array, ...]:
    return tuple(map(mx.array, images))
