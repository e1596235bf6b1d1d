"""One way in for every image set: `load_dataset` gives train and test images and labels."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..config import LARGEST, require_range
from ..errors import InputError
from .idx import read_idx
from .published import PUBLISHED, default_data_dir, load_published

NAMES = (*PUBLISHED, "digits")
TEST_FRACTION = 0.2
SPLIT_SEED = 0


@dataclass(frozen=True)
class Dataset:
    """Images (N, H, W, C) as uint8, and labels (N,) as class numbers where there are any.

    `index` (N,) is each image's position in its source, and `class_names` the name of each
    class number.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None
    index: np.ndarray
    class_names: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def take(self, rows: np.ndarray) -> "Dataset":
        """The images at `rows`, in that order."""
        labels = None if self.labels is None else self.labels[rows]
        return dataclasses.replace(
            self, images=self.images[rows], labels=labels, index=self.index[rows]
        )


class Splits(NamedTuple):
    """Images to train on and images held out for the figures in metrics.json."""

    train: Dataset
    test: Dataset

    def named(self, split: str) -> Dataset:
        """The "train" or "test" split, or "all": train followed by test."""
        if split != "all":
            return getattr(self, split)
        train, test = self
        labels = None if train.labels is None else np.concatenate([train.labels, test.labels])
        return dataclasses.replace(
            train,
            images=np.concatenate([train.images, test.images]),
            labels=labels,
            index=np.concatenate([train.index, test.index]),
        )


def load_dataset(
    dataset: str,
    data_dir: str | Path | None = None,
    image_size: tuple[int, int] | None = None,
    classes: list[str] | None = None,
) -> Splits:
    """Load images by name or path.

    Args:
        dataset: "mnist", "fashion-mnist", "kmnist" (downloaded once, verified, cached),
            "digits" (scikit-learn's 1,797 handwritten digits), or a path: an .npy array of
            images, an .npz with `images` and optional `labels`, `test_images` and
            `test_labels`, or a folder of IDX files.
        data_dir: where downloads are kept, and looked for first.
        image_size: (H, W) to resize to; by default images keep their size.
        classes: keep only these classes, by name.

    A source without a test split of its own holds out a fifth, always the same one.

    Raises:
        DownloadError: a published set is not there and cannot be fetched.
        InputError: the source does not exist or is not what it says.
    """
    sides = image_size or (1, 1)
    if not (isinstance(sides, (list, tuple)) and [type(side) for side in sides] == [int, int]):
        raise InputError(f"image_size is {image_size!r}; it must be two whole numbers, H and W")
    if classes and not (isinstance(classes, list) and all(isinstance(c, str) for c in classes)):
        raise InputError(f"classes are {classes!r}; they must be a list of names")
    for side in sides:
        require_range("image_size", side, 1, LARGEST["image_size"])
    splits = _load(dataset, Path(data_dir).expanduser() if data_dir else default_data_dir())
    if classes:
        splits = Splits(*(_only_classes(part, classes) for part in splits))
    if image_size:
        splits = Splits(*(_resized(part, image_size) for part in splits))
    for part, what in zip(splits, ("training", "test"), strict=True):
        if not len(part):
            raise InputError(f"{dataset} has no {what} images")
    return splits


def _load(source: str, data_dir: Path) -> Splits:
    if source in PUBLISHED:
        arrays = load_published(source, data_dir)
        return Splits(*(_dataset(source, *arrays[split]) for split in ("train", "test")))
    if source == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        return hold_out(_dataset(source, images, digits.target))
    path = Path(source).expanduser()
    if path.is_dir():
        return _load_idx_folder(path)
    if path.suffix in (".npy", ".npz"):
        return _load_arrays(path)
    if path.exists():
        raise InputError(f"{path} is neither a folder nor an .npy or .npz file")
    raise InputError(
        f"there is no dataset or path {source!r}; choose one of {', '.join(NAMES)}, "
        "or give a folder or an .npy or .npz file"
    )


def hold_out(dataset: Dataset) -> Splits:
    """Split off TEST_FRACTION of the images at random, the same ones every time."""
    if len(dataset) < 2:
        raise InputError(f"{dataset.name} has {len(dataset)} images; at least 2 are needed")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(dataset))
    num_test = max(1, round(TEST_FRACTION * len(dataset)))
    test, train = np.sort(order[:num_test]), np.sort(order[num_test:])
    return Splits(dataset.take(train), dataset.take(test))


def _load_arrays(path: Path) -> Splits:
    try:
        content = np.load(path, allow_pickle=False)
        arrays = {"images": content} if path.suffix == ".npy" else dict(content)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as error:  # damaged archives raise a dozen unrelated types
        raise InputError(f"{path} is not a readable NumPy array file: {error}") from None
    if "images" not in arrays:
        found = ", ".join(arrays) or "nothing"
        raise InputError(f"{path} has no array named images (it has {found})")
    train = _dataset(str(path), arrays["images"], arrays.get("labels"))
    if "test_images" not in arrays:
        return hold_out(train)
    return _same_shape(train, _dataset(str(path), arrays["test_images"], arrays.get("test_labels")))


