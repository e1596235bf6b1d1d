"""Results as files for other programs: CSV, JSON, NumPy arrays."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..system.files import atomic_write


def write_csv(path: Path, rows: list[dict[str, Any]], names: list[str] | None = None) -> None:
    """Rows of equal keys as a CSV file with a header, of `names` where there may be no row.

    In UTF-8, which names of other letters than English ones begin with a mark that says so, since
    Excel garbles them without.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=names or list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    encoding = "utf-8" if text.getvalue().isascii() else "utf-8-sig"
    with atomic_write(path) as written:
        written.write_bytes(text.getvalue().encode(encoding, "surrogateescape"))


def write_columns(path: Path, columns: dict[str, Any]) -> None:
    """Columns of equal length by name, as a CSV file."""
    rows = zip(*columns.values(), strict=True)
    write_csv(path, [dict(zip(columns, row, strict=True)) for row in rows], list(columns))


def write_array(path: Path, values: np.ndarray) -> None:
    """An .npy file."""
    with atomic_write(path) as written:
        np.save(written, values)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Readable JSON, whole or not at all."""
    with atomic_write(path) as written:
        written.write_text(json.dumps(values, indent=2) + "\n")
