"""Cluster assignments of images: their columns in tables, and scores against labels."""

import dataclasses
import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..data.images import crc32
from ..data.splits import Dataset
from ..device.randomness import random_rows
from ..evaluation.metrics import (
    best_possible_accuracy,
    calibration_error,
    classification_scores,
    clustering_scores,
    confusion_of,
    exemplar_accuracy,
    is_matched,
)
from . import tables
from .cluster_files import name_of_group, names_of_classes
from .curation import NONE, Curation, Group

UNASSIGNED, UNASSIGNED_NAME = -1, "unassigned"  # -1 as in scikit-learn's DBSCAN


@dataclass
class Assignments:
    """Images, their responsibilities (N, K), and optionally anomaly scores (N,) in nats.

    With `class_names`, the columns of `responsibilities` are classes, named from a few labels.
    `parts` (N,) is "train" or "test" for each image, if there are both; otherwise `split` names
    the split of all images. After `curated`, the columns are the groups of a curation, and
    `assigned` (N,) holds the model's own clusters. Images of a confidence below `reject` stay
    unassigned.
    """

    dataset: Dataset
    responsibilities: np.ndarray
    class_names: tuple[str, ...] = ()
    anomaly: np.ndarray | None = None
    parts: np.ndarray | None = None
    split: str = ""
    curation: Curation | None = None
    curated_groups: tuple[Group, ...] = ()
    assigned: np.ndarray | None = None
    reject: float = 0.0

    def curated(self, curation: Curation) -> "Assignments":
        """Return the assignments after a curation: names, merges and moves."""
        found, groups = curation.applied(self.responsibilities, self.moves(curation))
        return dataclasses.replace(
            self, responsibilities=found, curation=curation, curated_groups=groups,
            assigned=self.most_likely,
        )  # fmt: skip

    def moves(self, curation: Curation) -> dict[int, int | None]:
        """Return the rows that a curation moves, and the new cluster (or None) of each."""
        return curation.moves(self.image_names, self.checksum)

    def checksum(self, row: int) -> int:
        """Return the CRC-32 of an image as the model sees it."""
        return crc32(self.dataset.images[row])

    @cached_property
    def image_names(self) -> list[str]:
        """The name of each image in a curation: its file relative to the folder, or its position.

        In arrays with a test split, positions start at 0 in each split, so these names begin with
        the split.
        """
        names = [self.dataset.relative_name(row) for row in range(len(self.dataset))]
        if self.dataset.files or self.dataset.is_divided:
            return names
        parts = itertools.repeat(self.split) if self.parts is None else self.parts
        return [
            f"{part}/{name}" if part else name for part, name in zip(parts, names, strict=False)
        ]

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The columns of `responsibilities`: the model's clusters, or those after curation."""
        return self.curated_groups or Curation(self.responsibilities.shape[1]).groups()

    @property
    def most_likely(self) -> np.ndarray:
        """The most responsible component of each image, (N,)."""
        return self.responsibilities.argmax(axis=1)

    @property
    def clusters(self) -> np.ndarray:
        """The cluster of each image, (N,); -1 if it is unassigned."""
        return np.where(self.is_assigned, self.most_likely, UNASSIGNED)

    @property
    def is_assigned(self) -> np.ndarray:
        """Whether the confidence of each image is at least `reject`, (N,)."""
        return self.confidence >= self.reject

    @property
    def confidence(self) -> np.ndarray:
        """The responsibility of its most responsible component for each image, (N,)."""
        return self.responsibilities.max(axis=1)

    @property
    def sizes(self) -> np.ndarray:
        """Number of assigned images in each cluster, (K,)."""
        assigned = self.most_likely[self.is_assigned]
        return np.bincount(assigned, minlength=self.responsibilities.shape[1])

    @property
    def predicted(self) -> np.ndarray:
        """The name of each image's class, (N,)."""
        return np.array([*self.class_names, UNASSIGNED_NAME])[self.clusters]

    def of(self, rows: np.ndarray) -> "Assignments":
        """Return the assignments of the images at `rows`."""
        parts = None if self.parts is None else self.parts[rows]
        few = self.dataset.take(rows)
        assigned = None if self.assigned is None else self.assigned[rows]
        return dataclasses.replace(
            self, dataset=few, responsibilities=self.responsibilities[rows],
            anomaly=None, parts=parts, assigned=assigned,
        )  # fmt: skip

    def name(self, cluster: int) -> str:
        """Return the name of a cluster, or of unassigned images, in files and folders."""
        return UNASSIGNED_NAME if cluster == UNASSIGNED else self._file_names[cluster]

    def label(self, cluster: int) -> str:
        """Return the name of a cluster as shown to people."""
        if self.class_names or cluster == UNASSIGNED:
            return self.name(cluster)
        return self.groups[cluster].name or self.name(cluster)

    @cached_property
    def _file_names(self) -> list[str]:
        if self.class_names:
            return names_of_classes(self.class_names)
        return [name_of_group(group) for group in self.groups]

    def write_csv(self, path: Path) -> None:
        """Write `columns` with one row per image."""
        tables.write_columns(path, self.columns())

    def columns(self) -> dict[str, Any]:
        """Return the columns of tables: index in the source, file, split, cluster, label, ..."""
        columns = self.dataset.columns()
        if self.parts is not None:
            columns["split"] = self.parts
        # -1, the number of unassigned images, is also the index of the last entry.
        numbers = [NONE if each.number is None else each.number for each in self.groups]
        numbers.append(UNASSIGNED)
        columns["cluster"] = [numbers[cluster] for cluster in self.clusters]
        if self.curation is not None:
            names = [*(group.name for group in self.groups), ""]
            columns["name"] = [names[cluster] for cluster in self.clusters]
        columns["confidence"] = [f"{value:.6f}" for value in self.confidence]
        if self.class_names:
            columns["predicted"] = self.predicted
        if self.anomaly is not None:
            columns["anomaly"] = [f"{value:.3f}" for value in self.anomaly]
        if self.dataset.labels is not None:
            columns["label"] = self.dataset.label_names
        return columns

    def colourings(self, num: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return `kinds` of `num` random images, and their rows."""
        rows = self.some(num)
        return self.kinds(rows), rows

    def some(self, num: int) -> np.ndarray:
        """Return the rows of `num` random images, the same in each call."""
        return random_rows(len(self.dataset), num)

    def kinds(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return the values that colour the images at `rows`, by the title of the diagram.

        These are clusters, or classes if they have names, and labels if there are any.
        """
        kinds = {"by cluster": self.clusters}
        if self.class_names:
            kinds = {"by predicted class": self.predicted}
        if self.dataset.labels is not None:
            kinds["by label"] = self.dataset.label_names
        return {title: each[rows] for title, each in kinds.items()}

    def properties(self, rows: np.ndarray, anomaly: np.ndarray) -> dict[str, list]:
        """Return the properties that the explorer shows for the images at `rows`."""
        found: dict[str, list] = {"cluster": [self.label(each) for each in self.clusters[rows]]}
        if self.dataset.labels is not None:
            found["label"] = [str(name) for name in self.dataset.label_names[rows]]
        if self.parts is not None:
            found["split"] = self.parts[rows].tolist()
        found["confidence"] = np.round(self.confidence[rows].astype(float), 4).tolist()
        found["anomaly"] = np.round(anomaly.astype(float), 1).tolist()
        return found

    def most_typical(self, cluster: int) -> np.ndarray:
        """Return the rows of a cluster's images, most confident first."""
        members = np.flatnonzero(self.clusters == cluster)
        return members[np.argsort(-self.confidence[members], kind="stable")]

    def title(self, cluster: int) -> str:
        """Return the title of a cluster: its name, number of images and mean confidence."""
        members = self.clusters == cluster
        line = f"{self.label(cluster).replace('_', ' ')}: {members.sum():,} images"
        return f"{line}, mean confidence {self.confidence[members].mean():.3f}"

    def scores(self) -> dict[str, Any]:
        """Return cluster sizes, mean confidence and, if there are labels, scores against them.

        These are ACC, NMI, ARI and calibration for clusters, and accuracy, precision, recall and F1
        for classes. With fewer clusters than classes, the best possible ACC is given too.
        """
        scores: dict[str, Any] = {
            "images": len(self.dataset),
            **({} if self.parts is None else {"trained_on": int((self.parts == "train").sum())}),
            "cluster_sizes": self.sizes.tolist(),
            "mean_confidence": float(self.confidence.mean()),
        }
        if not self.has_scores:
            return scores
        every = np.arange(len(self.dataset))
        if self.class_names:
            scores["classification"] = self.label_scores(every)
            predicted = np.array(self.class_names)[self.most_likely]
            counts, rows = confusion_of(self.dataset.label_names, predicted, self.class_names)
            scores["confusion"] = {"labels": rows, "counts": counts.tolist()}
            return scores
        labels = self.dataset.labels
        assert labels is not None
        num_clusters = self.responsibilities.shape[1]
        scores["classes"] = len(np.unique(labels))
        clustering = self.label_scores(every)
        scores["clustering"] = {"accuracy": clustering["accuracy"]}
        if num_clusters < scores["classes"]:
            best = best_possible_accuracy(labels, num_clusters)
            scores["clustering"]["best_possible_accuracy"] = best
        scores["clustering"] |= clustering | {
            "exemplar_accuracy": exemplar_accuracy(labels, self.responsibilities),
            "calibration_error": calibration_error(labels, self.responsibilities),
        }
        return scores

    @property
    def has_scores(self) -> bool:
        """Whether there are labels, and more than one cluster."""
        return self.dataset.labels is not None and self.responsibilities.shape[1] > 1

    @property
    def is_wrong(self) -> np.ndarray | None:
        """Whether the most likely cluster of each image is not that of its class, (N,)."""
        if not self.has_scores:
            return None
        if self.class_names:
            return np.array(self.class_names)[self.most_likely] != self.dataset.label_names
        assert self.dataset.labels is not None
        return ~is_matched(self.dataset.labels, self.responsibilities)

    def label_scores(self, rows: np.ndarray) -> dict[str, float]:
        """Return the scores against labels of the images at `rows`, by their most likely cluster.

        They are empty if there are no rows or no scores.
        """
        if not (self.has_scores and len(rows)):
            return {}
        clusters = self.most_likely[rows]
        if self.class_names:
            predicted = np.array(self.class_names)[clusters]
            return classification_scores(self.dataset.label_names[rows], predicted)
        assert self.dataset.labels is not None
        return clustering_scores(self.dataset.labels[rows], clusters)


def scores_title(what: str, scores: dict[str, Any]) -> str:
    """Return the title of clustering scores, with the number of classes if it is not K."""
    clusters, classes = len(scores["cluster_sizes"]), scores["classes"]
    return what if clusters == classes else f"{what}, {clusters} clusters of {classes} classes"
