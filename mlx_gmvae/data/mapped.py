"""Cache of decoded images: one .npy file on disk, which is memory-mapped."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import InputError
from ..system.files import atomic_write, remove_stale

FORMAT = 3


@dataclass
class Record:
    """Contents of an array file: first the training images, then the test images.

    `train` and `test` are positions in the listing of the source. `skipped` maps the names of
    unreadable files to the reasons, which are also in the file `listed_in`, one per line.
    `num_sizes` and `commonest` are the `Sizes` of the images before they were resized. `bits` is
    how many bits a channel the 16-bit images use, if there are any. `paged` is the number of files
    with several pages, and the number of their pages.
    """

    train: list[int] = field(default_factory=list)
    test: list[int] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    listed_in: str = ""
    num_sizes: int = 0
    commonest: list[list[int]] = field(default_factory=list)
    bits: int | None = None
    paged: list[int] = field(default_factory=lambda: [0, 0])


class ArrayCache:
    """The cached array file of one source, one listing of its files and one set of options.

    The folder `place` has <key>.npy, <key>.json that describes it and, if files were skipped,
    <key>.skipped.txt. The key is a hash of everything that the content depends on. An entry for
    options that leave some values open may refer to the entry with these values filled in.
    """

    def __init__(self, place: Path, source: str, listing: list[list[Any]], options: dict[str, Any]):
        self.place = place
        self.made_from = {
            "format": FORMAT,
            "source": source,
            "listing": hashlib.sha256(json.dumps(listing).encode()).hexdigest(),
        }
        key = hashlib.sha256(json.dumps([self.made_from, options]).encode()).hexdigest()[:32]
        self.array = place / f"{key}.npy"
        self.description = place / f"{key}.json"
        self.skipped = place / f"{key}.skipped.txt"

    def read(self) -> tuple[np.ndarray, Record] | None:
        """Return the memory-mapped array and its record, or None if it is absent or damaged."""
        try:
            key, saved = self.array.stem, json.loads(self.description.read_text())
            if "same_as" in saved:
                key = str(saved["same_as"])
                saved = json.loads((self.place / f"{key}.json").read_text())
            record = Record(**{each.name: saved[each.name] for each in fields(Record)})
            images = np.load(self.place / f"{key}.npy", mmap_mode="r", allow_pickle=False)
            is_whole = images.ndim == 4 and len(images) >= len(record.train) + len(record.test)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return (images, record) if is_whole else None

    @contextlib.contextmanager
    def writing(self, shape: tuple[int, int, int, int]) -> Iterator[tuple[IO[bytes], Record]]:
        """Yield a file to write the bytes of at most `shape` images to, and a record to fill in.

        At the end both files are moved into place, and entries for earlier states of the source
        are removed. Raises InputError if the disk is too small or cannot be written.
        """
        record = Record()
        try:
            with atomic_write(self.array) as temporary, temporary.open("wb") as file:
                self._require_space(shape)
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                start = file.tell()
                yield file, record
                file.truncate(start + int(np.prod(shape, dtype=np.int64)))
                file.flush()
                self._remove_outdated()
            self._describe(record)
        except OSError as error:
            raise InputError(
                f"cannot keep decoded images in {self.place} ({error.strerror}); choose another "
                "--data_dir"
            ) from None

    def _require_space(self, shape: tuple[int, int, int, int]) -> None:
        num, height, width, channels = shape
        needed = num * height * width * channels
        free = shutil.disk_usage(self.place).free
        if needed > free:
            raise InputError(
                f"{num:,} decoded images of {height} x {width} x {channels} need "
                f"{needed / 1e9:.1f} GB in {self.place}, where {free / 1e9:.1f} GB are free; "
                "choose another --data_dir or a smaller --image_size"
            )

    def refer_to(self, other: "ArrayCache") -> None:
        """Let this entry refer to another one, which `read` then returns."""
        self._write_description({"same_as": other.array.stem})

    def _describe(self, record: Record) -> None:
        record.listed_in = str(self.skipped) if record.skipped else ""
        if record.skipped:
            lines = [f"{name}: {reason}\n" for name, reason in record.skipped.items()]
            with atomic_write(self.skipped) as temporary:
                temporary.write_text("".join(lines), errors="surrogateescape")
        self._write_description(vars(record))

    def _write_description(self, content: dict[str, Any]) -> None:
        with atomic_write(self.description) as temporary:
            temporary.write_text(json.dumps(self.made_from | content))

    def _remove_outdated(self) -> None:
        """Remove entries for earlier states of the source, and files that killed runs left."""
        for path in self.place.glob("[!.]*.json"):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                saved = json.loads(path.read_text())
                is_ours = saved.get("source") == self.made_from["source"]
                if is_ours and any(saved.get(k) != v for k, v in self.made_from.items()):
                    for suffix in (".json", ".npy", ".skipped.txt"):
                        path.with_suffix(suffix).unlink(missing_ok=True)
        remove_stale(self.place)
