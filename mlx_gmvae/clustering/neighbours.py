"""Nearest neighbours of images by their descriptors, and random partners among them."""

import math
from collections.abc import Callable

import mlx.core as mx
import numpy as np

from ..config import TrainConfig
from ..data.batches import over_batches
from ..data.images import Examples, Featured, features_of
from ..device.backend import on_gpu
from ..device.randomness import random_rows
from ..models.mixture_model import MixtureModel
from ..system.progress_bar import progress
from .descriptors import describe

EXACT_LIMIT = 200_000
BLOCK = 2048  # rows at a time; on a GPU also columns, which one kernel sorts
STAY = 0.3
SMOOTHING_ROUNDS, SMOOTHED_OVER = 2, 10  # neighbours
COMPARED = 2000  # images, by which distances are measured
FAR_APART = 0.52  # of the distance of any two images
FEW_IMAGES = 20_000  # neighbours of more images are not recomputed


def neighbour_graph(images: Examples, num_neighbours: int, descriptor: str) -> np.ndarray:
    """Return the nearest other images of each of N uint8 images, (N, k) int32, nearest first.

    They are nearest by the features of a frozen encoder if the images have some, otherwise by a
    descriptor, which is smoothed if neighbours are far apart. Smoothing was not tried on "patches".

    >>> images = np.array([0, 255, 9, 250], np.uint8).reshape(4, 1, 1, 1)
    >>> neighbour_graph(images, 1, "pixels").ravel().tolist()
    [2, 3, 0, 1]
    """
    features = features_of(images)
    if features is not None:
        return nearest(smoothed(features), num_neighbours)
    assert not isinstance(images, Featured)
    described = describe(images, descriptor)
    graph = nearest(described, max(num_neighbours, SMOOTHED_OVER))
    if descriptor != "patches" and relative_distance(described, graph) > FAR_APART:
        return nearest(smoothed(described), num_neighbours)
    return graph[:, :num_neighbours]


def relative_distance(described: np.ndarray, graph: np.ndarray) -> float:
    """Return the distance of the last of k neighbours (N, k), relative to that of any two images.

    Both are medians over images. If the ratio is large, there are too few images for the dimensions
    in which they vary, and neighbours are often of another class: 0.73, 0.57 and 0.51 for 300,
    2,000 and 5,000 images of MNIST, 0.48 for 1,800 digits of 8x8, 0.38 for letters, 0.78 for
    photographs.
    """
    num = len(described)
    if num < 2:
        return 0.0
    rows = random_rows(num, COMPARED)
    others = np.random.default_rng(0).integers(1, num, len(rows))
    last = graph[rows, -1]
    near, any_two = (
        float(np.median(np.linalg.norm(described[rows] - described[each], axis=1)))
        for each in (last, (rows + others) % num)
    )
    return near / any_two if any_two else 0.0


def recomputes_neighbours(config: TrainConfig, num_images: int) -> bool:
    """Return whether neighbours of so many images are recomputed in the features of q(y|x).

    They are not recomputed if features are given, nor without augmentation, because only by
    augmentation do the learned features differ from a descriptor. Colour images were not tried.
    """
    is_image = not config.features and config.augment != "none" and config.descriptor != "patches"
    return is_image and config.neighbours > 0 and num_images <= FEW_IMAGES


def learned_graph(model: MixtureModel, images: Examples, num_neighbours: int) -> np.ndarray:
    """Return the nearest other images (N, k) of uint8 images in the features of q(y|x).

    They are right more often than those by a descriptor, most of all where images are few: of
    1,600 of MNIST, reduced to 16x16, 92 instead of 88 % are of the same class (k = 10).
    """
    features = over_batches(model.classifier_features, images)
    return nearest(unit_length(features - features.mean(axis=0)), num_neighbours)


