"""Curations in cluster.py: reading them, and saving a model that contains one."""

import argparse
from pathlib import Path

from ..data.splits import Dataset
from ..models import MixtureModel
from ..report import curation
from ..report.assignments import Assignments
from ..runs.checkpoint import ModelFile, save_model

MODEL_SUFFIXES = (".npz", ".safetensors")


def curation_of(args: argparse.Namespace, loaded: ModelFile) -> curation.Curation | None:
    """Return the curation in the file of --curation, or else the one in the model file."""
    num_clusters = loaded.model.config.K
    if args.curation:
        return curation.read(Path(args.curation), num_clusters)
    has_clusters = isinstance(loaded.model, MixtureModel) and not args.labelled
    if has_clusters and "curation" in loaded.data:
        return curation.from_json(loaded.data["curation"], num_clusters, args.model)
    return None


def save_curated(
    args: argparse.Namespace,
    loaded: ModelFile,
    dataset: Dataset,
    found: Assignments,
    decided: curation.Curation,
) -> None:
    """Write the model with a curation inside, its last layer refitted to the moved images.

    The loaded model stays as it is, so that later results are those of the model that assigned.
    """
    from ..clustering.corrections import learn_corrections  # scipy's optimizers load slowly

    model = loaded.model
    assert isinstance(model, MixtureModel)
    corrected = {row: to for row, to in found.moves(decided).items() if to is not None}
    before = model.arrays()
    has_learned = learn_corrections(model, dataset.examples, corrected)
    parts = {
        "data": {**loaded.data, "curation": decided.to_json()},
        "metrics": {} if has_learned else loaded.metrics,  # those of the former layer
        "training": loaded.training,
    }
    save_model(args.save_model, model, **parts)
    model.load_weights(list(before.items()))
    learned = f"{len(corrected)} corrections learned" if has_learned else "no corrections learned"
    print(f"saved {args.save_model}: names and merges stored, {learned}")


def curation_line(path: str, decided: curation.Curation, found: Assignments) -> str:
    """Return a line that describes what a curation changes."""
    here, same_name = len(found.moves(decided)), sum(n in decided.moved for n in found.image_names)
    line = (
        f"{path}: {len(decided.names)} names, {decided.num_clusters} clusters merged into "
        f"{len(decided.groups())}, {here} of {len(decided.moved)} moved images found"
    )
    if others := same_name - here:
        line += f" ({others} with the same name but other pixels)"
    return line
