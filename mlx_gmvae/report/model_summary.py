"""What summary.html shows of a model: its clusters, what is strange, its figures."""

from pathlib import Path
from typing import Any

import numpy as np

from ..device.randomness import random_rows
from ..evaluation.scores import ANOMALY_SCORES, reconstruct, sample_rows
from ..formatting import SETS
from ..models import LatentVariableModel, MixtureModel
from .assignments import Assignments
from .figures import interleave
from .summary import Block, Picture

SHOWN = 10  # images of a cluster
STRANGEST = 20
RECONSTRUCTED = 20
DIAGRAMS = {
    "latent.png": "the latent space, in the plane of its two principal components",
    "latent_pca.png": "the latent space before and after mutual learning",
    "latent_tsne.png": "the latent space, by t-SNE",
    "confusion.png": "labels and predicted classes",
    "curves.png": "training: the loss, the bound and its terms, and what pairs of neighbours say",
    "select_k.png": "numbers of clusters: conductance between the two most alike ones",
}


def figures_block(scores: dict[str, Any], text: str) -> Block:
    """The figures in a metrics.json, a line for each group of them and which images it is of."""
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
    """The most typical images of each cluster, above what the model draws for it."""
    drawn = np.zeros(0)
    per_component = isinstance(model, MixtureModel) and not found.class_names
    if per_component:
        rows = sample_rows(model, SHOWN, seed=0)
        drawn = rows.reshape(-1, SHOWN, *rows.shape[1:])  # (K, SHOWN, H, W, C)
    pictures = []
    for cluster in np.unique(found.clusters):
        images = found.dataset.images[found.most_typical(cluster)[:SHOWN]]
        members = list(found.groups[cluster].members) if per_component else []
        if members:
            blank = np.full((SHOWN - len(images), *images.shape[1:]), 255, np.uint8)
            # Of merged components in turns.
            samples = drawn[members].swapaxes(0, 1).reshape(-1, *rows.shape[1:])[:SHOWN]
            both = interleave(np.concatenate([images, blank]), samples, SHOWN)
        else:
            both = images
        pictures.append(Picture(found.title(cluster), both, SHOWN))
    kind = "Classes" if found.class_names else "Clusters"
    text = "The most typical images of each"
    text += ", and below them samples of its component." if per_component else "."
    return Block(kind, text, pictures=pictures)


def anomalies_block(found: Assignments, kind: str) -> Block:
    """The images with the highest anomaly scores, which are of a `kind` of ANOMALY_SCORES."""
    section = found.strangest(STRANGEST)
    pictures = [
        Picture(", ".join(lines), section.images[row : row + 1], 1)
        for row, lines in enumerate(section.captions or [])
    ]
    text = f"The strangest of {len(found.dataset):,} images, by {kind}: {ANOMALY_SCORES[kind]}."
    return Block("Strange images", text, pictures=pictures)


def reconstructions_block(model: LatentVariableModel, images: np.ndarray) -> Block:
    """Images above their reconstructions."""
    some = images[random_rows(len(images), RECONSTRUCTED)]
    pairs = interleave(some, reconstruct(model, some), SHOWN)
    text = "Held-out images, and below them what their latents say of them."
    return Block("Reconstructions", text, pictures=[Picture("", pairs, SHOWN)])


def samples_block(model: LatentVariableModel) -> Block:
    """Samples of a model without components."""
    picture = Picture("", sample_rows(model, SHOWN, seed=0), SHOWN)
    return Block("Samples", "Drawn from the prior.", pictures=[picture])


def diagrams_block(folder: Path) -> Block:
    """The diagrams that lie in a folder."""
    found = [(folder / name, text) for name, text in DIAGRAMS.items() if (folder / name).is_file()]
    return Block("Diagrams", pictures=[Picture(text, path) for path, text in found])
