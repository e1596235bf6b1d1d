"""Names of the files and folders of each cluster, and those that an earlier call left."""

import csv
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .curation import NONE, Group
from .written_files import files_named

LONGEST_IN_FILE = 40  # characters of a cluster's name in a file name
TABLE = "assignments.csv"
EVERY_TABLE_HAS = {"index", "cluster", "confidence"}
NOT_ALWAYS_WRITTEN = (
    "confusion.png", "anomalies.png", "latent_tsne.png", "explorer.html", "latents.npy",
    "latents.csv", "summary.html", "duplicates.csv", "duplicates.png", "projector_vectors.tsv",
    "projector_metadata.tsv", "label_studio.json", "risk_coverage.png", "unassigned.png",
    "dendrogram.png", "latent_umap.png", "latent_pacmap.png",
)  # fmt: skip


def name_of_group(group: Group) -> str:
    """Return the name of a cluster's files and folders: its number, and its name if it has one."""
    if group.number is None:
        return f"cluster_{NONE}"
    name = _as_file_name(group.name)[:LONGEST_IN_FILE]
    return f"cluster_{group.number:02d}" + f"_{name}" * bool(name)


def names_of_classes(class_names: Sequence[str]) -> list[str]:
    """Return the name of each class's files and folders, with a number where two would be alike."""
    names = [f"class_{_as_file_name(name)}" for name in class_names]
    same = Counter(map(_compared, names))
    taken = {key for key, num in same.items() if num == 1}
    for number, name in enumerate(names):
        if same[_compared(name)] > 1:
            name = f"{name}_{number}"
            while _compared(name) in taken:
                name += "_"
            taken.add(_compared(name))
            names[number] = name
    return names


def earlier_results(folder: Path) -> list[Path]:
    """Return sheets and pictures of an earlier call in `folder` that the next may not overwrite.

    The table there shows that there was a call, and its class names. In a folder without a table,
    all files belong to the user.
    """
    try:
        with (folder / TABLE).open(
            newline="", encoding="utf-8-sig", errors="surrogateescape"
        ) as file:
            reader = csv.DictReader(file)
            columns = set(reader.fieldnames or ())
            if not columns >= EVERY_TABLE_HAS:
                return []
            rows = list(reader)
    except (OSError, csv.Error):
        return []
    patterns = [r"cluster_(\d\d|[1-9]\d\d+)\.png", *map(re.escape, NOT_ALWAYS_WRITTEN)]
    for number, name in {(row["cluster"] or "", row.get("predicted") or "") for row in rows}:
        if name:
            class_name = re.escape(_as_file_name(name))
            patterns.append(rf"class_{class_name}(_{re.escape(number)}_*)?\.png")
    for number, name in {(row["cluster"] or "", row.get("name") or "") for row in rows}:
        if number.isdecimal() or number == NONE:
            group = Group(int(number) if number != NONE else None, name, ())
            patterns.append(re.escape(f"{name_of_group(group)}.png"))
    return files_named(folder, "|".join(patterns))


def _as_file_name(name: str) -> str:
    return name.replace("/", "_").replace(os.sep, "_")


def _compared(name: str) -> str:
    """Return a file name as macOS compares it, without case and with normalised accents."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
