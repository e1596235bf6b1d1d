"""Results in CSV, JSON and NumPy files."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..system.files import atomic_write


def write_csv(path: Path, rows: list[dict[str, Any]], names: list[str] | None = None) -> None:
    """Write rows with equal keys as a CSV file with a header; give `names` if rows may be empty.

    The file is UTF-8. If it has non-ASCII text it starts with a byte order mark, because Excel
    misreads it otherwise.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=names or list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    encoding = "utf-8" if text.getvalue().isascii() else "utf-8-sig"
    with atomic_write(path) as written:
        written.write_bytes(text.getvalue().encode(encoding, "surrogateescape"))


def write_columns(path: Path, columns: dict[str, Any]) -> None:
    """Write named columns of equal length as a CSV file."""
    rows = zip(*columns.values(), strict=True)
    write_csv(path, [dict(zip(columns, row, strict=True)) for row in rows], list(columns))


def write_array(path: Path, values: np.ndarray) -> None:
    """Write an .npy file."""
    with atomic_write(path) as written:
        np.save(written, values)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write indented JSON by an atomic write."""
    with atomic_write(path) as written:
        written.write_text(json.dumps(values, indent=2) + "\n")
