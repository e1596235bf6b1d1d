"""Phases of training: which loss is minimised, and for how long.

| phase       | epochs           | loss                                                         |
|-------------|------------------|--------------------------------------------------------------|
| elbo        | all              | the bound alone, if the model or its options use no pairs    |
| pairs       | all              | and the pair loss of each head, if there are no sub-clusters |
| overcluster | 0 to 40 %        | as pairs, and the pair loss of the over-clustering head      |
| distil      | 40 to 100 %      | merged sub-clusters teach q(y|x), with a falling weight      |
| refine      | 40 to 100 %      | as pairs, if the merge agrees with q(y|x) or is doubted      |

Partners are neighbours by a descriptor. With few images, from 40 % on, they are neighbours in the
features of q(y|x).
"""

import math
from typing import Any, Literal, NamedTuple

from ..config import TrainConfig

Phase = Literal["elbo", "pairs", "overcluster", "distil", "refine"]
MERGE = 0.4  # of the epochs, after which sub-clusters are merged
DISTILLATION = 0.2  # of the epochs, the window in which their weight falls from 1 to 0
FREEZE = 0.6  # of the epochs, after which the chosen head stays chosen
RECOMPUTE = (MERGE, FREEZE)  # of the epochs, after which neighbours are recomputed
SPREAD_FIRST = 0.25  # of the epochs, in which the balance weight falls, with balance free
FREE_BALANCE = 0.8
OUTCOMES = ("agreed", "distil", "doubted")


class Merged(NamedTuple):
    """The outcome of the merge, and the distillation window in epochs."""

    outcome: str
    window: tuple[float, float]

    @classmethod
    def from_json(cls, saved: Any) -> "Merged | None":
        """Return it from the JSON of a state. Raises ValueError if that is not valid."""
        if saved is None:
            return None
        outcome, (start, end) = saved
        if outcome not in OUTCOMES:
            raise ValueError(f"{outcome!r} is not an outcome of a merge")
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
    """Return lambda of the pair loss: `pair_balance`, or falling to 0.8 with balance free.

    In the mutual information lambda is 1. With slightly less, components that share their
    neighbours become empty. From the start this would merge classes, which a larger lambda keeps
    apart by first spreading images over all components.
    """
    if config.balance != "free":
        return config.pair_balance
    fall = min(1.0, epochs_done / (SPREAD_FIRST * config.epochs))
    return config.pair_balance + fall * (FREE_BALANCE - config.pair_balance)


def half_cosine(share_done: float) -> float:
    """Return half a cosine, which falls from 1 to 0 as `share_done` rises from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * share_done))
