"""Tables, scores and pictures that cluster.py writes."""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

from ..clustering.duplicates import near_duplicates
from ..clustering.neighbour_sample import NeighbourSample, neighbour_sample
from ..clustering.pair_scores import closest_in_sample, pair_scores
from ..clustering.verdict import signs_of, verdict
from ..config import TrainConfig
from ..data.images import Rows
from ..data.splits import Dataset
from ..evaluation.scores import (
    anomaly_scores,
    bits_per_dim,
    latents,
    surveyed_elbo,
)
from ..models import MixtureModel
from ..models.mixture import Gaussians
from ..report import cluster_sheets, model_summary, plots, tables
from ..report.assignments import UNASSIGNED_NAME, Assignments, scores_title
from ..report.cluster_files import TABLE, earlier_results
from ..report.duplicate_groups import save_groups
from ..report.embeddings import EMBEDDINGS, picture_of
from ..report.explorer import LatentMap
from ..report.model_explorer import rows_shown
from ..report.rejection import PICTURE, rejection_line, rejection_scores, save_risk_coverage
from ..report.summary import write_summary
from ..report.written_files import alike, remove_outdated, saved_line
from ..runs.checkpoint import ModelFile
from ..system.cache import without_home
from ..training.resolve import resolve_training
from .compare import comparison_block
from .script import print_scores

SCATTER_POINTS = 5000
MAPPED_POINTS = 2000
MANY_DUPLICATES = 0.2  # share of the images
SELECTIVE = ("aurc", "aurc_best", "aurc_random", "auroc")
FAR = 0.25  # relative increase of the negative bound over that of the model's own test images


def save_results(
    args: argparse.Namespace,
    loaded: ModelFile,
    found: Assignments,
    gaussians: Gaussians | None,
    sample: NeighbourSample | None,
) -> dict[str, Any]:
    """Write tables, contact sheets, scores and latent.png, and remove those of an earlier call."""
    outdir = Path(args.outdir)
    earlier = earlier_results(outdir)
    found.write_csv(outdir / TABLE)
    sheets = cluster_sheets.save_contact_sheets(found, outdir)
    scores = report(args, loaded, found, sample)
    names = [TABLE, "metrics.json", "latent.png"]
    panels, some = found.colourings(SCATTER_POINTS)
    if args.save_latents:
        z = latents(loaded.model, found.dataset.images)
        tables.write_array(outdir / "latents.npy", z)
        columns = {f"z{number + 1}": column for number, column in enumerate(z.T)}
        tables.write_columns(outdir / "latents.csv", found.dataset.columns() | columns)
        names += ["latents.npy", "latents.csv"]
        z = z[some]
    else:
        z = latents(loaded.model, Rows(found.dataset.images, some))
    plots.save_latent_plane(outdir / "latent.png", z, panels, gaussians)
    if "confusion" in scores:
        counts, rows = (scores["confusion"][name] for name in ("counts", "labels"))
        classes = list(found.class_names)
        plots.save_confusion(outdir / "confusion.png", np.array(counts), rows, classes)
        names.append("confusion.png")
    if args.reject:
        save_risk_coverage(outdir / PICTURE, found)
        names.append(PICTURE)
    remove_outdated(earlier, [*sheets, *(outdir / name for name in names)])
    pattern = "class_*.png" if found.class_names else "cluster_*.png"
    unassigned = [sheet.name for sheet in sheets if sheet.stem == UNASSIGNED_NAME]
    listed = [*unassigned, *alike(pattern, len(sheets) - len(unassigned))]
    print(saved_line(outdir, [*names, *listed]))
    return scores


def say_how_far(loaded: ModelFile, dataset: Dataset) -> None:
    """Print the bound of images from another dataset beside that of the model's test images."""
    scores = loaded.metrics.get("generative")
    elbo = scores.get("elbo") if isinstance(scores, dict) else None
    if not isinstance(elbo, float):
        return
    bounds = surveyed_elbo(loaded.model, dataset.examples), elbo
    unit, dims = "bits per dimension", math.prod(loaded.model.config.image_shape)
    found, usual = (bits_per_dim(loaded.model, -each) for each in bounds)
    if found is None or usual is None:
        unit = "negative ELBO, nats per pixel and channel"
        found, usual = (-each / dims for each in bounds)
    line = f"{unit}: {found:.3g} ({usual:.3g} for the model's own test images)"
    strange = (
        "; these images differ from the training images" if found > usual + FAR * abs(usual) else ""
    )
    print(line + strange)


def save_map(args: argparse.Namespace, loaded: ModelFile, found: Assignments) -> LatentMap:
    """Draw the map of --map and return it: of 2,000 images, or of all those of the explorer."""
    rows = rows_shown(found) if args.explorer else found.some(MAPPED_POINTS)
    method, picture = EMBEDDINGS[args.map], picture_of(args.map)
    z = latents(loaded.model, Rows(found.dataset.images, rows))
    print(f"{method.name} of {len(z):,} latents", flush=True)
    points = method.function(z)
    plots.save_map(Path(args.outdir) / picture, points, found.kinds(rows), method.name)
    print(saved_line(Path(args.outdir), [picture]))
    return LatentMap(method.name, points, [])


