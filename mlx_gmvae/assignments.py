"""Which image belongs to which cluster: a table, contact sheets, a scatter, scores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import figures
from .data.splits import Dataset
from .metrics import calibration_error, clustering_scores

SHEET_IMAGES = 100
SHEET_COLUMNS = 10
SCATTER_POINTS = 5000


@dataclass
class Assignments:
    """Images and their responsibilities (N, K)."""

    dataset: Dataset
    responsibilities: np.ndarray

    @property
    def clusters(self) -> np.ndarray:
        """The most responsible component of each image, (N,)."""
        return self.responsibilities.argmax(axis=1)

    @property
    def confidence(self) -> np.ndarray:
        """Its responsibility, (N,)."""
        return self.responsibilities.max(axis=1)

    @property
    def sizes(self) -> np.ndarray:
        """Number of images in each cluster, (K,)."""
        return np.bincount(self.clusters, minlength=self.responsibilities.shape[1])

    def write_csv(self, path: Path) -> None:
        """One row per image: its index in the source, cluster, confidence, label if any."""
        columns = {
            "index": self.dataset.index,
            "cluster": self.clusters,
            "confidence": [f"{value:.6f}" for value in self.confidence],
        }
        if self.dataset.labels is not None:
            columns["label"] = np.array(self.dataset.class_names)[self.dataset.labels]
        rows = zip(*columns.values(), strict=True)
        figures.write_csv(path, [dict(zip(columns, row, strict=True)) for row in rows])

    def save_contact_sheets(self, outdir: Path) -> None:
        """cluster_<k>.png: the 100 most confident images of each cluster, best first."""
        for stale in outdir.glob("cluster_*.png"):
            stale.unlink()  # a cluster that is empty now must not keep an earlier run's sheet
        clusters, confidence = self.clusters, self.confidence
        for cluster in np.unique(clusters):
            members = np.flatnonzero(clusters == cluster)
            members = members[np.argsort(-confidence[members], kind="stable")][:SHEET_IMAGES]
            figures.save_grid(
                outdir / f"cluster_{cluster:02d}.png", self.dataset.images[members], SHEET_COLUMNS
            )

    def save_scatter(self, path: Path, latents: np.ndarray, centres: np.ndarray) -> None:
        """At most 5,000 latents (N, D) coloured by cluster and, beside it, by label."""
        some = np.random.default_rng(0).permutation(len(latents))[:SCATTER_POINTS]
        colourings = {"by cluster": self.clusters[some]}
        if self.dataset.labels is not None:
            names = np.array(self.dataset.class_names)
            colourings["by label"] = names[self.dataset.labels[some]]
        figures.save_latent_scatter(path, latents[some], colourings, centres)

    def scores(self) -> dict[str, Any]:
        """Cluster sizes, mean confidence and, where labels exist, ACC, NMI, ARI and calibration."""
        scores: dict[str, Any] = {
            "images": len(self.dataset),
            "cluster_sizes": self.sizes.tolist(),
            "mean_confidence": float(self.confidence.mean()),
        }
        if self.dataset.labels is not None:
            scores["clustering"] = clustering_scores(self.dataset.labels, self.clusters)
            scores["clustering"]["calibration_error"] = calibration_error(
                self.dataset.labels, self.responsibilities
            )
        return scores
