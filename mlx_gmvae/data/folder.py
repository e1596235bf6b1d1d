"""Folders of image files: names make classes and splits, pixels come from a memory map."""

import os
import warnings
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from .decode import SUFFIXES, Header, decode, in_threads, is_image_name, read_header
from .mapped import ArrayCache, Record
from .splits import Dataset, Splits, held_out_rows, rows_of_classes

TEST_NAMES = {"test", "val", "valid", "validation"}
SIZES_SHOWN = 4
SKIPPED_SHOWN = 3


class Arrangement(NamedTuple):
    """What the folders say about N files: which are for testing, and their classes, if any."""

    is_test: np.ndarray  # (N,) bool
    labels: np.ndarray | None  # (N,) int
    class_names: tuple[str, ...]


def load_image_folder(
    folder: Path, data_dir: Path, image_size: tuple[int, int] | None, classes: list[str] | None
) -> Splits:
    """Images below `folder`, decoded once into `data_dir`/folders and mapped from there.

    Sub-folders `train` and `test` (or `val`) are the splits; without them a fifth of the files is
    held out. Sub-folders below are the classes if every image lies in one of at least two.
    Unreadable files are left out, with a note. Colour unless every image is grey.

    Raises InputError if there is no image, if sizes differ and `image_size` is None, or if the
    decoded images cannot be kept.
    """
    folder = folder.resolve()
    listing = list_images(folder)
    names = [name for name, _, _ in listing]
    if not names:
        raise InputError(
            f"{folder} holds no IDX image files (names with idx3-ubyte, plain or .gz) and no "
            f"images ({' '.join(SUFFIXES)})"
        )
    arrangement = arrange(names)
    rows = np.arange(len(names))
    if classes:
        rows = rows_of_classes(str(folder), classes, arrangement.class_names, arrangement.labels)
    options = {"image_size": image_size, "classes": sorted(classes or [])}
    cache = ArrayCache(data_dir / "folders", str(folder), [list(f) for f in listing], options)
    found = cache.read()
    if found is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd about files that can be read all the same
            fill(cache, folder, names, rows, arrangement.is_test, image_size)
        found = cache.read()
    if found is None:
        raise InputError(f"{cache.array} cannot be read back; choose another --data_dir")
    images, record = found
    files = tuple(str(folder / name) for name in names)
    notes = (_note(folder, record, len(rows), cache.skipped),) if record.skipped else ()
    parts, start = [], 0
    for positions in (record.train, record.test):
        index = np.array(positions, np.int64)
        some_labels = None if arrangement.labels is None else arrangement.labels[index]
        view = images[start : start + len(index)]
        start += len(index)
        parts.append(
            Dataset(str(folder), view, some_labels, index, arrangement.class_names, files, notes)
        )
    return Splits(*parts)


def list_images(folder: Path) -> list[tuple[str, int, int]]:
    """Relative name, bytes and time of change (ns) of every image file below, sorted by name.

    Hidden files and folders are not looked at; folders that are links are.
    """
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        identity = os.stat(place)
        if (identity.st_dev, identity.st_ino) in seen:  # a link to a folder that was there already
            folders.clear()
            continue
        seen.add((identity.st_dev, identity.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        below = "" if place == str(folder) else os.path.relpath(place, folder)
        for name in names:
            path = os.path.join(place, name)
            if is_image_name(name) and not name.startswith(".") and os.path.isfile(path):
                status = os.stat(path)
                relative = os.path.join(below, name).replace(os.sep, "/")
                found.append((relative, status.st_size, status.st_mtime_ns))
    return sorted(found)


def arrange(names: list[str]) -> Arrangement:
    """Splits and classes of files from their relative names."""
    parts = [name.split("/")[:-1] for name in names]
    first = [folders[0].lower() if folders else "" for folders in parts]
    others = set(first) - {"train"}
    if "train" in first and "" in others and others - {""} <= TEST_NAMES:
        raise InputError("some images lie beside the folder train, not in it; move them into it")
    if "train" in first and others and others <= TEST_NAMES:
        if len(others) > 1:
            raise InputError(
                f"there are folders {', '.join(sorted(set(first)))}; two splits are used: keep "
                "train and one other"
            )
        is_test = np.array([name != "train" for name in first])
        parts = [folders[1:] for folders in parts]
    else:
        is_test = np.zeros(len(names), bool)
        if len(names) > 1:
            # Of the names alone, so that neither --classes nor a damaged file moves the others.
            is_test[held_out_rows(len(names))[1]] = True
    if not all(parts):
        return Arrangement(is_test, None, ())
    class_names, labels = np.unique([folders[0] for folders in parts], return_inverse=True)
    if len(class_names) < 2:
        return Arrangement(is_test, None, ())
    return Arrangement(is_test, labels, tuple(map(str, class_names)))


def fill(
    cache: ArrayCache,
    folder: Path,
    names: list[str],
    rows: np.ndarray,
    is_test: np.ndarray,
    image_size: tuple[int, int] | None,
) -> None:
    """Decode the files at `rows` into the cache: those for training, then those for testing."""
    paths = [str(folder / names[row]) for row in rows]
    headers: dict[int, Header] = {}
    skipped: dict[str, str] = {}
    found = in_threads(read_header, paths, len(paths), "reading headers")
    for row, header in zip(rows, found, strict=True):
        if isinstance(header, str):
            skipped[names[row]] = header
        else:
            headers[row] = header
    if len(headers) < 2:
        raise InputError(
            f"{folder} has {len(headers)} readable images; at least 2 are needed"
            + (f" ({_some(skipped)})" if skipped else "")
        )
    channels = 1 if all(header.is_grey for header in headers.values()) else 3
    size = image_size or _common_size(folder, headers)
    decode_one = partial(decode, channels=channels, size=size, resize=image_size is not None)
    with cache.writing((len(headers), *size, channels)) as (file, record):
        kept = (record.train, record.test)
        order = [row for part in (False, True) for row in headers if is_test[row] == part]
        ordered = (str(folder / names[row]) for row in order)
        decoded = in_threads(decode_one, ordered, len(order), "decoding images")
        for row, image in zip(order, decoded, strict=True):
            if isinstance(image, str):
                skipped[names[row]] = image
            else:
                file.write(image.tobytes())
                kept[int(is_test[row])].append(int(row))
        record.skipped.update(sorted(skipped.items()))


def _common_size(folder: Path, headers: dict[int, Header]) -> tuple[int, int]:
    sizes = Counter((header.height, header.width) for header in headers.values())
    ((height, width), _), *others = sizes.most_common()
    if others:
        shown = [f"{h} x {w} in {num:,}" for (h, w), num in sizes.most_common(SIZES_SHOWN)]
        more = f" and {len(sizes) - SIZES_SHOWN:,} other sizes" if len(sizes) > SIZES_SHOWN else ""
        raise InputError(
            f"{folder} holds images of {len(sizes):,} sizes (height x width: {', '.join(shown)} "
            f"files{more}); resize them with --image_size H W, such as --image_size {height} "
            f"{width}"
        )
    return height, width


def _note(folder: Path, record: Record, num: int, skipped_file: Path) -> str:
    return (
        f"{len(record.skipped):,} of {num:,} images in {folder} cannot be read and are left out: "
        f"{_some(record.skipped)}; listed in {skipped_file}"
    )


def _some(skipped: dict[str, str]) -> str:
    shown = [f"{name} ({reason})" for name, reason in list(skipped.items())[:SKIPPED_SHOWN]]
    return ", ".join(shown + ["..."] * (len(skipped) > SKIPPED_SHOWN))
