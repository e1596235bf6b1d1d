"""Table of verdicts against accuracies, of all runs in results/clustering.json and earlier.json.

    python benchmarks/verdicts.py

A run is right here if its accuracy is at least 90 %. Runs of version 0.1.0 have no chance
agreement; it is computed from the sizes of their clusters on test images.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlx_gmvae.clustering.neighbours import STAY  # noqa: E402
from mlx_gmvae.clustering.pair_scores import Closest  # noqa: E402
from mlx_gmvae.clustering.verdict import (  # noqa: E402
    Signs,
    kind_of,
    neighbour_shares,
    what_to_try,
)

RIGHT = 0.9
KINDS = {"separated": "well separated", "overlap": "overlap", "none": "none", "one": "one cluster"}


def runs(name: str, found: dict[str, Any]) -> Iterator[tuple[str, float, float, float, float, str]]:
    """Yield the verdict, accuracies, kappa, stability and advice of the runs of an experiment."""
    for run in found.values():
        if "pairs" not in run:
            continue
        sizes = np.array(run["cluster_sizes"]) / sum(run["cluster_sizes"])
        chance = STAY + (1 - STAY) * np.square(sizes).sum()
        scores = {"chance_agreement": chance} | run["pairs"]
        agreement, by_chance = neighbour_shares(scores)
        kappa = (agreement - by_chance) / max(1 - by_chance, 1e-9)
        kind = kind_of(scores)
        pair = run.get("closest_clusters")
        signs = Signs(
            is_colour="photos" in name,
            has_features="features" in name or "EfficientNet" in name,
            num_images=4 * run["images"],  # those of sets without a test split; others have more
            is_k_selected="--K auto" in run["command"],
            is_trained_by_pairs="--pair_weight 0" not in run["command"],
            sizes=sizes,
        )
        advice = what_to_try(kind, None if pair is None else Closest(*pair), signs)
        clustering = run.get("clustering", {})
        accuracies = (clustering.get(f"{part}accuracy", np.nan) for part in ("", "majority_"))
        yield kind, *accuracies, kappa, run["pairs"]["augmentation_agreement"], advice


def span(values: list[float], scale: float = 100, digits: int = 1) -> str:
    """Return the range of the values as text."""
    if np.isnan(values).all():
        return ""
    low, high = (f"{scale * each:.{digits}f}" for each in (min(values), max(values)))
    return low if low == high else f"{low}-{high}"


def main() -> None:
    earlier, kept = (
        json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
        for name in ("earlier", "clustering")
    )
    kept = {f"earlier: {name}": found for name, found in earlier.items()} | kept
    counts: dict[tuple[str, str], int] = {}
    print("| runs | verdict | accuracy | majority | kappa | augmented | try |\n|" + "---|" * 7)
    for name, found in kept.items():
        rows = [] if name == "baselines" else list(runs(name, found))
        for kind in sorted({row[0] for row in rows}):
            some = [row for row in rows if row[0] == kind]
            columns = list(zip(*some, strict=True))
            accuracy, majority = (span(list(columns[place])) for place in (1, 2))
            kappa, stable = (span(list(columns[place]), 1, 2) for place in (3, 4))
            advice = "; ".join(sorted(set(filter(None, columns[5]))))
            print(f"| {name} ({len(some)}) | {KINDS[kind]} | {accuracy} | {majority} | {kappa} | "
                  f"{stable} | {advice} |")  # fmt: skip
            for value in columns[1]:
                outcome = "no labels" if np.isnan(value) else "right" if value >= RIGHT else "wrong"
                counts[kind, outcome] = counts.get((kind, outcome), 0) + 1
    outcomes = ("right", "wrong", "no labels")
    print("\n| verdict | " + " | ".join(outcomes) + " |\n|---|---|---|---|")
    for kind, words in KINDS.items():
        cells = (str(counts.get((kind, outcome), 0)) for outcome in outcomes)
        print(f"| {words} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
