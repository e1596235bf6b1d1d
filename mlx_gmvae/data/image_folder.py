"""Folders of image files, with classes and splits from folder names and memory-mapped pixels."""

import os
import stat
import warnings
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from . import depth
from .arrangement import arrange
from .decode import Header, common_bits, decode, in_threads, read_header
from .fitting import Size, Sizes, note, proposed_size
from .formats import SUFFIXES, is_image_name, left_out
from .mapped import ArrayCache, Record
from .splits import Dataset, Splits, rows_of_classes

SKIPPED_SHOWN = 3


class Wanted(NamedTuple):
    """Options for loading images; where they are None, the images of the folder decide."""

    size: Size | None = None
    channels: int | None = None
    how: str = "crop"
    classes: list[str] | None = None
    least: int = 2  # images
    labels: bool = True  # whether classes are wanted
    bits: int | None = None  # at least so many of 16 are used; None: as the largest value needs


def load_image_folder(folder: Path, data_dir: Path, wanted: Wanted) -> Splits:
    """Load the images below `folder`, decoded once into `data_dir`/folders and mapped from there.

    Sub-folders `train` and `test` (or with similar names) are the splits; without them a fifth
    of the files is held out. The sub-folders below are the classes, if there are at least two and
    every image lies in one. Files that are not images, or cannot be read, are skipped, with a
    note. Images are resized if they do not all have the wanted size. They are in colour unless
    every image is grey.

    Raises InputError if there are too few images, or if the decoded images cannot be written.
    """
    folder = folder.resolve()
    listing, others = list_images(folder)
    names = [name for name, _, _ in listing]
    notes = [f"left out in {folder}: {left_out(others)}"] if others else []
    if not names:
        raise InputError(
            f"{folder} holds no IDX image files (names with idx3-ubyte, plain or .gz) and no "
            f"images ({' '.join(SUFFIXES)})" + "".join(f"; {note}" for note in notes)
        )
    arrangement = arrange(names)
    rows = np.arange(len(names))
    if wanted.classes:
        rows = rows_of_classes(
            str(folder), wanted.classes, arrangement.class_names, arrangement.labels
        )

    def cache_for(options: Wanted) -> ArrayCache:
        kept = options._asdict() | {"classes": sorted(options.classes or [])}
        for name in ("least", "labels"):  # they do not change what is read
            del kept[name]
        files = [list(file) for file in listing]
        return ArrayCache(data_dir / "folders", str(folder), files, kept)

    cache = cache_for(wanted)
    found = cache.read()
    if found is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual files that can be read nevertheless
            headers = read_headers(folder, names, rows, wanted.least)
            exact = wanted._replace(
                size=wanted.size or proposed_size(headers.sizes),
                channels=wanted.channels or headers.channels,
                bits=find_bits(folder, names, headers, wanted.bits),
            )
            if exact == wanted or cache_for(exact).read() is None:
                fill(cache_for(exact), folder, names, headers, arrangement.is_test, exact)
            if exact != wanted:
                cache.refer_to(cache_for(exact))
        found = cache.read()
    if found is None:
        raise InputError(f"{cache.array} cannot be read back; choose another --data_dir")
    images, record = found
    if record.skipped:
        notes.append(_skipped_note(folder, record, len(rows)))
    if record.bits not in (None, 16):
        notes.append(depth.describe(str(folder), record.bits))
    if record.paged[0]:
        notes.append(_pages_note(folder, *record.paged))
    if arrangement.labels is not None and wanted.labels and not wanted.classes:
        notes.append(
            f"{len(arrangement.class_names):,} sub-folders of {folder} are taken as classes, for "
            "the scores only; --no_labels ignores them"
        )
    sizes, size = Sizes(record.num_sizes, record.commonest), images.shape[1:3]
    fitted = ""
    if sizes.differ_from(size):
        fitted = note(str(folder), sizes, size, wanted.how, chosen=wanted.size is not None)
    files = tuple(str(folder / name) for name in names)
    parts, start = [], 0
    for positions in (record.train, record.test):
        index = np.array(positions, np.int64)
        labels = None if arrangement.labels is None else arrangement.labels[index]
        view = images[start : start + len(index)]
        start += len(index)
        divided = arrangement.is_divided
        described = (arrangement.class_names, files, tuple(notes), fitted, record.bits)
        parts.append(Dataset(str(folder), view, labels, index, *described, divided))
    return Splits(*parts)


