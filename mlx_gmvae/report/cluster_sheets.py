"""Contact sheets: the images of each cluster, and the most anomalous images."""

from pathlib import Path

import numpy as np

from .assignments import UNASSIGNED, Assignments
from .sheets import Section, save_sheet

SHEET_IMAGES = 100
SHEET_COLUMNS = 10


def save_contact_sheets(found: Assignments, outdir: Path) -> list[Path]:
    """Write the most and the least confident images of each cluster to cluster_<k>.png.

    Returns the files; a cluster without images has none.
    """
    sheets = []
    for cluster in np.unique(found.clusters):
        members = found.most_typical(cluster)
        num_doubtful = min(SHEET_COLUMNS, len(members) // 4)
        typical = members[: len(members) - num_doubtful][: SHEET_IMAGES - num_doubtful]
        doubtful = members[len(members) - num_doubtful :][::-1]
        first = "confident" if cluster == UNASSIGNED else "typical"
        sections = [
            Section(f"most {first} first", found.dataset.images[typical]),
            Section("least certain first", found.dataset.images[doubtful]),
        ]
        sheets.append(outdir / f"{found.name(cluster)}.png")
        save_sheet(sheets[-1], found.title(cluster), sections)
    return sheets


def strangest(found: Assignments, num: int) -> Section:
    """Return the `num` images with the highest anomaly scores, captioned with their score."""
    assert found.anomaly is not None
    worst = np.argsort(-found.anomaly, kind="stable")[:num]
    captions = [[f"{found.anomaly[row]:.1f} nats", found.dataset.short_name(row)] for row in worst]
    return Section("", found.dataset.images[worst], captions)


def save_anomalies(path: Path, found: Assignments, num: int) -> None:
    """Write a sheet of the images with the highest anomaly scores."""
    total = len(found.dataset)
    title = f"the {min(num, total):,} most anomalous of {total:,} images, highest score first"
    save_sheet(path, title, [strangest(found, num)])
