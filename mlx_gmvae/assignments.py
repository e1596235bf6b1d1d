"""Which image belongs to which cluster: a table, contact sheets, sorted folders, scores."""

import os
import shutil
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from . import figures, tables
from .data.splits import Dataset
from .errors import InputError
from .metrics import (
    calibration_error,
    classification_scores,
    clustering_scores,
    confusion_of,
    exemplar_accuracy,
)

SHEET_IMAGES = 100
SHEET_COLUMNS = 10


@dataclass
class Assignments:
    """Images, their responsibilities (N, K), and optionally anomaly scores (N,) in nats.

    With `class_names` the columns of `responsibilities` are classes, named from a few labels.
    """

    dataset: Dataset
    responsibilities: np.ndarray
    class_names: tuple[str, ...] = ()
    anomaly: np.ndarray | None = None

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

    @property
    def predicted(self) -> np.ndarray:
        """The name of each image's class, (N,)."""
        return np.array(self.class_names)[self.clusters]

    def name(self, cluster: int) -> str:
        """What files and folders of a cluster are called."""
        return self._names[cluster] if self.class_names else f"cluster_{cluster:02d}"

    @cached_property
    def _names(self) -> list[str]:
        """What files of each class are called; numbered where names would share a file."""
        names = [f"class_{_as_file_name(name)}" for name in self.class_names]
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

    def write_csv(self, path: Path) -> None:
        """One row per image: index in the source, file, cluster, confidence, label."""
        columns: dict[str, Any] = {"index": self.dataset.index}
        if self.dataset.files:
            columns["file"] = [self.dataset.files[index] for index in self.dataset.index]
        columns["cluster"] = self.clusters
        columns["confidence"] = [f"{value:.6f}" for value in self.confidence]
        if self.class_names:
            columns["predicted"] = self.predicted
        if self.anomaly is not None:
            columns["anomaly"] = [f"{value:.3f}" for value in self.anomaly]
        if self.dataset.labels is not None:
            columns["label"] = self.dataset.label_names
        rows = zip(*columns.values(), strict=True)
        tables.write_csv(path, [dict(zip(columns, row, strict=True)) for row in rows])

    def save_contact_sheets(self, outdir: Path) -> None:
        """cluster_<k>.png: the 100 most confident images of each cluster, best first."""
        for cluster in range(self.responsibilities.shape[1]):
            # A cluster that is empty now must not keep an earlier run's sheet.
            (outdir / f"{self.name(cluster)}.png").unlink(missing_ok=True)
        clusters, confidence = self.clusters, self.confidence
        for cluster in np.unique(clusters):
            members = np.flatnonzero(clusters == cluster)
            members = members[np.argsort(-confidence[members], kind="stable")][:SHEET_IMAGES]
            path = outdir / f"{self.name(cluster)}.png"
            figures.save_grid(path, self.dataset.images[members], SHEET_COLUMNS)

    def save_anomalies(self, path: Path, num: int) -> None:
        """The `num` images with the highest anomaly score, worst first."""
        assert self.anomaly is not None
        worst = np.argsort(-self.anomaly, kind="stable")[:num]
        figures.save_grid(path, self.dataset.images[worst], min(num, SHEET_COLUMNS))

    def sort_into(self, outdir: Path, hard_links: bool = False) -> None:
        """Put every image into a folder of its cluster: copies of the files, or hard links to them.

        Images that do not come from files of their own are written as PNG. The originals stay.
        Raises InputError if `outdir` is not empty or lies within the images' folder.
        """
        if hard_links and not self.dataset.files:
            raise InputError("--hard_links needs images that are files of their own")
        source = Path(self.dataset.name).resolve()
        if self.dataset.files and source in [outdir.resolve(), *outdir.resolve().parents]:
            raise InputError(f"{outdir} lies in the images' own folder; sort them into another")
        if outdir.exists() and (not outdir.is_dir() or any(outdir.iterdir())):
            raise InputError(f"{outdir} is not an empty folder; sort into a new one")
        for cluster in range(self.responsibilities.shape[1]):
            (outdir / self.name(cluster)).mkdir(parents=True, exist_ok=True)
        for row, (index, cluster) in enumerate(zip(self.dataset.index, self.clusters, strict=True)):
            folder = outdir / self.name(cluster)
            if not self.dataset.files:
                figures.save_image(folder / f"{index:06d}.png", self.dataset.images[row])
                continue
            original = Path(self.dataset.files[index])
            # Files of different folders may have the same name: the index keeps them apart.
            copy = folder / f"{index:06d}_{original.name}"
            if hard_links:
                os.link(original, copy)
            else:
                shutil.copy2(original, copy)

    def scores(self) -> dict[str, Any]:
        """Cluster sizes, mean confidence and, where labels exist, how well they are met.

        ACC, NMI, ARI and calibration of clusters; accuracy, precision, recall, F1 of classes.
        """
        scores: dict[str, Any] = {
            "images": len(self.dataset),
            "cluster_sizes": self.sizes.tolist(),
            "mean_confidence": float(self.confidence.mean()),
        }
        labels = self.dataset.labels
        if labels is None:
            return scores
        if self.class_names:
            names = self.dataset.label_names
            scores["classification"] = classification_scores(names, self.predicted)
            counts, rows = confusion_of(names, self.predicted, self.class_names)
            scores["confusion"] = {"labels": rows, "counts": counts.tolist()}
            return scores
        scores["clustering"] = clustering_scores(labels, self.clusters)
        for measure in (exemplar_accuracy, calibration_error):
            scores["clustering"][measure.__name__] = measure(labels, self.responsibilities)
        return scores


def _as_file_name(name: str) -> str:
    return name.replace("/", "_").replace(os.sep, "_")


def _compared(name: str) -> str:
    """What macOS compares of a file's name: neither case nor how an accent is written counts."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
