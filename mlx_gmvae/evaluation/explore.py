"""explorer.html of a trained model: some images on the plane of their latents."""

from pathlib import Path

import numpy as np

from ..models import LatentVariableModel
from ..report.explorer import write_explorer
from ..report.plots import plane_of
from .assignments import Assignments
from .scores import anomaly_scores, latents

POINTS = 2000


def save_explorer(
    path: Path, title: str, model: LatentVariableModel, found: Assignments, kind: str, seed: int
) -> None:
    """Write the page of at most 2,000 images: cluster, label, confidence and anomaly score.

    The latter of a `kind` of `anomaly_scores`, unless they are known.
    """
    order = np.random.default_rng(0).permutation(len(found.dataset))
    rows = np.sort(order[:POINTS])
    images = found.dataset.images[rows]
    z = latents(model, images)
    centre, axes, _ = plane_of(z)
    if found.anomaly is None:
        anomaly = anomaly_scores(model, images, kind, seed)
    else:
        anomaly = found.anomaly[rows]
    names = [found.dataset.source_of(row) for row in rows]
    columns = found.properties(rows, anomaly)
    write_explorer(path, title, (z - centre) @ axes, images, names, columns)