def list_images(folder: Path) -> tuple[list[tuple[str, int, int]], list[str]]:
    """Return the image files below `folder`, and the names of all other files.

    Each image file has a relative name, a size in bytes and a modification time in ns; they are
    sorted by name. Hidden files and folders are skipped; links to folders are followed.
    """
    found, others, seen = [], [], set()
    for place, folders, names in os.walk(folder, onerror=_refuse_unreadable, followlinks=True):
        identity = _status(place)
        if identity is None:
            continue
        if (identity.st_dev, identity.st_ino) in seen:  # a link to a folder that was listed already
            folders.clear()
            continue
        seen.add((identity.st_dev, identity.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        below = "" if place == str(folder) else os.path.relpath(place, folder)
        for name in names:
            path = os.path.join(place, name)
            status = None if name.startswith(".") else _status(path)
            if status is None or not stat.S_ISREG(status.st_mode):
                continue
            if is_image_name(name):
                relative = os.path.join(below, name).replace(os.sep, "/")
                found.append((relative, status.st_size, status.st_mtime_ns))
            else:
                others.append(name)
    return sorted(found), others


def _refuse_unreadable(error: OSError) -> None:
    """Raise InputError, unless the folder was removed after it was listed."""
    if not isinstance(error, FileNotFoundError):
        raise InputError(
            f"cannot read the folder {error.filename} ({error.strerror}); make it readable, or "
            "move it away"
        )


def _status(path: str) -> os.stat_result | None:
    """Return the status of a file, or None if it does not exist any more."""
    try:
        return os.stat(path)
    except OSError:
        return None


class Headers(NamedTuple):
    """Headers of the files at some rows of a listing, and reasons for unreadable ones."""

    readable: dict[int, Header]
    skipped: dict[str, str]

    @property
    def sizes(self) -> list[Size]:
        return [(header.height, header.width) for header in self.readable.values()]

    @property
    def channels(self) -> int:
        """1 if every image is grey, otherwise 3."""
        return 1 if all(header.is_grey for header in self.readable.values()) else 3

    @property
    def paged(self) -> list[int]:
        """The number of files with several pages, and the number of their pages."""
        pages = [header.pages for header in self.readable.values() if header.pages > 1]
        return [len(pages), sum(pages)]


def _pages_note(folder: Path, files: int, pages: int) -> str:
    what = f"{files:,} TIFF files" if files > 1 else "a TIFF file"
    return (
        f"{folder}: of {what} with {pages:,} pages only the first page is read; save each page "
        "as a file, or all as an .npy array (N, H, W)"
    )


def read_headers(folder: Path, names: list[str], rows: np.ndarray, least: int) -> Headers:
    """Return the headers of the files at `rows`. Raises InputError if too few can be read."""
    headers = Headers({}, {})
    paths = [str(folder / names[row]) for row in rows]
    found = in_threads(read_header, paths, len(paths), "reading headers")
    for row, header in zip(rows, found, strict=True):
        if isinstance(header, str):
            headers.skipped[names[row]] = header
        else:
            headers.readable[int(row)] = header
    if len(headers.readable) < least:
        raise InputError(
            f"{folder} has {len(headers.readable)} readable images; at least {least} "
            + ("is needed" if least == 1 else "are needed")
            + (f" ({_some(headers.skipped)})" if headers.skipped else "")
        )
    return headers


def find_bits(folder: Path, names: list[str], headers: Headers, least: int | None) -> int | None:
    """Return how many bits the 16-bit files use together, at least `least`.

    Returns None if there are no such files.
    """
    paths = [str(folder / names[row]) for row, each in headers.readable.items() if each.is_deep]
    return common_bits(paths, least)


def fill(
    cache: ArrayCache,
    folder: Path,
    names: list[str],
    headers: Headers,
    is_test: np.ndarray,
    wanted: Wanted,
) -> None:
    """Decode the readable files into the cache: the training images, then the test images."""
    assert wanted.size is not None and wanted.channels is not None
    decode_one = partial(
        decode, channels=wanted.channels, size=wanted.size, how=wanted.how, bits=wanted.bits or 16
    )
    shape = (len(headers.readable), *wanted.size, wanted.channels)
    with cache.writing(shape) as (file, record):
        record.num_sizes, record.commonest = Sizes.of(headers.sizes)
        record.bits, record.paged = wanted.bits, headers.paged
        kept, skipped = (record.train, record.test), dict(headers.skipped)
        order = [row for part in (False, True) for row in headers.readable if is_test[row] == part]
        ordered = (str(folder / names[row]) for row in order)
        decoded = in_threads(decode_one, ordered, len(order), "decoding images")
        for row, image in zip(order, decoded, strict=True):
            if isinstance(image, str):
                skipped[names[row]] = image
            else:
                file.write(image.tobytes())
                kept[int(is_test[row])].append(row)
        record.skipped.update(sorted(skipped.items()))


def _skipped_note(folder: Path, record: Record, num: int) -> str:
    return (
        f"{len(record.skipped):,} of {num:,} images in {folder} cannot be read and are left out: "
        f"{_some(record.skipped)}; listed in {record.listed_in}"
    )


def _some(skipped: dict[str, str]) -> str:
    shown = [f"{name} ({reason})" for name, reason in list(skipped.items())[:SKIPPED_SHOWN]]
    return ", ".join(shown + ["..."] * (len(skipped) > SKIPPED_SHOWN))