def save_summary(
    args: argparse.Namespace, loaded: ModelFile, found: Assignments, scores: dict[str, Any]
) -> None:
    """Write summary.html, which shows all results."""
    outdir, dataset = Path(args.outdir), found.dataset
    text = described(found, args.split, Path(dataset.name).name)
    text += f", assigned by {without_home(args.model)}."
    if "verdict" in scores:
        text = f"Without labels: {scores['verdict']}.\n{text}"
    blocks = [model_summary.figures_block(scores, text)]
    if "comparison" in scores:
        blocks.append(comparison_block(scores["comparison"]))
    if found.responsibilities.shape[1] > 1:
        blocks.append(model_summary.clusters_block(loaded.model, found))
    if found.anomaly is not None:
        blocks.append(model_summary.anomalies_block(found, args.anomaly_score))
    blocks.append(model_summary.diagrams_block(outdir))
    write_summary(outdir / "summary.html", f"Clusters of {Path(dataset.name).name}", blocks)
    print(saved_line(outdir, ["summary.html"]))


def save_anomalies(
    args: argparse.Namespace, loaded: ModelFile, found: Assignments, scores: dict[str, Any]
) -> None:
    """Score every image; write a column of the table, metrics.json and anomalies.png."""
    outdir = Path(args.outdir)
    images, seed = found.dataset.examples, args.seed or 0
    found.anomaly = anomaly_scores(loaded.model, images, args.anomaly_score, seed)
    spread = {"median": float(np.median(found.anomaly)), "highest": float(found.anomaly.max())}
    print_scores(f"anomaly score ({args.anomaly_score}), nats", spread)
    found.write_csv(outdir / TABLE)
    scores["anomaly"] = {"score": args.anomaly_score, **spread}
    tables.write_json(outdir / "metrics.json", scores)
    cluster_sheets.save_anomalies(outdir / "anomalies.png", found, args.anomalies)
    print(saved_line(outdir, [TABLE, "metrics.json", "anomalies.png"]))


def save_duplicates(args: argparse.Namespace, dataset: Dataset, scores: dict[str, Any]) -> None:
    """Write duplicates.csv and duplicates.png, and the number of duplicates to metrics.json."""
    outdir = Path(args.outdir)
    groups = near_duplicates(dataset.images)
    found = {"groups": len(groups), "images": sum(map(len, groups))}
    of = f"{found['images']:,} of {len(dataset):,} images, in {len(groups):,} groups"
    print(f"near-duplicates: {of}")
    if found["images"] > MANY_DUPLICATES * len(dataset):
        print("so many are rarely real copies: simple drawings often look alike")
    scores["near_duplicates"] = found
    tables.write_json(outdir / "metrics.json", scores)
    print(saved_line(outdir, ["metrics.json", *save_groups(outdir, dataset, groups)]))


def described(found: Assignments, split: str, name: str) -> str:
    """Describe the images: their number, their source, and how many were used in training."""
    num = len(found.dataset)
    if split != "all":
        return f"{num:,} {split} images of {name}"
    if found.parts is None:
        return f"all {num:,} images of {name}"
    trained_on = int((found.parts == "train").sum())
    return f"all {num:,} images of {name} ({trained_on:,} of them used in training)"


def training_of(loaded: ModelFile, dataset: Dataset) -> TrainConfig:
    """Return the options of the training, with automatic ones chosen from these images."""
    config = TrainConfig.from_dict(loaded.training or {})
    return resolve_training(config, loaded.model.config, dataset.examples)[0]


def sampled_neighbours(
    args: argparse.Namespace, loaded: ModelFile, dataset: Dataset
) -> NeighbourSample | None:
    """Return the neighbours of some images, or None for a model without components."""
    if not isinstance(loaded.model, MixtureModel):
        return None
    return neighbour_sample(dataset.examples, training_of(loaded, dataset), args.seed or 0)


def report(
    args: argparse.Namespace,
    loaded: ModelFile,
    found: Assignments,
    sample: NeighbourSample | None,
) -> dict[str, Any]:
    """Print the scores and write them to metrics.json."""
    dataset = found.dataset
    scores = {"split": args.split, **found.scores()}
    what = f"classes {', '.join(found.class_names)}" if found.class_names else "clusters"
    sizes = ", ".join(map(str, found.sizes))
    print(f"{described(found, args.split, dataset.name)} in {what} of {sizes}")
    if isinstance(loaded.model, MixtureModel):
        config, seed = training_of(loaded, dataset), args.seed or 0
        examples = dataset.examples
        scores["pairs"] = pair_scores(loaded.model, examples, config, seed, sample=sample)
        without_labels = {"confidence": scores["mean_confidence"], **scores["pairs"]}
        print_scores("without labels", without_labels)
        if sample is not None and not found.class_names:
            own = found.most_likely if found.assigned is None else found.assigned
            signs = signs_of(loaded.model, config, own)
            closest = closest_in_sample(own, sample)
            scores["verdict"] = verdict(scores["pairs"], closest, signs)
    if args.reject:
        scores |= rejection_scores(found)
        print(rejection_line(scores))
    if "classification" in scores:
        title = f"{args.split}, from {args.labelled} labelled images per class"
        print_scores(title, scores["classification"])
    if "clustering" in scores:
        print_scores(scores_title(args.split, scores), scores["clustering"])
    if "assigned" in scores:
        print_scores(f"{args.split}, assigned images only", scores["assigned"])
    if "aurc" in scores.get("rejection", {}):
        areas = {name: scores["rejection"].get(name) for name in SELECTIVE}
        print_scores("error by confidence", {k: v for k, v in areas.items() if v is not None})
    if "verdict" in scores:
        print(f"verdict: {scores['verdict']}")
    tables.write_json(Path(args.outdir) / "metrics.json", scores)
    return scores
