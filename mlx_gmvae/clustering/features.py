"""Features of the images that were computed elsewhere, in place of a descriptor of our own.

A .npy array (N, F), or an .npz with `features` and, to be safe from a mix-up, `files`: one row for
each image of the source, in its order; for a folder that of the sorted relative names. `files` are
names below the folder or absolute ones, or base names if no two are alike.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np

from ..data.arrays import read_arrays
from ..data.splits import Dataset, Splits
from ..device.randomness import random_rows
from ..errors import InputError
from .descriptors import describe
from .neighbours import unit_length

CHECKED = 2000  # images whose neighbours are looked at
FEWEST_CHECKED = 50
STANDARD_ERRORS = 3.0  # by which neighbours must be more alike than images drawn at random


def load_features(path: str, splits: Splits) -> Splits:
    """Return the images with the features (N, F) that a file has of them, float32.

    Raises InputError unless they are finite numbers, as many as images, and in their order.
    """
    values, files = _read(Path(path))
    if values.ndim != 2 or values.dtype.kind not in "fiu" or not values.shape[1]:
        raise InputError(
            f"{path} has shape {values.shape} and type {values.dtype}; it must be numbers (N, F), "
            "one row per image"
        )
    parts = []
    for part, rows in zip(splits, _rows(path, len(values), files, splits), strict=True):
        with np.errstate(over="ignore", invalid="ignore"):  # seen below
            features = np.asarray(values[rows], np.float32)
            squares = np.square(features).sum(axis=1)
        bad = np.flatnonzero(~np.isfinite(squares))  # also where they are too large
        if len(bad):
            raise InputError(
                f"{path} has NaN, infinite or huge features for {len(bad):,} images, first in row "
                f"{rows[bad[0]]} (counted from 0)"
            )
        parts.append(dataclasses.replace(part, features=features))
    train, test = parts
    if files is None:  # rows with names need no order
        whole = train if len(train) >= len(test) else test
        assert whole.features is not None
        _require_order(path, unit_length(whole.features), whole.images)
    return Splits(train, test)


def _read(path: Path) -> tuple[np.ndarray, list[str] | None]:
    try:
        arrays = read_arrays(path, ("features", "files"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise InputError(f"{path} is not an array file ({error})") from None
    if "" in arrays:
        return arrays[""], None
    if "features" not in arrays:
        raise InputError(f"{path} has no array named features")
    files = [str(name) for name in arrays["files"].ravel()] if "files" in arrays else None
    return arrays["features"], files


def _rows(
    path: str, num: int, files: list[str] | None, splits: Splits
) -> tuple[np.ndarray, np.ndarray]:
    """Which row belongs to each training image, and to each test image."""
    train, test = splits
    if files is not None:
        if len(files) != num:
            raise InputError(f"{path} has {num:,} rows of features and {len(files):,} files")
        whole = _rows_of_files(path, files, splits.named("all"))
        return whole[: len(train)], whole[len(train) :]
    counted = len(train) + len(test)
    expected = len(train.files) or counted
    last = int(np.concatenate([train.index, test.index]).max())
    is_part = not train.files and last + 1 > counted  # --classes left some out
    if num <= last or (num != expected and not is_part):
        raise InputError(
            f"{path} has {num:,} rows, {train.name} has {expected:,} images; give one row per "
            "image, in their order (of a folder: all image files, sorted by name)"
        )
    return train.index, test.index


def _rows_of_files(path: str, files: list[str], train: Dataset) -> np.ndarray:
    """Which row has the name of each training image."""
    names = [train.relative_name(row) for row in range(len(train))]
    ways = [(files, names)]  # to match them, the surest first
    if train.files:
        paths = [train.source_of(row) for row in range(len(train))]
        ways.append(
            ([os.path.realpath(each) for each in files], list(map(os.path.realpath, paths)))
        )
        if len({os.path.basename(each) for each in train.files}) == len(train.files):
            ways.append((files, [os.path.basename(each) for each in names]))
    for given, wanted in ways:
        row_of = {name: row for row, name in enumerate(given)}
        if all(name in row_of for name in wanted):
            return np.array([row_of[name] for name in wanted])
    known = set(files)
    missing = [name for name in names if name not in known]
    raise InputError(
        f"{path} has no features of {len(missing):,} images, the first of them {missing[0]!r}; its "
        f"files have names like {files[0] if files else ''!r}"
        + (f"; give names below {train.name}" if train.files else "")
    )


def _require_order(path: str, features: np.ndarray, images: np.ndarray) -> None:
    """Raise InputError if neighbours look no more alike than images drawn at random."""
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    rows = np.sort(random_rows(len(images), CHECKED, rng))
    if len(rows) < FEWEST_CHECKED:
        return
    described = describe(images[rows], "hog")
    index = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(features[rows])
    neighbours = index.kneighbors(features[rows], return_distance=False)[:, 1]
    others = rng.permutation(len(rows))
    gain = np.linalg.norm(described - described[others], axis=1)
    gain -= np.linalg.norm(described - described[neighbours], axis=1)
    if gain.mean() < STANDARD_ERRORS * gain.std() / np.sqrt(len(gain)):
        raise InputError(
            f"the rows of {path} do not seem to be in the images' order: images with like features "
            "look no more alike than any two; name them with files in an .npz"
        )
