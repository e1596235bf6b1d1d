"""IDX files as MNIST has them, of few random images."""

import gzip
from pathlib import Path

from mlx_gmvae.data.downloads import sha256
from mlx_gmvae.data.splits import Splits

import numpy as np

rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (20, 5, 4), dtype=np.uint8)
LABELS = rng.integers(0, 3, 20).astype(np.uint8)


def idx_bytes(array: np.ndarray, kind: int = 8) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, kind, array.ndim]) + sizes + array.tobytes()


ROWS = {"train": slice(14), "t10k": slice(14, None)}  # of the images; of other files all


def files_of(prefix: str) -> dict[str, np.ndarray]:
    rows = ROWS.get(prefix, slice(None))
    images, labels = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
    return {images: IMAGES[rows], labels: LABELS[rows]}


def digests() -> dict[str, str]:
    every = files_of("train") | files_of("t10k")
    return {name: sha256(idx_bytes(array)) for name, array in every.items()}


def write_set(folder: Path, prefixes: tuple[str, ...] = ("train", "t10k")) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for prefix in prefixes:
        for name, array in files_of(prefix).items():
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))


def require_parts(splits: Splits) -> None:
    """Each part of `write_set`'s is itself, images and labels."""
    for prefix, part in zip(ROWS, splits, strict=True):
        images, labels = files_of(prefix).values()
        np.testing.assert_array_equal(part.images[..., 0], images)
        np.testing.assert_array_equal(part.label_names.astype(int), labels)
