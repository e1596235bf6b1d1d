"""Image features that were computed elsewhere, which replace the descriptor.

The file is a .npy array (N, F), or an .npz with `features` and, to protect against a wrong order,
`files`. It has one row for each image of the source, in its order; for a folder, in the order of
the sorted relative names. `files` are names relative to the folder, absolute names, or base names
if these are unique.
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

CHECKED = 2000  # images whose neighbours are compared
FEWEST_CHECKED = 50
STANDARD_ERRORS = 3.0  # by which neighbours must be more similar than random images


def load_features(path: str, splits: Splits) -> Splits:
    """Return the images with their features (N, F) from a file, float32.

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
        with np.errstate(over="ignore", invalid="ignore"):  # checked below
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
    if files is None:  # with names, any order will do
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
    """Return which row belongs to each training image, and to each test image."""
    train, test = splits
    if files is not None:
        if len(files) != num:
            raise InputError(f"{path} has {num:,} rows of features and {len(files):,} files")
        whole = _rows_of_files(path, files, splits.named("all"))
        return whole[: len(train)], whole[len(train) :]
    counted = len(train) + len(test)
    expected = len(train.files) or counted
    last = int(np.concatenate([train.index, test.index]).max())
    is_part = not train.files and last + 1 > counted  # --classes selected some
    if num <= last or (num != expected and not is_part):
        raise InputError(
            f"{path} has {num:,} rows, {train.name} has {expected:,} images; give one row per "
            "image, in their order (of a folder: all image files, sorted by name)"
        )
    return train.index, test.index


def _rows_of_files(path: str, files: list[str], train: Dataset) -> np.ndarray:
    """Return which row has the name of each training image."""
    names = [train.relative_name(row) for row in range(len(train))]
    ways = [(files, names)]  # to match names, the most reliable first
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
        + (f"; give names relative to {train.name}" if train.files else "")
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
            f"the rows of {path} do not seem to be in the order of the images: images with similar "
            "features look no more alike than random ones; add their names as files in an .npz"
        )
