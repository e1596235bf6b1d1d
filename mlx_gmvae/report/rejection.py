"""Results of cluster.py --reject: scores of the assigned images and risk_coverage.png."""

from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.selective import risk_coverage, selective_scores
from . import plots
from .assignments import Assignments

PICTURE = "risk_coverage.png"


def rejection_scores(found: Assignments) -> dict[str, Any]:
    """Return the number of unassigned images and, with labels, scores of the assigned ones.

    `rejection` has the threshold, the number and the share of unassigned images, and the
    `selective_scores`. `assigned` has the scores against labels of the assigned images.
    """
    num = int((~found.is_assigned).sum())
    rejection = {
        "threshold": found.reject,
        "unassigned": num,
        "unassigned_share": num / len(found.dataset),
    }
    is_wrong = found.is_wrong
    if is_wrong is None:
        return {"rejection": rejection}
    rejection |= selective_scores(is_wrong, found.confidence)
    of_assigned = found.label_scores(np.flatnonzero(found.is_assigned))
    return {"rejection": rejection} | ({"assigned": of_assigned} if of_assigned else {})


def rejection_line(scores: dict[str, Any]) -> str:
    """Return a line with the number of unassigned images."""
    found = scores["rejection"]
    of = f"{found['unassigned']:,} of {scores['images']:,} images"
    share, limit = found["unassigned_share"], found["threshold"]
    return f"unassigned: {of} ({share:.1%}), whose confidence is below {limit:g}"


def save_risk_coverage(path: Path, found: Assignments) -> None:
    """Draw the error against coverage or, without labels, coverage against the threshold."""
    figure = plots.new_figure(6, 3.8)
    axis = figure.subplots()
    kept = found.is_assigned.mean()
    is_wrong = found.is_wrong
    if is_wrong is None:
        confidence = np.sort(found.confidence)
        axis.step(confidence, 1 - np.arange(len(confidence)) / len(confidence), where="pre")
        axis.plot(found.reject, kept, "o", color="black", label=f"--reject {found.reject:g}")
        axis.set_xlabel("confidence threshold")
        axis.set_ylabel("coverage: share of images assigned")
        axis.set_title("images that are assigned, by threshold", fontsize=10)
        axis.set_xlim(right=1.01)
        axis.set_ylim(0, 1.03)
    else:
        coverage, risk = risk_coverage(is_wrong, found.confidence)
        _, best = risk_coverage(is_wrong, 1.0 - is_wrong)
        scores = selective_scores(is_wrong, found.confidence)
        axis.plot(coverage, risk, lw=1.4, label=f"by confidence, AURC {scores['aurc']:.2g}")
        axis.axhline(is_wrong.mean(), color="black", ls=":", lw=0.9, label="random order")
        axis.plot(coverage, best, color="tab:green", ls="--", lw=0.9, label="best order")
        if kept:
            at = risk[round(kept * len(risk)) - 1]
            axis.plot(kept, at, "o", color="black", label=f"--reject {found.reject:g}")
        axis.set_xlabel("coverage: share of images assigned, most confident first")
        axis.set_ylabel("error of the assigned images")
        axis.set_title("error against coverage", fontsize=10)
        axis.set_xlim(0, 1.01)
        axis.set_ylim(bottom=0)
    axis.legend(fontsize=8)
    plots.save_figure(figure, path)
