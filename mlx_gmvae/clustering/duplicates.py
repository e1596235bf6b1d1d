"""Near-duplicates: images that differ only in size, compression, a small crop or brightness.

Candidates are nearest neighbours by oriented gradients. Two images are near-duplicates if the
normalised cross-correlation of their reduced copies is high, whole or with one of them cropped a
little. It does not depend on brightness and contrast.
"""

from collections.abc import Iterator

import numpy as np

from ..data.images import Images
from ..system.progress_bar import progress
from .descriptors import GRADIENT_DIMS, oriented_gradients, principal_components, reduced
from .neighbours import nearest

CANDIDATES = 5  # neighbours of each image
SAME = 0.95  # smallest correlation of near-duplicates
PLAUSIBLE = 0.5  # smallest correlation of pairs that are compared again with crops
SCALES = (0.95, 0.9, 0.85)  # sides of crops, as shares of the side
BLOCK = 4096  # pairs
FLATTEST = 0.02  # standard deviation of an image, below which it cannot be compared


def near_duplicates(images: Images) -> list[np.ndarray]:
    """Return groups of rows of uint8 images (N, H, W, C) that are near-duplicates.

    Images that have almost one colour are in no group. Groups are ordered by their first rows.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    num = len(images)
    grey = reduced(images, grey=True)[..., 0]
    is_flat = grey.std(axis=(1, 2)) < FLATTEST
    if num - is_flat.sum() < 2:
        return []
    described, _ = principal_components(oriented_gradients(grey), GRADIENT_DIMS)
    graph = nearest(described, min(CANDIDATES, num - 1))
    pairs = np.stack([np.repeat(np.arange(num), graph.shape[1]), graph.ravel()], axis=1)
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    pairs = pairs[~is_flat[pairs].any(axis=1)]
    first, second = pairs[correlations(grey, pairs) >= SAME].T
    edges = coo_array((np.ones(len(first)), (first, second)), shape=(num, num))
    _, groups = connected_components(edges, directed=False)
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return sorted((part for part in parts if len(part) > 1), key=lambda part: part[0])


def correlations(grey: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the largest correlation of each pair (P, 2) of images (N, h, w), whole or cropped."""
    found = np.empty(len(pairs), np.float32)
    with progress(total=len(pairs), desc="comparing", unit="pair") as bar:
        for start in range(0, len(pairs), BLOCK):
            block = pairs[start : start + BLOCK]
            one, other = grey[block[:, 0]], grey[block[:, 1]]
            best = _correlation(one, other)
            maybe = np.flatnonzero((best >= PLAUSIBLE) & (best < SAME))
            for along_rows, along_columns in _crops(*grey.shape[1:]):
                for whole, part in ((one, other), (other, one)):
                    cropped = along_rows @ whole[maybe] @ along_columns.T
                    best[maybe] = np.maximum(best[maybe], _correlation(cropped, part[maybe]))
                maybe = maybe[best[maybe] < SAME]
            found[start : start + BLOCK] = best
            bar.update(len(block))
    return found


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the normalised cross-correlation of images (P, h, w) and others, (P,)."""
    one, other = (each - each.mean(axis=(1, 2), keepdims=True) for each in (one, other))
    products = np.einsum("nij,nij->n", one, other)
    lengths = np.sqrt(np.einsum("nij,nij->n", one, one) * np.einsum("nij,nij->n", other, other))
    return products / np.maximum(lengths, 1e-12)


def _crops(height: int, width: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield matrices that crop an image and enlarge the crop to its size, rows and columns."""
    for scale in SCALES:
        for top in (0.0, 0.5, 1.0):
            for left in (0.0, 0.5, 1.0):
                yield _stretch(height, scale, top), _stretch(width, scale, left)


def _stretch(side: int, scale: float, place: float) -> np.ndarray:
    """Return the matrix (side, side) that interpolates `side` points from a part of them."""
    length = scale * side
    start = place * (side - length)
    position = np.clip(start + (np.arange(side) + 0.5) * scale - 0.5, 0, side - 1)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(side))).astype(np.float32)
