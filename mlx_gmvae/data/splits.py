"""Datasets of images with metadata, and their splits into training and test images."""

import dataclasses
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from .images import Featured, Rows, as_uint8_images, crc32, joined

TEST_FRACTION = 0.2
SPLIT_SEED = 0


@dataclass(frozen=True)
class Dataset:
    """Images (N, H, W, C) as uint8, and labels (N,) as class numbers, if there are any.

    `index` (N,) is the position of each image in its source, and `class_names` has the name of
    each class number. Images from image files have the paths `files[index]`. `notes` are lines to
    show to the user, for example about skipped files, and `fitted` is one about resizing, if the
    images were resized. `bits` is how many bits a channel 16-bit images use, if there were any.
    `is_divided` says that the source has no test split and a fifth of it was held out. `features`
    (N, F) are those of a frozen encoder, for models whose q(y|x) takes features.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None
    index: np.ndarray
    class_names: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fitted: str = ""
    bits: int | None = None
    is_divided: bool = False
    features: np.ndarray | None = None

    @classmethod
    def of(cls, images: np.ndarray, name: str = "images") -> "Dataset":
        """Return a dataset of uint8 images (N, H, W, C) without other information."""
        return cls(name, images, None, np.arange(len(images)))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def examples(self) -> np.ndarray | Featured:
        """The input of models: the images, with their features if there are any."""
        return self.images if self.features is None else Featured(self.images, self.features)

    def __repr__(self) -> str:
        kinds = f", {len(self.class_names)} classes" if self.class_names else ""
        return f"Dataset({self.name!r}: {len(self):,} images of {self.image_shape}{kinds})"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def require_outside(self, folder: Path, flag: str) -> None:
        """Raise InputError if files written to `folder` would be read as images next time."""
        place = Path(os.path.realpath(folder))
        if self.files and Path(os.path.realpath(self.name)) in (place, *place.parents):
            raise InputError(
                f"{folder} lies in the folder of the images, {self.name}; choose another {flag}"
            )

    @cached_property
    def crc32(self) -> int:
        """The checksum of the images."""
        return crc32(self.images)

    @property
    def label_names(self) -> np.ndarray:
        """The name of each image's class, (N,); there must be labels."""
        return np.array(self.class_names)[self.labels]

    def source_of(self, row: int) -> str:
        """Return the file of an image, or its position in its source if there is no file."""
        index = int(self.index[row])
        return self.files[index] if self.files else str(index)

    def relative_name(self, row: int) -> str:
        """Return the path of an image relative to its folder, or its position in its source."""
        source = self.source_of(row)
        return Path(source).relative_to(self.name).as_posix() if self.files else source

    def columns(self) -> dict[str, Any]:
        """Return the columns of tables about images: positions in the source, and files if any."""
        columns: dict[str, Any] = {"index": self.index}
        if self.files:
            columns["file"] = [self.files[index] for index in self.index]
        return columns

    def short_name(self, row: int) -> str:
        """Return the name of an image for captions: its file name, or its number."""
        source = self.source_of(row)
        return Path(source).name if self.files else f"image {source}"

    def take(self, rows: np.ndarray) -> "Dataset":
        """Return a copy of the images at `rows`, in that order."""
        labels = None if self.labels is None else self.labels[rows]
        features = None if self.features is None else self.features[rows]
        images, index = self.images[rows], self.index[rows]
        return dataclasses.replace(
            self, images=images, labels=labels, index=index, features=features
        )

    def view(self, rows: np.ndarray) -> "Dataset":
        """Return the images at `rows`, in that order, uncopied: a copy may not fit in memory."""
        images: Any = Rows(self.images, rows)
        labels = None if self.labels is None else self.labels[rows]
        features = None if self.features is None else self.features[rows]
        return dataclasses.replace(
            self, images=images, labels=labels, index=self.index[rows], features=features
        )


class Splits(NamedTuple):
    """Training images, and held-out images for the scores in metrics.json."""

    train: Dataset
    test: Dataset

    def named(self, split: str) -> Dataset:
        """Return the "train" or "test" split, or "all": train followed by test."""
        if split != "all":
            return getattr(self, split)
        train, test = self
        labels = None
        if train.labels is not None and test.labels is not None:
            labels = np.concatenate([train.labels, test.labels])
        features = None
        if train.features is not None and test.features is not None:
            features = np.concatenate([train.features, test.features])
        return dataclasses.replace(
            train,
            images=joined(train.images, test.images),
            labels=labels,
            features=features,
            index=np.concatenate([train.index, test.index]),
        )

    def parts_of(self, dataset: Dataset) -> np.ndarray:
        """Return the split of each image of a dataset, "train" or "test", (N,)."""
        return np.where(np.isin(dataset.index, self.test.index), "test", "train")

    def whole(self) -> Dataset:
        """Return all images; if the source has no test split, in the order of the source."""
        every = self.named("all")
        if not every.is_divided:
            return every
        return every.view(np.argsort(every.index, kind="stable"))


