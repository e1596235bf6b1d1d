"""The codebook of visual words (Coates and Ng 2011), for the descriptor and the classifier."""

from collections.abc import Callable

import mlx.core as mx
import numpy as np
from tqdm import tqdm

from ..data.batches import as_float
from ..data.images import Images
from ..device import distributed
from ..device.randomness import random_rows
from ..models.visual_words import WORDS, VisualWords, contrasts, windows
from ..system.progress_bar import progress

SEEN, SEEN_OF_ONE = 200_000, 100  # patches to learn the codebook from, at most: in all, per image
IMAGES_SEEN = 10_000  # at most
WHITENING_FLOOR = 0.1  # added to the variances of patches
BLOCK = 128  # images
DIMS = 200


def patch_descriptor(images: np.ndarray) -> np.ndarray:
    """Return at most 200 principal components of the visual-word histograms of images, (N, F).

    Images (N, H, W, C) are in [0, 1].
    """
    from sklearn.decomposition import PCA

    layer = VisualWords(images.shape[-1])
    learn(layer, images)
    seen = images[_some(len(images))]
    with progress(total=len(seen) + len(images), desc="patches", unit="im") as bar:
        histograms = _over_blocks(layer, seen, bar)
        if np.ptp(histograms, axis=0).max() == 0:  # one image, or only identical ones
            return np.zeros((len(images), 1), np.float32)
        dims = min(DIMS, *histograms.shape)
        axes = PCA(dims, svd_solver="randomized", iterated_power=2, random_state=0).fit(histograms)
        return _over_blocks(layer, images, bar, axes.transform)


def learn(layer: VisualWords, images: Images) -> None:
    """Learn the codebook of `layer` by k-means on whitened patches, and the scale of histograms.

    Images (N, H, W, C) are uint8 or in [0, 1]. The result is the same in all processes.
    """
    from sklearn.cluster import MiniBatchKMeans

    some = np.asarray(images[_some(len(images))])
    with progress(total=3, desc="codebook") as bar:
        patches = _some_patches(some, np.random.default_rng(0))
        mean = patches.mean(axis=0)
        variances, axes = np.linalg.eigh(np.cov(patches - mean, rowvar=False))
        whitening = (axes / np.sqrt(variances + WHITENING_FLOOR)) @ axes.T
        white = ((patches - mean) @ whitening).astype(np.float32)
        bar.update()
        means = MiniBatchKMeans(WORDS, batch_size=2048, n_init=1, max_iter=20, random_state=0)
        words = means.fit(white).cluster_centers_
        words /= np.maximum(np.linalg.norm(words, axis=1, keepdims=True), 1e-8)
        found = {"mean": mean, "whitening": whitening, "codebook": words}
        layer.update({name: _shared(value) for name, value in found.items()})
        bar.update()
        histograms = _over_blocks(layer.histogram, some)
        layer.offset = _shared(histograms.mean(axis=0))
        layer.scale = _shared(histograms.std(axis=0) + 1e-3)
        bar.update()


def _some(num: int) -> np.ndarray:
    """Return the rows of the images to learn from."""
    return np.sort(random_rows(num, IMAGES_SEEN))


def _some_patches(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return patches at random places, as many of each image, in all at least one per word."""
    each = max(-(-WORDS // len(images)), min(SEEN // len(images), SEEN_OF_ONE))
    found: list[np.ndarray] = []
    for start in range(0, len(images), BLOCK):
        patches = np.array(contrasts(windows(as_float(images[start : start + BLOCK]))))
        patches = patches.reshape(len(patches), -1, patches.shape[-1])
        chosen = rng.integers(0, patches.shape[1], (len(patches), each))
        found.append(np.take_along_axis(patches, chosen[..., None], axis=1))
    return np.concatenate(found).reshape(len(images) * each, -1)


def _over_blocks(
    function: Callable[[mx.array], mx.array],
    images: np.ndarray,
    bar: tqdm | None = None,
    then: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> np.ndarray:
    """Return `then(function(images))`, (N, F), computed by blocks of images."""
    found = []
    for start in range(0, len(images), BLOCK):
        block = images[start : start + BLOCK]
        found.append(then(np.array(function(as_float(block)))))
        if bar is not None:
            bar.update(len(block))
    return np.concatenate(found)


def _shared(value: np.ndarray) -> mx.array:
    return mx.array(distributed.broadcast(value.astype(np.float32)))
