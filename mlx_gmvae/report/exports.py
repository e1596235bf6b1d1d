"""Export of assignments for other programs.

`projector` writes latents (vectors) and the properties of each image (metadata) as tab-separated
values for TensorBoard's Embedding Projector. `label-studio` writes a JSON list of tasks with the
cluster of each image as a prediction, for import into a project with a Choices control.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..system.files import atomic_write
from .assignments import UNASSIGNED, Assignments

VECTORS, METADATA, TASKS = "projector_vectors.tsv", "projector_metadata.tsv", "label_studio.json"
CONTROL, IMAGE = "cluster", "image"  # names in the labelling configuration
LOCAL_FILES = "/data/local-files/?d="  # Label Studio's prefix of local files


def save_projector(outdir: Path, found: Assignments, latents: np.ndarray) -> list[str]:
    """Write latents (N, D) and metadata for the Embedding Projector; return the file names."""
    with atomic_write(outdir / VECTORS) as written:
        np.savetxt(written, latents, fmt="%.6g", delimiter="\t")
    columns = found.columns()
    rows = [columns, *zip(*columns.values(), strict=True)]
    lines = ("\t".join(map(_in_one_cell, row)) + "\n" for row in rows)
    with atomic_write(outdir / METADATA) as written:
        written.write_text("".join(lines), encoding="utf-8", errors="replace")
    return [VECTORS, METADATA]


def save_label_studio(outdir: Path, found: Assignments, latents: np.ndarray) -> list[str]:
    """Write one task per image with its cluster as a prediction; return the file name.

    Unassigned images have no prediction. The images must be files; `require_exportable` checks
    this.
    """
    dataset, num = found.dataset, found.responsibilities.shape[1]
    names = found.class_names or [found.label(cluster) for cluster in range(num)]
    tasks = []
    for row, cluster in enumerate(found.clusters):
        path = Path(dataset.files[dataset.index[row]]).resolve()
        choice = {
            "from_name": CONTROL,
            "to_name": IMAGE,
            "type": "choices",
            "value": {"choices": [names[cluster]]},
        }
        score = round(float(found.confidence[row]), 4)
        prediction = {"model_version": "mlx_gmvae", "score": score, "result": [choice]}
        place = LOCAL_FILES + path.as_posix().lstrip("/")
        predictions = [] if cluster == UNASSIGNED else [prediction]
        tasks.append({"data": {IMAGE: place}, "predictions": predictions})
    with atomic_write(outdir / TASKS) as written:
        written.write_text(json.dumps(tasks, indent=1) + "\n", encoding="utf-8")
    return [TASKS]


EXPORTS: dict[str, Callable[[Path, Assignments, np.ndarray], list[str]]] = {
    "projector": save_projector,
    "label-studio": save_label_studio,
}


def require_exportable(names: list[str], has_files: bool) -> None:
    """Raise InputError if an export needs image files and there are none."""
    if "label-studio" in names and not has_files:
        raise InputError("--export label-studio needs a folder of image files")


def _in_one_cell(value: object) -> str:
    return " ".join(str(value).split())
