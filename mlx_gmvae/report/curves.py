"""Training curves: one row of diagrams for the bound and one for the pair loss."""

from typing import Any

Lines = dict[str, list[float]]  # by name, which is "" for a single line

PAIR_PANELS = {
    "pair": "disagreement of pairs",
    "entropy": "entropy of mean q(y|x)",
    "imbalance": "imbalance",
    "sample": "sample loss",
}
NOT_TERMS = {"epoch", "loss", "throughput", "seconds", "validation", *PAIR_PANELS}


def training_curves(history: list[dict[str, Any]]) -> list[dict[str, Lines]]:
    """Return rows of diagrams by title, each with its lines over epochs, in nats per image.

    They show the weighted loss, the negative bound in training and on validation images (if any),
    and the terms of both, from the records of epochs.
    """
    series = {name: [record[name] for record in history] for name in history[0]}
    terms = [name for name in series if name not in NOT_TERMS]
    bound = [sum(record[name] for name in terms) for record in history]
    divergences = {name.removeprefix("kl_"): series[name] for name in terms if "kl" in name}
    rows = {
        "loss, as weighted": {"": series["loss"]},
        "negative bound": {"training": bound, "validation": series.get("validation", [])},
        **{name: {"": series[name]} for name in terms if "kl" not in name},
        "KL of q from the prior": divergences,
    }
    pairs = {title: {"": series.get(name, [])} for name, title in PAIR_PANELS.items()}
    return [_without_empty(row) for row in (rows, pairs) if _without_empty(row)]


def _without_empty(row: dict[str, Lines]) -> dict[str, Lines]:
    kept = {
        title: {name: values for name, values in lines.items() if values}
        for title, lines in row.items()
    }
    return {title: lines for title, lines in kept.items() if lines}
