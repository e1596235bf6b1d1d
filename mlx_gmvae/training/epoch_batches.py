"""Order of the images in an epoch, their partners, and the batch of each step."""

from collections.abc import Iterable, Iterator
from itertools import tee

import mlx.core as mx
import numpy as np

from ..clustering.neighbours import draw_partners
from ..data.images import Examples, Featured
from ..data.loader import Loader
from ..device import distributed
from ..inputs import Batch, WithFeatures


def epoch_order(
    rows: np.ndarray, graph: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return `rows` in random order and the partner of each, itself without a graph.

    `graph` (len(rows), k) has positions in `rows`.
    """
    order = rng.permutation(len(rows))
    partners = order if graph is None else draw_partners(graph, order, rng)
    return rows[order], rows[partners]


def split_into_steps(
    orders: tuple[np.ndarray, ...], batchsize: int, steps: Iterable[int]
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the part of each order for each step; with several processes, that of this process."""
    for step in steps:
        batch = slice(step * batchsize, (step + 1) * batchsize)
        yield tuple(distributed.shard(each[batch]) for each in orders)


class BatchReader:
    """Reader of the batches of training images and their features."""

    def __init__(self, images: Examples):
        self.features = images.features if isinstance(images, Featured) else None
        pixels = images.images if isinstance(images, Featured) else images
        self.loader = Loader(pixels if isinstance(pixels, np.ndarray) else pixels[:])

    def batches(self, rows: Iterator[tuple[np.ndarray, ...]]) -> Iterator[Batch]:
        """Yield a batch for each tuple of rows: of images and, with pairs, of their partners."""
        if self.features is None:
            for each in self.loader.batches(rows):
                yield Batch(*each)
            return
        # q(y|x) sees the features of both; the decoder needs the pixels of the images alone.
        here, there = tee(rows)
        pixels = self.loader.batches(each[:1] for each in here)
        for (x,), (own, *partners) in zip(pixels, there, strict=True):
            of_partners = mx.array(self.features[partners[0]]) if partners else None
            yield Batch(WithFeatures(x, mx.array(self.features[own])), of_partners)
