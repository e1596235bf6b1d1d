"""Phases of training: which loss is minimised, and for how long.

| phase       | epochs           | loss                                                         |
|-------------|------------------|--------------------------------------------------------------|
| elbo        | all              | the bound alone, where the model or its options know no pairs |
| pairs       | all              | and the pair loss of each head, without sub-clusters         |
| overcluster | 0 to 40 %        | and the pair loss of the over-clustering head                |
| distil      | 40 to 100 %      | sub-clusters, merged, teach q(y|x) with a falling weight     |
| refine      | 40 to 100 %      | as pairs, where the merge agrees with q(y|x) or is doubted   |

Partners are neighbours by a descriptor and, of few images, from 40 % on in the features of q(y|x).
"""

import math
from typing import Any, Literal, NamedTuple

from ..config import TrainConfig

Phase = Literal["elbo", "pairs", "overcluster", "distil", "refine"]
MERGE = 0.4  # of the epochs, after which sub-clusters are merged
DISTILLATION = 0.2  # of the epochs, the window in which their weight falls from 1 to 0
FREEZE = 0.6  # of the epochs, after which the chosen head stays chosen
RECOMPUTE = (MERGE, FREEZE)  # of the epochs, after which neighbours are recomputed
SPREAD_FIRST = 0.25  # of the epochs, in which free clusters are still asked to be of equal size
FREE_BALANCE = 0.8
OUTCOMES = ("agreed", "distil", "doubted")


class Merged(NamedTuple):
    """What came of the merge, and the distillation window in epochs."""

    outcome: str
    window: tuple[float, float]

    @classmethod
    def from_json(cls, saved: Any) -> "Merged | None":
        """Return what a state says. Raises ValueError if it is none."""
        if saved is None:
            return None
        outcome, (start, end) = saved
        if outcome not in OUTCOMES:
            raise ValueError(f"there is no merge that is {outcome!r}")
        return cls(outcome, (float(start), float(end)))


def phase_of(has_pairs: bool, has_sub_clusters: bool, merged: Merged | None) -> Phase:
    """Return the phase of a training with pairs and sub-clusters, before or after their merge."""
    if not has_pairs:
        return "elbo"
    if not has_sub_clusters:
        return "pairs"
    if merged is None:
        return "overcluster"
    return "distil" if merged.outcome == "distil" else "refine"


def is_time_to_merge(config: TrainConfig, epoch: int) -> bool:
    """Return whether sub-clusters are to be merged after so many epochs."""
    return epoch >= MERGE * config.epochs


def is_time_to_freeze(config: TrainConfig, epoch: int) -> bool:
    """Return whether the chosen head is to be frozen after so many epochs."""
    return epoch >= FREEZE * config.epochs


def is_time_to_recompute(config: TrainConfig, epoch: int) -> bool:
    """Return whether neighbours are to be recomputed after exactly so many epochs."""
    return epoch in [math.ceil(share * config.epochs) for share in RECOMPUTE]


def distillation_window(config: TrainConfig, epoch: int) -> tuple[float, float]:
    """Return the first and the last epoch in which merged sub-clusters teach q(y|x)."""
    return epoch, epoch + DISTILLATION * config.epochs


def balance_weight(config: TrainConfig, epochs_done: float) -> float:
    """Return the pair loss's lambda: `pair_balance`, or with free sizes falling to 0.8.

    1 is what mutual information asks for; with a little less, components that share their
    neighbours are given up. From the start that would let classes merge that a first spread over
    all components keeps apart.
    """
    if config.balance != "free":
        return config.pair_balance
    fall = min(1.0, epochs_done / (SPREAD_FIRST * config.epochs))
    return config.pair_balance + fall * (FREE_BALANCE - config.pair_balance)


def half_cosine(share_done: float) -> float:
    """Return a number that falls from 1 to 0 as the share that is done goes from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * share_done))
