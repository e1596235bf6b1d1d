"""Comparison of a model's clusters with baselines on the same images (cluster.py --compare)."""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..clustering.neighbour_sample import NeighbourSample
from ..data.batches import over_batches
from ..data.images import Images, Rows, features_of
from ..device.randomness import random_rows
from ..errors import InputError
from ..evaluation.baselines import fitted_clusters, methods, principal_components
from ..evaluation.metrics import adjusted_rand, matching_accuracy
from ..evaluation.scores import latents
from ..formatting import aligned
from ..models import MixtureModel
from ..report.assignments import Assignments
from ..report.summary import Block
from ..report.tables import write_json
from ..report.written_files import saved_line

SPECTRAL_IMAGES = 5_000
OURS = "this model"
COLUMNS = {  # of the table, by the key in metrics.json
    "method": "",
    "input": "input",
    "neighbour_agreement": "neighbours agree",
    "ari": "ARI with it",
    "same_cluster": "same cluster",
    "accuracy": "accuracy",
    "seconds": "seconds",
}


class Compared(NamedTuple):
    """Clusters (n,) of sampled images by one method, and the seconds that it took."""

    method: str
    input: str
    clusters: np.ndarray
    seconds: float


def require_comparable(found: Assignments) -> None:
    """Raise InputError if there are too few clusters or images to compare."""
    clusters, images = len(found.groups), len(found.dataset)
    if clusters < 2:
        raise InputError("--compare needs two clusters or more")
    if images <= clusters:
        raise InputError(
            f"--compare needs more images than clusters: {images} images, {clusters} clusters"
        )


def compare(
    args: argparse.Namespace,
    model: MixtureModel,
    found: Assignments,
    sample: NeighbourSample,
    scores: dict[str, Any],
) -> None:
    """Fit the baselines, print the table and write it to metrics.json."""
    num, seed = len(sample.rows), args.seed or 0
    clusters = sum(group.number is not None for group in found.groups)
    spectral = np.sort(random_rows(num, SPECTRAL_IMAGES, seed))
    which = f"{num:,} of {len(found.dataset):,}" if num < len(found.dataset) else f"all {num:,}"
    some = f" (spectral: fitted on {len(spectral):,})" if len(spectral) < num else ""
    print(f"comparison on {which} images, K = {clusters}{some}", flush=True)
    compared = [Compared(OURS, "", found.most_likely[sample.rows], 0.0)]
    for name, x in inputs(model, found, sample.rows).items():
        for method, make in methods(clusters, len(spectral)).items():
            started = time.perf_counter()
            fitted = x[spectral] if method == "spectral" else x
            try:
                theirs = fitted_clusters(make(seed), fitted, x)
            except (ValueError, RuntimeError) as error:  # such as a solver that does not converge
                print(f"{method} on {name} failed ({error})")
                continue
            compared.append(Compared(method, name, theirs, time.perf_counter() - started))
    labels = found.dataset.labels
    of_rows = None if labels is None else labels[sample.rows]
    rows = [compared_scores(each, compared[0].clusters, sample.graph, of_rows) for each in compared]
    total = sum(each.seconds for each in compared)
    scores["comparison"] = {
        "images": num,
        "spectral_images": len(spectral),
        "clusters": clusters,
        "seconds": total,
        "rows": rows,
    }
    print("\n".join(aligned(as_table(scores["comparison"]))))
    print(f"comparison: {total:.1f} seconds")
    write_json(Path(args.outdir) / "metrics.json", scores)
    print(saved_line(Path(args.outdir), ["metrics.json"]))


def inputs(model: MixtureModel, found: Assignments, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the baselines are fitted on by name: principal components of two inputs."""
    images = Rows(found.dataset.examples, rows)
    features = features_of(images)
    if features is not None:
        name = "features of the encoder"
    elif model.has_classifier:
        name, features = "features of q(y|x)", over_batches(model.classifier_features, images)
    else:
        name, features = "latents", latents(model, images)
    given: dict[str, Images] = {"pixels": Rows(found.dataset.images, rows), name: features}
    return {name: principal_components(x)(x) for name, x in given.items()}


def compared_scores(
    each: Compared, ours: np.ndarray, graph: np.ndarray, labels: np.ndarray | None
) -> dict[str, Any]:
    """Return a row of the table: agreement with our clusters, of neighbours, and with labels."""
    row: dict[str, Any] = {"method": each.method, "input": each.input}
    if graph.shape[1]:
        same = each.clusters[:, None] == each.clusters[graph]
        row["neighbour_agreement"] = float(same.mean())
    row["ari"] = adjusted_rand(ours, each.clusters)
    row["same_cluster"] = matching_accuracy(ours, each.clusters)
    if labels is not None:
        row["accuracy"] = matching_accuracy(labels, each.clusters)
    return row | {"seconds": each.seconds}


def as_table(comparison: dict[str, Any]) -> list[list[str]]:
    """Return the rows of a comparison as text, below a row of titles."""
    shown = [name for name in COLUMNS if name in comparison["rows"][0]]
    rows = [[COLUMNS[name] for name in shown]]
    for each in comparison["rows"]:
        is_ours = each["method"] == OURS
        rows.append([_as_text(name, each[name], is_ours) for name in shown])
    return rows


def _as_text(name: str, value: Any, is_ours: bool) -> str:
    if isinstance(value, str):
        return value
    if is_ours and name in ("ari", "same_cluster", "seconds"):
        return ""
    if name == "seconds":
        return f"{value:.1f}"
    return f"{value:.3f}" if name == "ari" else f"{value:.1%}"


def comparison_block(comparison: dict[str, Any]) -> Block:
    """Return the table of a comparison for summary.html."""
    num, spectral = comparison["images"], comparison["spectral_images"]
    text = f"The clusters of this model and of scikit-learn's methods, on {num:,} images. "
    text += "Shown are the share of neighbours in one cluster, the adjusted Rand index with this "
    text += "model and the share of images in the same cluster after the best matching. "
    text += "Methods are fitted on 50 principal components of their input"
    text += f" (spectral: of {spectral:,} images)." if spectral < num else "."
    return Block("Comparison", text, table=as_table(comparison))