def _load_idx_folder(folder: Path) -> Splits:
    files = sorted(path for path in folder.iterdir() if "idx3" in path.name or "idx4" in path.name)
    if not files:
        raise InputError(f"{folder} holds no IDX image files (names with idx3-ubyte, plain or .gz)")
    parts = {path.name.split("-")[0].lower(): _read_idx_pair(path) for path in files}
    test = parts.pop("t10k", None) or parts.pop("test", None)
    if len(parts) != 1:
        raise InputError(f"{folder} must hold one IDX image file, or one train and one t10k file")
    (train,) = parts.values()
    return _same_shape(train, test) if test else hold_out(train)


def _read_idx_pair(images_path: Path) -> Dataset:
    name = images_path.name.replace("images", "labels").replace("idx3", "idx1")
    labels_path = images_path.with_name(name.replace("idx4", "idx1"))
    has_labels = labels_path != images_path and labels_path.is_file()
    labels = read_idx(labels_path) if has_labels else None
    return _dataset(str(images_path), read_idx(images_path), labels)


def _same_shape(train: Dataset, test: Dataset) -> Splits:
    if train.image_shape != test.image_shape:
        raise InputError(
            f"{train.name}: training images are {train.image_shape}, test images "
            f"{test.image_shape} (height, width, channels); make them alike or use --image_size"
        )
    if (train.labels is None) != (test.labels is None):
        train, test = (dataclasses.replace(part, labels=None) for part in (train, test))
    return Splits(train, test)


def _dataset(name: str, images: np.ndarray, labels: np.ndarray | None) -> Dataset:
    images = as_uint8_images(images, name)
    if labels is None:
        return Dataset(name, images, None, np.arange(len(images)))
    if labels.shape != (len(images),) or labels.dtype.kind not in "iubUS":
        raise InputError(
            f"{name}: labels have shape {labels.shape} and type {labels.dtype}; they must be "
            f"{len(images)} whole numbers or names"
        )
    if labels.dtype.kind in "iu" and labels.min(initial=0) >= 0 and labels.max(initial=0) < 1000:
        class_names = tuple(str(number) for number in range(labels.max(initial=0) + 1))
        numbers = labels.astype(np.int64)
    else:
        values, numbers = np.unique(labels, return_inverse=True)
        class_names = tuple(str(value) for value in values)
    return Dataset(name, images, numbers, np.arange(len(images)), class_names)


def as_uint8_images(images: np.ndarray, name: str) -> np.ndarray:
    """(N, H, W) or (N, H, W, C), uint8 or floats in [0, 1], as uint8 (N, H, W, C)."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise InputError(
            f"{name}: images have shape {images.shape}; they must be (N, H, W) or (N, H, W, C)"
        )
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if images.dtype.kind == "b":
        return images.astype(np.uint8) * 255
    if images.dtype.kind not in "fiu":
        raise InputError(f"{name}: images are of type {images.dtype}; use uint8 or floats")
    low, high = (float(images.min()), float(images.max())) if images.size else (0.0, 0.0)
    largest = 1.0 if images.dtype.kind == "f" else 255.0
    if not (low >= 0 and high <= largest):  # also false for NaN
        raise InputError(
            f"{name}: {images.dtype} images must lie in [0, {largest:g}], these in "
            f"[{low:g}, {high:g}]; rescale them"
        )
    return np.rint(images * (255 / largest)).astype(np.uint8)


def _only_classes(dataset: Dataset, classes: list[str]) -> Dataset:
    if dataset.labels is None:
        raise InputError(f"{dataset.name} has no labels, so --classes cannot choose among them")
    unknown = [name for name in classes if name not in dataset.class_names]
    if unknown:
        raise InputError(
            f"{dataset.name} has no class {', '.join(unknown)}; it has "
            f"{', '.join(dataset.class_names)}"
        )
    numbers = [dataset.class_names.index(name) for name in classes]
    return dataset.take(np.flatnonzero(np.isin(dataset.labels, numbers)))


def _resized(dataset: Dataset, size: tuple[int, int]) -> Dataset:
    if dataset.image_shape[:2] == tuple(size):
        return dataset
    return dataclasses.replace(dataset, images=resize_images(dataset.images, size))


def resize_images(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 images (N, H, W, C) resampled to (N, *size, C), bicubic with antialiasing."""
    height, width = size
    channels = images.shape[-1]
    resized = np.empty((len(images), height, width, channels), np.uint8)
    for image, out in zip(images, resized, strict=True):
        for channel in range(channels):
            plane = Image.fromarray(np.ascontiguousarray(image[..., channel]))
            out[..., channel] = np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC))
    return resized
