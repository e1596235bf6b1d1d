"""Cache of features on disk: a row of 16-bit floats for each image, NaN until it is computed.

The file is memory-mapped, and a row is written as soon as it is computed: an interrupted or killed
process loses at most one batch. Two processes that fill the same file write the same numbers.
"""

import contextlib
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..system.files import atomic_write, remove_stale

FORMAT = 1
BLOCK_ROWS = 1 << 14


class KeptFeatures:
    """Cached features of one listing of images from one encoder.

    The folder `place` contains <key>.npy and its description <key>.json. The key is a hash of
    everything that the features depend on.
    """

    def __init__(self, place: Path, source: str, encoder: str, listing: Any, num: int, dims: int):
        self.place = place
        self.shape = (num, dims)
        content = hashlib.sha256(json.dumps(listing).encode(errors="surrogateescape")).hexdigest()
        self.made_from = {
            "format": FORMAT, "source": source, "encoder": encoder, "listing": content,
        }  # fmt: skip
        key = hashlib.sha256(json.dumps(self.made_from).encode()).hexdigest()[:32]
        self.array = place / f"{key}.npy"

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the features at `rows`, float32; NaN where they are not computed yet."""
        found = self._mapped("r")
        if found is None:
            return np.full((len(rows), self.shape[1]), np.nan, np.float32)
        return np.asarray(found[rows], np.float32)

    def open(self) -> np.ndarray:
        """Return the memory-mapped array for writing; create it if needed. Raises InputError."""
        try:
            found = self._mapped("r+")
            if found is None:
                self._make()
                found = self._mapped("r+")
        except OSError as error:
            raise InputError(
                f"cannot keep features in {self.place} ({error.strerror or error}); choose another "
                "--data_dir"
            ) from None
        if found is None:
            raise InputError(f"{self.array} cannot be read back; choose another --data_dir")
        return found

    def _mapped(self, mode: Any) -> np.ndarray | None:
        """Return the memory-mapped array; None if the file is missing or damaged."""
        try:
            array = np.load(self.array, mmap_mode=mode, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return array if (array.shape, array.dtype) == (self.shape, np.float16) else None

    def _make(self) -> None:
        """Write a file of NaN, which reserves disk space for all rows."""
        self.place.mkdir(parents=True, exist_ok=True)
        num, dims = self.shape
        needed, free = 2 * num * dims, shutil.disk_usage(self.place).free
        if needed > free:
            raise InputError(
                f"the features of {num:,} images need {needed / 1e9:.1f} GB in {self.place}, where "
                f"{free / 1e9:.1f} GB are free; choose another --data_dir"
            )
        with atomic_write(self.array) as temporary, temporary.open("wb") as file:
            header = {"descr": "<f2", "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(file, header)
            empty = np.full((min(num, BLOCK_ROWS), dims), np.nan, "<f2")
            for start in range(0, num, BLOCK_ROWS):
                file.write(empty[: num - start].data)
        with atomic_write(self.array.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(self.made_from))
        self._remove_outdated()

    def _remove_outdated(self) -> None:
        """Remove features of this source and encoder from before the source changed."""
        for path in self.place.glob("[!.]*.json"):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                saved = json.loads(path.read_text())
                same = all(saved.get(key) == self.made_from[key] for key in ("source", "encoder"))
                if same and saved != self.made_from:
                    for suffix in (".json", ".npy"):
                        path.with_suffix(suffix).unlink(missing_ok=True)
        remove_stale(self.place)
