"""Assign images to the clusters of a trained model and show the clusters.

python cluster.py --model pretrained/gmvae_mnist_K10_dims_0008.npz --split test
"""

import argparse
from pathlib import Path

import numpy as np

from ..data.splits import Dataset, Splits
from ..device import backend
from ..errors import InputError
from ..evaluation.scores import (
    component_gaussians,
    latents,
    responsibilities,
)
from ..models import MixtureModel
from ..models.mixture import Gaussians
from ..report import sorted_folders
from ..report.assignments import Assignments
from ..report.curation import Curation
from ..report.embeddings import require_installed
from ..report.exports import EXPORTS, require_exportable
from ..report.model_explorer import save_explorer
from ..report.written_files import saved_line
from ..runs.checkpoint import ModelFile
from ..system import interrupts
from . import options
from .cluster_flags import parse_arguments, require_something_to_do
from .cluster_results import (
    sampled_neighbours,
    save_anomalies,
    save_duplicates,
    save_map,
    save_results,
    save_summary,
    say_how_far,
)
from .compare import compare, require_comparable
from .curated import curation_line, curation_of, save_curated
from .merges import hierarchy_of, merged, require_own_file, save_hierarchy
from .script import log_json, script


@script
def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    backend.select_device(args.cpu)
    loaded = options.load_checked_model(args)
    require_something_to_do(args, loaded.model)
    decided = curation_of(args, loaded)
    require_own_file(args)
    data = options.load_model_data(args, loaded, both_parts=bool(args.labelled))
    if args.features or loaded.model.config.classifier == "features":
        from .seen import as_trained  # not needed by other models

        splits = as_trained(loaded, args.features, data.splits, args.data_dir, args.model)
        data = data._replace(splits=splits)
    args.split = args.split or ("test" if args.labelled else data.usual_split)
    dataset = data.images(args.split)
    require_own_folder(Path(args.outdir), dataset)
    if args.map:
        require_installed(args.map)
    require_exportable(args.export, bool(dataset.files))
    if args.sort_into:
        sorted_folders.prepare(dataset, Path(args.sort_into), args.hard_links)
    print(backend.describe())

    interrupts.say(f"files in {args.outdir} may be incomplete; run the same command again")
    found, gaussians = assign(args, loaded, data.splits, dataset)
    found.split = args.split
    if args.split == "all":
        found.parts = data.parts_of(dataset)
    assigned = found
    if decided is not None:
        found = found.curated(decided)
        print(curation_line(args.curation or args.model, decided, found))
    if args.compare:
        require_comparable(found)
    sample = sampled_neighbours(args, loaded, dataset)
    before, tree = found, hierarchy_of(found, sample)
    if args.merge_to:
        decided = merged(found, tree, decided or Curation(loaded.model.config.K), args.merge_to)
        found = assigned.curated(decided)
    found.reject = args.reject or 0.0
    scores = save_results(args, loaded, found, gaussians, sample)
    if tree is not None:
        save_hierarchy(args, before, tree, decided, scores)
    if not data.is_own:
        say_how_far(loaded, dataset)
    if args.sort_into:
        interrupts.say(f"remove {args.sort_into}, then run the same command again")
        sorted_folders.sort_into(found, Path(args.sort_into), args.hard_links)
        print(f"saved {len(dataset)} images in folders of {args.sort_into}")
    if args.save_model and decided is not None:
        save_curated(args, loaded, dataset, found, decided)
    # Slow steps come last, so that Ctrl-C keeps the results of the others.
    if args.anomalies:
        save_anomalies(args, loaded, found, scores)
    for name in args.export:
        z = latents(loaded.model, dataset.images)
        print(saved_line(Path(args.outdir), EXPORTS[name](Path(args.outdir), found, z)))
    if args.duplicates:
        save_duplicates(args, dataset, scores)
    if args.compare:
        assert isinstance(loaded.model, MixtureModel) and sample is not None
        compare(args, loaded.model, found, sample, scores)
    first = save_map(args, loaded, found) if args.map else None
    if args.explorer:
        page = Path(args.outdir) / "explorer.html"
        title = f"{Path(dataset.name).name}, {args.split} images"
        score, seed = args.anomaly_score, args.seed or 0
        save_explorer(page, title, loaded.model, found, score, seed, first)
        print(saved_line(Path(args.outdir), ["explorer.html"]))
    save_summary(args, loaded, found, scores)
    log_json("result", {"folder": args.outdir, **scores})
    return 0


def assign(
    args: argparse.Namespace, loaded: ModelFile, splits: Splits, dataset: Dataset
) -> tuple[Assignments, Gaussians | None]:
    """Return the clusters, or classes from a few labels, and the components' Gaussians over z.

    With a model without components, all images are in one cluster.
    """
    model, seed = loaded.model, args.seed or 0
    if args.labelled:
        # Imported here because scikit-learn's mixtures are slow to load and rarely needed.
        from ..evaluation.labelled import classify

        classes = classify(model, splits.train, dataset.examples, args.labelled, seed)
        return Assignments(dataset, classes.values, classes.names), classes.gaussians
    if isinstance(model, MixtureModel):
        found = Assignments(dataset, responsibilities(model, dataset.examples))
        return found, component_gaussians(model)
    return Assignments(dataset, np.ones((len(dataset), 1))), None


def require_own_folder(outdir: Path, dataset: Dataset) -> None:
    """Raise InputError if `outdir` is the folder of a training run or lies among the images."""
    if any((outdir / name).exists() for name in ("state.npz", "seeds.json")):
        raise InputError(
            f"{outdir} holds a training run, and its metrics.json and pictures would be replaced; "
            "choose another --outdir"
        )
    dataset.require_outside(outdir, "--outdir")