def unit_length(features: np.ndarray) -> np.ndarray:
    """Return features (N, F) on the unit sphere, where nearness is cosine similarity."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def smoothed(features: np.ndarray) -> np.ndarray:
    """Return features (N, F), less their mean and on the unit sphere, averaged with neighbours'.

    A mean over neighbours is a low-pass filter on their graph (Wu et al. 2019, "Simplifying graph
    convolutional networks"). Only neighbours are found in it; q(y|x) sees the features as they are,
    so that new images need no others.
    """
    z = unit_length(features - features.mean(axis=0)).astype(np.float32)
    near = nearest(z, SMOOTHED_OVER)
    for _ in range(SMOOTHING_ROUNDS if near.shape[1] else 0):
        z = unit_length(z + z[near].mean(axis=1))
    return z


def nearest(described: np.ndarray, num_neighbours: int) -> np.ndarray:
    """Return the nearest other rows of each row of `described` (N, F), (N, k) int32.

    Exact within parts of at most 200,000 images; a larger set is divided by k-means on the
    descriptors, so only neighbours in another part are missed. k is at most N - 1.
    """
    num = len(described)
    k = min(num_neighbours, num - 1)
    graph = np.empty((num, k), np.int32)
    with progress(total=num, desc="neighbours", unit="im") as bar:
        for rows in _parts(described, k):
            search = (_search_on_gpu if on_gpu() else _search)(described[rows], k + 1)
            for start in range(0, len(rows), BLOCK):
                block = rows[start : start + BLOCK]
                graph[block] = rows[_without_self(search(described[block]), start)]
                bar.update(len(block))
    return graph


Search = Callable[[np.ndarray], np.ndarray]  # of rows (B, F) the nearest, (B, k), nearest first


def _search(points: np.ndarray, k: int) -> Search:
    """Return a search of `points` (N, F) with scikit-learn."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points)
    return lambda rows: index.kneighbors(rows, return_distance=False)  # type: ignore[no-any-return]


def _search_on_gpu(points: np.ndarray, k: int) -> Search:
    """Return a search of `points` (N, F) by blocks of products in MLX.

    A distance and its column are sorted as one integer of 64 bits. Taking columns along an order
    would need a gather kernel for each pair of types, which CUDA compiles for seconds each. A block
    is no wider than what one kernel sorts at once.
    """
    on_device = mx.array(points.astype(np.float32))
    lengths = mx.square(on_device).sum(axis=1)
    high, low = split(on_device)
    as_columns = mx.concatenate([high, high, low], axis=1)

    def search(block: np.ndarray) -> np.ndarray:
        rows = mx.array(block.astype(np.float32))
        high, low = split(rows)
        as_rows = mx.concatenate([high, low, high], axis=1)
        own = mx.square(rows).sum(axis=1, keepdims=True)
        nearest_of = []
        for start in range(0, len(points), BLOCK):
            columns = slice(start, start + BLOCK)
            squared = own + lengths[columns] - 2 * (as_rows @ as_columns[columns].T)
            # Floats that are not negative are in the order of their bits.
            bits = mx.maximum(squared, 0).view(mx.uint32).astype(mx.uint64)
            column = mx.arange(start, start + squared.shape[1], dtype=mx.uint64)
            nearest_of.append(mx.sort((bits << 32) | column, axis=1)[:, :k])
        merged = mx.sort(mx.concatenate(nearest_of, axis=1), axis=1)[:, :k]
        return np.array(merged & 0xFFFFFFFF).astype(np.int64)

    return search


def split(x: mx.array) -> tuple[mx.array, mx.array]:
    """Split float32 values into two summands, the first of which has at most 11 bits.

    A GPU that rounds factors to TF32 multiplies the first ones exactly. With the two mixed products
    added, a product is accurate to about 20 bits.
    """
    high = (x.view(mx.uint32) & 0xFFFFE000).view(mx.float32)
    return high, x - high


def _parts(described: np.ndarray, k: int) -> list[np.ndarray]:
    """Return the rows of the whole set, or of each k-means cell if the set is too large."""
    num = len(described)
    if num <= EXACT_LIMIT:
        return [np.arange(num)]
    from sklearn.cluster import MiniBatchKMeans

    means = MiniBatchKMeans(math.ceil(2 * num / EXACT_LIMIT), random_state=0).fit(described)
    distances = means.transform(described)
    # A cell of at most k images has too few neighbours; its images join the next cell.
    is_small = np.bincount(means.labels_, minlength=distances.shape[1]) <= k
    distances[:, is_small] = np.inf
    cells = distances.argmin(axis=1)
    parts = [np.flatnonzero(cells == cell) for cell in np.unique(cells)]
    return [half for part in parts for half in np.array_split(part, 1 + len(part) // EXACT_LIMIT)]


def _without_self(found: np.ndarray, start: int) -> np.ndarray:
    """Drop each row's own image, or the farthest where duplicates crowd it out."""
    own = np.arange(start, start + len(found))[:, None]
    is_other = found != own
    is_other[is_other.all(axis=1), -1] = False
    return found[is_other].reshape(len(found), -1)


def draw_partners(graph: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random neighbour of each image in `rows`, or, with probability 0.3, the image."""
    if graph.shape[1] == 0:
        return rows
    partners = graph[rows, rng.integers(0, graph.shape[1], len(rows))]
    return np.where(rng.random(len(rows)) < STAY, rows, partners)
