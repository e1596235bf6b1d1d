"""Descriptors, by which images are neighbours before training: pixels, gradients, patches.

They are computed from a reduced copy, so any image size and number of channels will do.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..config.record import require_choice
from ..data.images import Images
from ..device.randomness import random_rows
from ..models.enlarge import bicubic
from ..system.processors import available_processors
from .codebook import patch_descriptor

LONGEST_SIDE = 32
PIXEL_DIMS, GRADIENT_DIMS = 50, 80
ORIENTATIONS = 8
CELL_PIXELS = 4
BLOCK = 4096
GRADIENT_BLOCK = 1024  # images, whose arrays stay in a processor's cache
BLOCK_PIXELS = 1 << 22
MOST_FITTED = 200_000  # images to fit principal components to


def describe(images: Images, kind: str) -> np.ndarray:
    """Return a float32 descriptor (N, F) of uint8 images (N, H, W, C), a kind in DESCRIPTORS.

    "pixels" has the pixels of a grey copy, "hog" has oriented gradients too, and "patches" is the
    visual-word histogram of coloured patches in each part of the image.

    >>> images = np.random.default_rng(0).integers(0, 256, (200, 28, 28, 1), dtype=np.uint8)
    >>> describe(images, "pixels").shape, describe(images, "hog").shape
    ((200, 50), (200, 130))
    """
    require_choice("descriptor", kind, DESCRIPTORS)
    return DESCRIPTORS[kind](images)


def pixels(images: Images) -> np.ndarray:
    """Return at most 50 principal components of the pixels of a reduced grey copy."""
    return _described(images, [(_flat, PIXEL_DIMS)])


def hog(images: Images) -> np.ndarray:
    """Return `pixels`, and principal components of oriented gradients of equal total variance."""
    return _described(images, [(_flat, PIXEL_DIMS), (_gradients, GRADIENT_DIMS)])


def _described(
    images: Images, parts: Sequence[tuple[Callable[[np.ndarray], np.ndarray], int]]
) -> np.ndarray:
    """Return the principal components of functions of grey copies (N, h, w, 1).

    `parts` has each function and its number of components. For many images they are fitted to some
    of them, since the copies of all would take 15 kB per image.
    """
    num = len(images)
    if num <= MOST_FITTED:
        grey = reduced(images, grey=True)
        return np.concatenate(
            [principal_components(part(grey), dims)[0] for part, dims in parts], axis=1
        )
    some = reduced(images[np.sort(random_rows(num, MOST_FITTED))], grey=True)
    projections = [(part, principal_components(part(some), dims)[1]) for part, dims in parts]
    del some
    blocks = []
    for start in range(0, num, BLOCK):
        grey = reduced(images[start : start + BLOCK], grey=True)
        blocks.append(
            np.concatenate([project(part(grey)) for part, project in projections], axis=1)
        )
    return np.concatenate(blocks)


def _gradients(grey: np.ndarray) -> np.ndarray:
    return oriented_gradients(grey[..., 0])


def patches(images: Images) -> np.ndarray:
    """Return `patch_descriptor` scaled to unit length, so that nearness is cosine similarity."""
    components = patch_descriptor(reduced(images, grey=False))
    return components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-8)


def reduced(images: Images, grey: bool) -> np.ndarray:
    """Return float32 copies (N, h, w, C or 1) in [0, 1], the longer side at most 32 pixels."""
    height, width = images.shape[1:3]
    longest = max(height, width, LONGEST_SIDE)
    rows, columns = (max(1, round(side * LONGEST_SIDE / longest)) for side in (height, width))
    along_rows, along_columns = bicubic(height, rows), bicubic(width, columns)
    copies = np.empty((len(images), rows, columns, 1 if grey else images.shape[-1]), np.float32)
    size = max(1, BLOCK_PIXELS // (height * width))
    for start in range(0, len(images), size):
        block = images[start : start + size]
        if grey:
            block = block.mean(axis=-1, keepdims=True).astype(np.uint8)
        block = block.astype(np.float32) / 255
        if longest > LONGEST_SIDE:
            planes = along_rows @ block.transpose(0, 3, 1, 2) @ along_columns.T
            block = np.clip(planes, 0, 1).transpose(0, 2, 3, 1)
        copies[start : start + size] = block
    return copies


def oriented_gradients(grey: np.ndarray) -> np.ndarray:
    """Return histograms of gradient orientation over cells of about 4 pixels, (N, cells * 8).

    Magnitudes are shared linearly between the two nearest of 8 signed orientations and summed
    over each cell; the whole histogram is L1-normalised and square-rooted.

    Source: Dalal & Triggs 2005, with one block for the whole image.
    """
    num, height, width = grey.shape
    rows, columns = (max(1, round(side / CELL_PIXELS)) for side in (height, width))
    to_rows, to_columns = _cells(height, rows), _cells(width, columns)
    histogram = np.empty((num, ORIENTATIONS, rows, columns), np.float32)

    def fill(start: int) -> None:
        block = grey[start : start + GRADIENT_BLOCK]
        dy, dx = (
            np.gradient(block, axis=axis) if block.shape[axis] > 1 else np.zeros_like(block)
            for axis in (1, 2)
        )
        magnitude = np.hypot(dx, dy)
        position = np.arctan2(dy, dx) * (ORIENTATIONS / (2 * np.pi)) % ORIENTATIONS
        for orientation in range(ORIENTATIONS):
            distance = np.abs(position - orientation)
            distance = np.minimum(distance, ORIENTATIONS - distance)
            share = magnitude * np.clip(1 - distance, 0, None)
            of_block = histogram[start : start + GRADIENT_BLOCK, orientation]
            np.matmul(to_rows @ share, to_columns.T, out=of_block)

    with ThreadPoolExecutor(available_processors()) as pool:
        for _ in pool.map(fill, range(0, num, GRADIENT_BLOCK)):
            pass
    histogram = histogram.reshape(num, -1)
    total = histogram.sum(axis=1, keepdims=True)
    return np.sqrt(histogram / np.maximum(total, 1e-8))


def _cells(side: int, num: int) -> np.ndarray:
    """Return which pixels of a column lie in which of `num` cells, (num, side)."""
    cell_of = np.arange(side) * num // side
    return (cell_of == np.arange(num)[:, None]).astype(np.float32)


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def principal_components(
    values: np.ndarray, dims: int
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Return principal components of total variance 1, and a function that projects others."""
    from sklearn.decomposition import PCA

    def nothing(others: np.ndarray) -> np.ndarray:
        return np.zeros((len(others), 1), np.float32)

    if np.ptp(values, axis=0).max() == 0:  # one image, or only identical ones
        return nothing(values), nothing
    pca = PCA(min(dims, *values.shape), svd_solver="covariance_eigh")
    components = pca.fit_transform(values)
    scale = max(np.sqrt(components.var(axis=0).sum()), 1e-8)
    return components / scale, lambda others: pca.transform(others) / scale


DESCRIPTORS: dict[str, Callable[[Images], np.ndarray]] = {
    "hog": hog,
    "pixels": pixels,
    "patches": patches,
}
