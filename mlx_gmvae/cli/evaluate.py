"""Evaluation of a trained model at the end of train.py: scores, diagrams and pages."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..clustering.pair_scores import closest_clusters, pair_scores
from ..clustering.verdict import signs_of, verdict
from ..data.images import Rows
from ..device import backend
from ..device.randomness import random_rows
from ..evaluation.scores import (
    ANOMALY_SCORES,
    anomaly_scores,
    component_gaussians,
    generative_scores,
    latents,
    responsibilities,
)
from ..models import MixtureModel
from ..report import model_summary, plots
from ..report.assignments import Assignments, scores_title
from ..report.card import write_card
from ..report.curves import training_curves
from ..report.summary import write_summary
from ..report.tables import write_json
from ..report.written_files import names_in, saved_line
from ..runs import provenance
from ..runs.iterations import compare_iterations
from ..runs.run_folder import WRITTEN
from .script import log_json, print_scores
from .start import Run

PICTURED_POINTS = 5000
SCORED_IMAGES = 1000  # with anomaly scores
CLUSTERED_IMAGES = 10_000  # in summary.html


def evaluate(run: Run) -> None:
    """Evaluate the trained model; write metrics.json, diagrams, summary.html and README.md."""
    model, test, config = run.trainer.model, run.splits.test, run.trainer.config
    model.eval()
    if config.early_stopping:
        run.folder.load_best(model)
        print(f"using the weights of epoch {run.trainer.best_epoch}, the best on validation images")
    metrics: dict[str, Any] = {"split": "test", "images": len(test)}
    metrics["generative"] = generative_scores(model, test.examples)
    print_scores("test", metrics["generative"])
    found = Assignments(test, np.ones((len(test), 1)))
    if isinstance(model, MixtureModel):
        found = Assignments(test, responsibilities(model, test.examples))
        metrics |= found.scores()
        train = run.trainer.training_images
        metrics["pairs"] = pair_scores(model, train, config, graph=run.trainer.neighbours)
        print_scores("training images, without labels", metrics["pairs"])
        # With the augmentation of the training images, so that both scores can be compared.
        metrics["test_pairs"] = pair_scores(model, test.examples, config)
        print_scores("test, without labels", metrics["test_pairs"])
        if "clustering" in metrics:
            print_scores(scores_title("test clustering", metrics), metrics["clustering"])
        graph, pair = run.trainer.neighbours, None
        if graph is not None and graph.shape[1]:
            pair = closest_clusters(model, train, graph)
            metrics["closest_clusters"] = pair
        is_selected = "K" in run.record.get("decided", {})
        signs = signs_of(model, config, found.clusters, len(train), is_selected)
        metrics["verdict"] = verdict(metrics["pairs"], pair, signs)
    if config.mutual_iterations is not None:
        for row in compare_iterations(run.folder.path, len(config.refits), test):
            print_scores(f"iteration {row.pop('iteration')}", row)
    for name, group in metrics.items():
        if isinstance(group, dict):
            group["split"] = "train" if name == "pairs" else "test"
    history = run.trainer.history
    metrics["training_seconds"] = sum(record["seconds"] for record in history)
    run.folder.save_model(run.trainer, run.source, metrics)
    folder = run.folder.path
    plots.save_curves(folder / "curves.png", training_curves(history), "epoch", "nats per image")
    save_summary(run, found, metrics)
    save_card(run, metrics)
    metrics["made_with"] = {"seed": config.seed, **provenance.to_share(run.record)}
    log_json("result", {"folder": str(folder), **metrics})
    write_json(run.folder.metrics, metrics)  # last: its presence marks a finished run
    print(saved_line(folder, names_in(folder, (*WRITTEN, "neighbours.npz"))))
    if "verdict" in metrics:
        print(f"verdict: {metrics['verdict']}")


def save_card(run: Run, metrics: dict[str, Any]) -> None:
    """Write README.md, the model card. Paths are shortened to their last part."""
    trainer, data, num = run.trainer, Path(run.source.dataset).name, len(run.splits.train)
    model, training = trainer.model.config, trainer.config
    given = {"dataset": data, "model": model.model} | model.given() | training.given()
    if run.source.classes:
        given["classes"] = tuple(run.source.classes)
    if training.features:
        given["features"] = Path(training.features).name
    if "init" in run.record:
        given["init"] = run.record["init"]["name"]
    given.pop("channels", None)
    words = ["python", "train.py"]
    for name, value in given.items():
        words += [f"--{name}", *map(str, value if isinstance(value, tuple) else [value])]
    text = f"{trainer.model!r}\n\nTrained without labels on {num:,} images of {data} for "
    text += f"{trainer.epoch} epochs ({metrics['training_seconds']:.0f} seconds) with mlx_gmvae "
    text += f"{__version__} on {backend.describe_device()}:"
    if "verdict" in metrics:
        text = f"Without labels: {metrics['verdict']}.\n\n{text}"
    configuration = {"model": model.to_dict(), "training": training.effective()}
    configuration["training"] |= {"features": given["features"]} if training.features else {}
    made_with = {"seed": training.seed} | provenance.in_words(run.record)
    path = run.folder.path / "README.md"
    title = run.folder.path.resolve().name
    write_card(path, title, text, shlex.join(words), metrics, made_with, configuration)


def save_summary(run: Run, found: Assignments, metrics: dict[str, Any]) -> None:
    """Write latent.png and summary.html, which shows all results."""
    model, folder, test = run.trainer.model, run.folder.path, run.splits.test
    panels, rows = found.colourings(PICTURED_POINTS)
    gaussians = component_gaussians(model) if isinstance(model, MixtureModel) else None
    z = latents(model, Rows(test.images, rows))
    plots.save_latent_plane(folder / "latent.png", z, panels, gaussians)
    config = run.trainer.config
    shown = clusters_shown(run, found)
    text = (
        f"{model.config.model} of {Path(test.name).name}, trained on {len(run.splits.train):,} "
        f"images for {run.trainer.epoch} epochs with seed {config.seed}. Unless stated otherwise, "
        f"pictures and figures are of {len(test):,} held-out test images"
    )
    if shown is not found:
        num, every = len(shown.dataset), sum(map(len, run.splits))
        which = f"all {num:,}" if num == every else f"{num:,} of all {every:,}, drawn at random"
        text += f"; clusters and anomalies are of {which}"
    text += "."
    if "verdict" in metrics:
        text = f"Without labels: {metrics['verdict']}.\n{text}"
    some = shown.of(np.sort(random_rows(len(shown.dataset), SCORED_IMAGES)))
    some.anomaly = anomaly_scores(model, some.dataset.examples)
    is_mixture = isinstance(model, MixtureModel)
    blocks = [
        model_summary.figures_block(metrics, text),
        model_summary.clusters_block(model, shown)
        if is_mixture
        else model_summary.samples_block(model),
        model_summary.reconstructions_block(model, test.images),
        model_summary.diagrams_block(folder),
        model_summary.anomalies_block(some, next(iter(ANOMALY_SCORES))),
    ]
    write_summary(folder / "summary.html", folder.resolve().name, blocks)


def clusters_shown(run: Run, found: Assignments) -> Assignments:
    """Return the images whose clusters summary.html shows.

    These are `found`, or all images (at most 10,000) of a dataset without a test split.
    """
    model, splits = run.trainer.model, run.splits
    if not splits.train.is_divided:
        return found
    whole = splits.whole()
    some = whole.view(np.sort(random_rows(len(whole), CLUSTERED_IMAGES)))
    q = np.ones((len(some), 1))
    if isinstance(model, MixtureModel):
        q = responsibilities(model, some.examples)
    return Assignments(some, q, parts=splits.parts_of(some))
