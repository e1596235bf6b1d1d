"""Comparison of the iterations of mutual learning in a vae-gmm run."""

from pathlib import Path
from typing import Any

import numpy as np

from ..data.splits import Dataset
from ..device.randomness import random_rows
from ..evaluation.metrics import clustering_scores
from ..evaluation.scores import generative_scores, latents, responsibilities
from ..models import MixtureModel
from ..report import plots, tables
from .checkpoint import load_model

POINTS = 2000


def iteration_file(folder: Path, iteration: int) -> Path:
    """Return the file of the model after an iteration; iteration 0 is without a mixture."""
    return folder / "iterations" / f"iteration_{iteration:02d}.npz"


def compare_iterations(folder: Path, num: int, test: Dataset) -> list[dict[str, Any]]:
    """Return test scores of iterations 0 to `num` - 1, with the mixture fitted after each.

    Writes iterations.csv, elbo.png, accuracy.png (if there are labels), and latent_pca.png and
    latent_tsne.png, which compare iteration 0 with the last.
    """
    rows = []
    planes, maps = [], []
    some = np.sort(random_rows(len(test), POINTS))
    for iteration in range(num):
        model = load_model(iteration_file(folder, iteration)).model
        assert isinstance(model, MixtureModel)
        scores = generative_scores(model, test.images)
        row: dict[str, Any] = {"iteration": iteration, "elbo": scores["elbo"]}
        row["importance_bound"] = scores["importance_bound"]
        clusters = responsibilities(model, test.images).argmax(axis=1)
        if test.labels is not None:
            row |= clustering_scores(test.labels, clusters)
        rows.append(row)
        if iteration in (0, num - 1):
            kinds = clusters if test.labels is None else test.labels
            title = f"iteration {iteration}" + (" (no mutual learning)" if iteration == 0 else "")
            z = latents(model, test.images[some])
            centre, axes, axis_name = plots.plane_of(z)
            planes.append(plots.Panel(title, (z - centre) @ axes, kinds[some]))
            maps.append(plots.Panel(title, plots.tsne(z), kinds[some]))
    tables.write_csv(folder / "iterations.csv", rows)
    plots.save_panels(folder / "latent_pca.png", planes, axis_name)
    plots.save_panels(folder / "latent_tsne.png", maps, "t-SNE")
    for name, title in (("elbo", "test ELBO, nats per image"), ("accuracy", "test accuracy")):
        if name in rows[0]:
            values = [row[name] for row in rows]
            plots.save_curves(folder / f"{name}.png", [{title: {"": values}}], "iteration", first=0)
    return rows
