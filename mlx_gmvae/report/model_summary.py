"""Sections of summary.html about a model: scores, clusters, reconstructions and anomalies."""

from pathlib import Path
from typing import Any

import numpy as np

from ..device.randomness import random_rows
from ..evaluation.scores import ANOMALY_SCORES, reconstruct, sample_rows
from ..formatting import SETS
from ..models import LatentVariableModel, MixtureModel
from .assignments import UNASSIGNED, Assignments
from .cluster_sheets import strangest
from .figures import interleave
from .summary import Block, Picture

SHOWN = 10  # images per cluster
STRANGEST = 20
RECONSTRUCTED = 20
DIAGRAMS = {
    "latent.png": "the latent space, in the plane of its two principal components",
    "latent_pca.png": "the latent space before and after mutual learning",
    "latent_tsne.png": "the latent space, by t-SNE",
    "latent_umap.png": "the latent space, by UMAP",
    "latent_pacmap.png": "the latent space, by PaCMAP",
    "dendrogram.png": "hierarchy of the clusters: those that share most neighbours merge first",
    "confusion.png": "labels and predicted classes",
    "risk_coverage.png": "images that stay unassigned (--reject)",
    "curves.png": "training curves: the loss, the bound and its terms, and the pair loss",
    "select_k.png": "choice of K: conductance between the two most similar clusters",
}


def figures_block(scores: dict[str, Any], text: str) -> Block:
    """Return the figures of a metrics.json, one line per group, with the images it is about."""
    shown = {}
    for name, value in scores.items():
        if isinstance(value, dict):
            numbers = {key: v for key, v in value.items() if isinstance(v, int | float)}
            if numbers:
                listed = (f"{_words(key)} {number:.4g}" for key, number in numbers.items())
                split = value.get("split", scores.get("split"))
                kind = _words(name.removeprefix("test_"))
                line = f"{kind}, {SETS[split]}" if split in SETS else kind
                shown[line] = ", ".join(listed)
        elif isinstance(value, int | float | str):
            shown[_words(name)] = f"{value:.4g}" if isinstance(value, float) else str(value)
    return Block("Figures", text, shown)


def _words(name: str) -> str:
    return name.replace("_", " ")


def clusters_block(model: LatentVariableModel, found: Assignments) -> Block:
    """Return the most typical images of each cluster, above samples of its component."""
    drawn = np.zeros(0)
    per_component = isinstance(model, MixtureModel) and not found.class_names
    if per_component:
        rows = sample_rows(model, SHOWN, seed=0)
        drawn = rows.reshape(-1, SHOWN, *rows.shape[1:])  # (K, SHOWN, H, W, C)
    pictures = []
    for cluster in np.unique(found.clusters):
        images = found.dataset.images[found.most_typical(cluster)[:SHOWN]]
        has_component = per_component and cluster != UNASSIGNED
        members = list(found.groups[cluster].members) if has_component else []
        if members:
            blank = np.full((SHOWN - len(images), *images.shape[1:]), 255, np.uint8)
            # Samples of merged components alternate.
            samples = drawn[members].swapaxes(0, 1).reshape(-1, *rows.shape[1:])[:SHOWN]
            both = interleave(np.concatenate([images, blank]), samples, SHOWN)
        else:
            both = images
        pictures.append(Picture(found.title(cluster), both, SHOWN))
    kind = "Classes" if found.class_names else "Clusters"
    text = "The most typical images of each"
    text += ", above samples of its component." if per_component else "."
    return Block(kind, text, pictures=pictures)


def anomalies_block(found: Assignments, kind: str) -> Block:
    """Return the images with the highest anomaly scores; `kind` is one of ANOMALY_SCORES."""
    section = strangest(found, STRANGEST)
    pictures = [
        Picture(", ".join(lines), section.images[row : row + 1], 1)
        for row, lines in enumerate(section.captions or [])
    ]
    num = len(found.dataset)
    text = f"The most anomalous of {num:,} images by {kind} ({ANOMALY_SCORES[kind]})."
    return Block("Anomalies", text, pictures=pictures)


def reconstructions_block(model: LatentVariableModel, images: np.ndarray) -> Block:
    """Return random images above their reconstructions."""
    some = images[random_rows(len(images), RECONSTRUCTED)]
    pairs = interleave(some, reconstruct(model, some), SHOWN)
    text = "Held-out test images, above their reconstructions."
    return Block("Reconstructions", text, pictures=[Picture("", pairs, SHOWN)])


def samples_block(model: LatentVariableModel) -> Block:
    """Return samples of a model without components."""
    picture = Picture("", sample_rows(model, SHOWN, seed=0), SHOWN)
    return Block("Samples", "Drawn from the prior.", pictures=[picture])


def diagrams_block(folder: Path) -> Block:
    """Return the diagrams in a folder."""
    found = [(folder / name, text) for name, text in DIAGRAMS.items() if (folder / name).is_file()]
    return Block("Diagrams", pictures=[Picture(text, path) for path, text in found])
