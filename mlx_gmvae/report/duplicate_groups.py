"""Table and sheet of near-duplicate groups, with the best image of each group first."""

from pathlib import Path
from typing import Any

import numpy as np

from ..data.decode import read_header
from ..data.splits import Dataset
from . import tables
from .sheets import Section, save_sheet

TABLE, SHEET = "duplicates.csv", "duplicates.png"
GROUPS_SHOWN, IMAGES_SHOWN = 40, 6


def save_groups(outdir: Path, dataset: Dataset, groups: list[np.ndarray]) -> list[str]:
    """Write duplicates.csv and, if there are groups, duplicates.png; return their names."""
    ordered = [best_first(dataset, rows) for rows in groups]
    rows = np.concatenate(ordered) if ordered else np.zeros(0, int)
    columns: dict[str, Any] = {
        "group": [number for number, each in enumerate(ordered) for _ in each],
        "is_best": [int(place == 0) for each in ordered for place in range(len(each))],
        **dataset.view(rows).columns(),
    }
    if dataset.files:
        sizes = [_size(dataset, row) for row in rows]
        columns |= {"pixels": [pixels for pixels, _ in sizes], "bytes": [size for _, size in sizes]}
    tables.write_columns(outdir / TABLE, columns)
    if not ordered:
        return [TABLE]
    largest = sorted(ordered, key=len, reverse=True)[:GROUPS_SHOWN]
    sections = [
        Section(
            f"{len(each)} images, best first" + ", not all shown" * (len(each) > IMAGES_SHOWN),
            dataset.images[each[:IMAGES_SHOWN]],
            [[dataset.short_name(row)] for row in each[:IMAGES_SHOWN]],
            IMAGES_SHOWN,
        )
        for each in largest
    ]
    title = f"{len(ordered):,} groups of near-duplicates, {len(rows):,} images"
    title += f"; the {GROUPS_SHOWN} largest are shown" * (len(ordered) > GROUPS_SHOWN)
    save_sheet(outdir / SHEET, title, sections)
    return [TABLE, SHEET]


def best_first(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Sort near-duplicates: files by pixels and then bytes, other images by sharpness."""
    if dataset.files:
        return np.array(sorted(rows, key=lambda row: _size(dataset, row), reverse=True))
    images = dataset.images[rows].astype(np.float32)
    sharpness = sum(np.abs(np.diff(images, axis=axis)).mean(axis=(1, 2, 3)) for axis in (1, 2))
    return rows[np.argsort(-sharpness, kind="stable")]


def _size(dataset: Dataset, row: int) -> tuple[int, int]:
    """Return the pixels and bytes of an image's file, or zeros if it cannot be read."""
    path = Path(dataset.files[dataset.index[row]])
    try:
        header = read_header(str(path))
        return header.height * header.width, path.stat().st_size
    except Exception:  # damaged or missing images raise a dozen unrelated types
        return 0, 0
