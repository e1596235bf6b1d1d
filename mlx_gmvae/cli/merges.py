"""Hierarchy of a model's clusters: dendrogram.png, and --merge_to without training."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..clustering.hierarchy import cluster_affinity, linkage_of, merged_to
from ..clustering.neighbour_sample import NeighbourSample
from ..errors import InputError
from ..report.assignments import Assignments
from ..report.curation import Curation
from ..report.dendrogram import save_dendrogram
from ..report.tables import write_json
from ..report.written_files import saved_line

PICTURE, FILE = "dendrogram.png", "merged.json"


class Hierarchy(NamedTuple):
    """Merges of the clusters that have images: a linkage matrix of SciPy, and their columns."""

    linkage: np.ndarray
    columns: np.ndarray


def hierarchy_of(found: Assignments, sample: NeighbourSample | None) -> Hierarchy | None:
    """Return the hierarchy of clusters, or None if fewer than two have images or neighbours."""
    if sample is None or not sample.graph.shape[1]:
        return None
    own = found.most_likely[sample.rows]
    is_cluster = [group.number is not None for group in found.groups]
    present = np.array([y for y in np.unique(own) if found.class_names or is_cluster[y]])
    if len(present) < 2:
        return None
    shared = cluster_affinity(own, sample.graph, found.responsibilities.shape[1])
    return Hierarchy(linkage_of(shared[np.ix_(present, present)]), present)


def require_own_file(args: argparse.Namespace) -> None:
    """Raise InputError if merged.json would replace the file of --curation."""
    written = Path(args.outdir) / FILE
    if args.merge_to and args.curation and Path(args.curation).resolve() == written.resolve():
        raise InputError(f"--merge_to would replace {args.curation}; choose another --outdir")


def merged(
    found: Assignments, tree: Hierarchy | None, decided: Curation, num_clusters: int
) -> Curation:
    """Return `decided` with further merges, so that `num_clusters` with images are left.

    `found` has the clusters after `decided`, and `tree` is their hierarchy. The merges are printed.
    Raises InputError.
    """
    num = 1 if tree is None else len(tree.columns)
    if tree is None or num_clusters >= num:
        raise InputError(
            f"--merge_to is {num_clusters}, but the images are in {num} clusters; it must be fewer"
        )
    joined = [tree.columns[list(group)].tolist() for group in merged_to(tree.linkage, num_clusters)]
    members = {column: group.members for column, group in enumerate(found.groups)}
    for first, *others in joined:
        members[first] += tuple(part for other in others for part in members.pop(other))
    listed = ", ".join(" + ".join(map(found.label, group)) for group in joined)
    print(f"{num} clusters merged into {num_clusters}: {listed}")
    parts = sorted(tuple(sorted(group)) for group in members.values() if len(group) > 1)
    return dataclasses.replace(decided, merged=tuple(parts))


def save_hierarchy(
    args: argparse.Namespace,
    before: Assignments,
    tree: Hierarchy,
    decided: Curation | None,
    scores: dict[str, Any],
) -> None:
    """Write dendrogram.png, the merges to metrics.json and, with --merge_to, merged.json.

    `before` has the clusters before --merge_to.
    """
    outdir = Path(args.outdir)
    names = [before.label(column).replace("_", " ") for column in tree.columns]
    save_dendrogram(outdir / PICTURE, tree.linkage, names, args.merge_to or 0)
    written = [PICTURE, "metrics.json"]
    parts = [[name] for name in names]
    scores["hierarchy"] = []
    for first, second, distance, _ in tree.linkage:
        pair = parts[int(first)], parts[int(second)]
        scores["hierarchy"].append({"clusters": pair, "shared": 1 - float(distance)})
        parts.append(pair[0] + pair[1])
    write_json(outdir / "metrics.json", scores)
    if args.merge_to and decided is not None:
        write_json(outdir / FILE, decided.to_json())
        written.append(FILE)
    print(saved_line(outdir, written))