def make_dataset(
    name: str,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    class_names: tuple[str, ...] = (),
    bits: int | None = None,
) -> Dataset:
    """Build a Dataset from arrays as they are in files, after checking them.

    Labels are whole numbers or names; `class_names` are the names of the numbers, if there are
    any. uint16 images use `bits` bits. Raises InputError.
    """
    found = images.shape
    images = as_uint8_images(images, name, bits)
    notes: tuple[str, ...] = ()
    if len(found) == 4 and found[-1] != images.shape[-1]:
        notes = (
            f"the last of {found[-1]} channels of {name} is used as alpha, on a white background",
        )
    if labels is None:
        return Dataset(name, images, None, np.arange(len(images)), notes=notes, bits=bits)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iubUS":
        raise InputError(
            f"{name}: labels have shape {labels.shape} and type {labels.dtype}; they must be "
            f"{len(images)} whole numbers or names"
        )
    if labels.dtype.kind in "iu" and labels.min(initial=0) >= 0 and labels.max(initial=0) < 1000:
        class_names = class_names or tuple(map(str, range(int(labels.max(initial=0)) + 1)))
        numbers = labels.astype(np.int64)
    else:
        values, numbers = np.unique(labels, return_inverse=True)
        class_names = tuple(str(value) for value in values)
    index = np.arange(len(images))
    return Dataset(name, images, numbers, index, class_names, notes=notes, bits=bits)


def hold_out(dataset: Dataset, least: int = 2) -> Splits:
    """Hold out TEST_FRACTION of the images at random, the same ones every time.

    Raises InputError if there are fewer than `least`; a single one is a test image.
    """
    if len(dataset) < least:
        needed = "1 is needed" if least == 1 else f"at least {least} are needed"
        raise InputError(f"{dataset.name} has {len(dataset)} images; {needed}")
    train, test = held_out_rows(len(dataset))
    dataset = dataclasses.replace(dataset, is_divided=True)
    return Splits(dataset.take(train), dataset.take(test))


def held_out_rows(num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which of `num` rows are for training and which for testing, in ascending order.

    >>> train, test = held_out_rows(100)
    >>> len(train), len(test)
    (80, 20)
    """
    order = np.random.default_rng(SPLIT_SEED).permutation(num)
    num_test = max(1, round(TEST_FRACTION * num))
    return np.sort(order[num_test:]), np.sort(order[:num_test])


def two_sources(train: Dataset, test: Dataset) -> Splits:
    """Combine training and test images from separate sources. Raises InputError.

    Positions of test images follow those of the training images. The classes are the union of
    both. Labels are kept only if both have them.
    """
    if train.image_shape != test.image_shape:
        raise InputError(
            f"{train.name}: training images are {train.image_shape}, test images "
            f"{test.image_shape} (height, width, channels); make them the same"
        )
    test = dataclasses.replace(test, index=test.index + len(train))
    if train.labels is None or test.labels is None:
        if train.labels is not None or test.labels is not None:
            there, missing = "training", "test"
            if train.labels is None:
                there, missing = missing, there
            line = (
                f"{train.name}: the labels of the {there} images are not used, since the {missing} "
                "images have none"
            )
            train = dataclasses.replace(train, notes=(*train.notes, line))
        return Splits(*(dataclasses.replace(part, labels=None) for part in (train, test)))
    names = sorted({*train.class_names, *test.class_names}, key=_numbers_by_value)
    return Splits(*(_with_classes(part, names) for part in (train, test)))


def _numbers_by_value(name: str) -> tuple[bool, int, str]:
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)


def _with_classes(dataset: Dataset, names: list[str]) -> Dataset:
    numbers = np.array([names.index(name) for name in dataset.class_names], np.int64)
    return dataclasses.replace(dataset, labels=numbers[dataset.labels], class_names=tuple(names))


def rows_of_classes(
    name: str, classes: list[str], class_names: tuple[str, ...], labels: np.ndarray | None
) -> np.ndarray:
    """Return the rows whose label is one of `classes`. Raises InputError for unknown classes."""
    if labels is None:
        raise InputError(f"{name} has no labels, so --classes cannot be used")
    unknown = [each for each in classes if each not in class_names]
    if unknown:
        raise InputError(
            f"{name} has no class {', '.join(unknown)}; it has {', '.join(class_names)}"
        )
    return np.flatnonzero(np.isin(labels, [class_names.index(each) for each in classes]))
