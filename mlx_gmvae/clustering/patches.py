"""Which kinds of small patches an image is made of, and in which of its quarters.

Source: Coates, Lee and Ng 2011, "An analysis of single-layer networks in unsupervised feature
learning": whitened patches, k-means, triangle activation, sums over quarters. What it brings beyond
pixels and gradients is colour and texture.
"""

import numpy as np
from tqdm import tqdm

SIDE = 6  # pixels
KINDS = 400
SEEN, SEEN_OF_ONE = 200_000, 100  # patches, at most, in all and of one image: to find the kinds
CONTRAST_FLOOR = 10 / 255**2  # added to the variance of a patch
WHITENING_FLOOR = 0.1  # added to the variances of patches
BLOCK = 1 << 16  # patches


def patch_histograms(images: np.ndarray) -> np.ndarray:
    """How much of each kind of patch is in each quarter of images (N, H, W, C), (N, 4 KINDS).

    An image of a side below 6 pixels counts as continued at its border.
    """
    short = [max(0, SIDE - side) for side in images.shape[1:3]]
    images = np.pad(images, [(0, 0), (0, short[0]), (0, short[1]), (0, 0)], mode="edge")
    kinds = _Kinds(images)
    histograms = np.empty((len(images), 4 * KINDS), np.float32)
    rows, columns = (side - SIDE + 1 for side in images.shape[1:3])
    size = max(1, BLOCK // (rows * columns))
    with tqdm(total=len(images), desc="patches", unit="im", leave=False, disable=None) as bar:
        for start in range(0, len(images), size):
            block = images[start : start + size]
            likeness = kinds.likeness(_patches(block)).reshape(len(block), rows, columns, KINDS)
            halves = np.array_split(likeness, 2, axis=1)
            quarters = [part for half in halves for part in np.array_split(half, 2, axis=2)]
            sums = [quarter.sum(axis=(1, 2)) for quarter in quarters]
            histograms[start : start + size] = np.concatenate(sums, axis=1)
            bar.update(len(block))
    return histograms


class _Kinds:
    """Centres of k-means on whitened patches of some images."""

    def __init__(self, images: np.ndarray):
        from sklearn.cluster import MiniBatchKMeans

        rng = np.random.default_rng(0)
        patches = _normalised(_some_patches(images, rng))
        self.mean = patches.mean(axis=0)
        variances, axes = np.linalg.eigh(np.cov(patches - self.mean, rowvar=False))
        self.whitening = ((axes / np.sqrt(variances + WHITENING_FLOOR)) @ axes.T).astype(np.float32)
        white = (patches - self.mean) @ self.whitening
        fitted = MiniBatchKMeans(KINDS, batch_size=2048, n_init=1, max_iter=20, random_state=0)
        self.centres = fitted.fit(white).cluster_centers_.astype(np.float32)

    def likeness(self, patches: np.ndarray) -> np.ndarray:
        """By how much less than the mean of all centres each is away from patches (P, F)."""
        white = (_normalised(patches) - self.mean) @ self.whitening
        squares = (white**2).sum(axis=1)[:, None] + (self.centres**2).sum(axis=1)
        distances = np.sqrt(np.maximum(squares - 2 * white @ self.centres.T, 0))
        return np.maximum(distances.mean(axis=1, keepdims=True) - distances, 0)  # type: ignore[no-any-return]


def _patches(images: np.ndarray) -> np.ndarray:
    """All patches of images (N, H, W, C), flat: (N rows columns, F)."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (SIDE, SIDE), axis=(1, 2))
    return windows.reshape(-1, images.shape[-1] * SIDE**2)


def _some_patches(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Patches at random places, about as many of each image; at least one per kind."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (SIDE, SIDE), axis=(1, 2))
    num = max(KINDS, min(SEEN, SEEN_OF_ONE * len(images)))
    rows = rng.permutation(np.resize(np.arange(len(images)), num))
    tops, lefts = (rng.integers(0, side, num) for side in windows.shape[1:3])
    return windows[rows, tops, lefts].reshape(num, -1)


def _normalised(patches: np.ndarray) -> np.ndarray:
    """Patches of mean 0 and, but for faint ones, variance 1."""
    centred = patches - patches.mean(axis=1, keepdims=True)
    return centred / np.sqrt(centred.var(axis=1, keepdims=True) + CONTRAST_FLOOR)  # type: ignore[no-any-return]
