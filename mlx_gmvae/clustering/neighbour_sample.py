"""Nearest neighbours among a random sample of the images, for scores without labels."""

from typing import NamedTuple

import numpy as np

from ..config import TrainConfig
from ..data.images import Examples, Rows
from ..device.randomness import random_rows
from .neighbours import neighbour_graph

SAMPLED_IMAGES = 10_000


class NeighbourSample(NamedTuple):
    """Rows (n,) of images in ascending order, and the neighbours of each among them, (n, k)."""

    rows: np.ndarray
    graph: np.ndarray


def sampled_rows(num: int, seed: int | np.random.Generator = 0) -> np.ndarray:
    """Return at most 10,000 random rows of `num`, in ascending order."""
    return np.sort(random_rows(num, SAMPLED_IMAGES, seed))


def neighbour_sample(images: Examples, config: TrainConfig, seed: int = 0) -> NeighbourSample:
    """Return the neighbours among at most 10,000 of the images, as `pair_scores` uses them."""
    rows = sampled_rows(len(images), seed)
    return NeighbourSample(
        rows, neighbour_graph(Rows(images, rows), config.neighbours, config.descriptor)
    )
