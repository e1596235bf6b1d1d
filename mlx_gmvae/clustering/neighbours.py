"""Nearest neighbours of images by what describes them, and partners drawn from among them."""

import math

import numpy as np

from ..data.images import Images
from ..device.progress import progress
from .descriptors import describe

EXACT_LIMIT = 200_000
BLOCK = 2048
STAY = 0.3


def neighbour_graph(images: Images, num_neighbours: int, descriptor: str) -> np.ndarray:
    """The nearest other images of each of N uint8 images, (N, k) int32, nearest first.

    >>> images = np.array([0, 255, 9, 250], np.uint8).reshape(4, 1, 1, 1)
    >>> neighbour_graph(images, 1, "pixels").ravel().tolist()
    [2, 3, 0, 1]
    """
    return nearest(describe(images, descriptor), num_neighbours)


def nearest(described: np.ndarray, num_neighbours: int) -> np.ndarray:
    """The nearest other rows of each of the rows of `described` (N, F), (N, k) int32.

    Exact within parts of at most 200,000 images; a larger set is divided by k-means on the
    descriptors, so that only neighbours across a border between parts are missed. k is at most
    N - 1.
    """
    from sklearn.neighbors import NearestNeighbors

    num = len(described)
    k = min(num_neighbours, num - 1)
    graph = np.empty((num, k), np.int32)
    with progress(total=num, desc="neighbours", unit="im") as bar:
        for rows in _parts(described, k):
            index = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(described[rows])
            for start in range(0, len(rows), BLOCK):
                block = rows[start : start + BLOCK]
                found = index.kneighbors(described[block], return_distance=False)
                graph[block] = rows[_without_self(found, start)]
                bar.update(len(block))
    return graph


def _parts(described: np.ndarray, k: int) -> list[np.ndarray]:
    """Rows of the whole set, or of each k-means cell of a set too large for all distances."""
    from sklearn.cluster import MiniBatchKMeans

    num = len(described)
    if num <= EXACT_LIMIT:
        return [np.arange(num)]
    cells = MiniBatchKMeans(math.ceil(2 * num / EXACT_LIMIT), random_state=0).fit_predict(described)
    parts = [np.flatnonzero(cells == cell) for cell in np.unique(cells)]
    halves = [half for part in parts for half in np.array_split(part, 1 + len(part) // EXACT_LIMIT)]
    if min(map(len, halves)) <= k:  # a cell of a few odd images joins the rest
        return [np.concatenate(halves)]
    return halves


def _without_self(found: np.ndarray, start: int) -> np.ndarray:
    """Drop each row's own image, or the farthest where duplicates crowd it out."""
    own = np.arange(start, start + len(found))[:, None]
    is_other = found != own
    is_other[is_other.all(axis=1), -1] = False
    return found[is_other].reshape(len(found), -1)


def draw_partners(graph: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each image in `rows` a random neighbour, or with probability 0.3 the image itself."""
    if graph.shape[1] == 0:
        return rows
    partners = graph[rows, rng.integers(0, graph.shape[1], len(rows))]
    return np.where(rng.random(len(rows)) < STAY, rows, partners)
