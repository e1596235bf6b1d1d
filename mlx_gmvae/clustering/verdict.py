"""Verdict on a clustering without labels: whether to rely on the clusters, and what to try next."""

from typing import NamedTuple

import numpy as np

from ..config import TrainConfig
from ..models import MixtureModel
from .neighbours import STAY
from .pair_scores import Closest

# Limits from the runs of benchmarks/results/clustering.json (table: benchmarks/notes/verdict.md).
# Cohen's kappa of neighbours. Random features have up to 0.1, and the ELBO alone on digits, where
# the clusters are wrong, 0.32 to 0.45. Runs with an accuracy of 90 % or more have at least 0.86
# (one of 61 has 0.84), photographs (24 to 53 %) at most 0.76.
NOTHING, SEPARATED = 0.25, 0.85
# Agreement with augmented copies. The ELBO alone on MNIST (72 and 77 % right) has a kappa of 0.86,
# but an agreement of 0.64 at most; runs with an accuracy of 90 % or more have at least 0.94.
STABLE = 0.9
ONE_CLUSTER = 0.98  # chance agreement
# Share of the smaller cluster's neighbours that are in the other: from the first on the two are
# named, from the second on a merge is advised. Right runs have 0.05 at most, and 0.12 to 0.16 on
# 1,000 and 2,000 images of MNIST; two clusters of one digit have 0.76.
MANY_SHARED, ONE_CLASS = 0.1, 0.2
# Sizes relative to 1/K. Runs with an accuracy of 90 % or more have clusters of 0.62 to 1.42, where
# classes are of equal size; surplus clusters are smaller, and two letters in one are larger.
SMALL, LARGE = 0.35, 2.0
FEW_IMAGES = 1000  # in training; 300 images of MNIST: 60 to 90 %, by the draw; 1,000: 94 to 97 %


class Signs(NamedTuple):
    """What is known about a training, beside its scores; None is unknown.

    `sizes` (K,) has the share of the images in each cluster.
    """

    is_colour: bool = False
    has_features: bool = False
    is_trained_by_pairs: bool = True
    is_k_selected: bool = False
    num_images: int | None = None
    sizes: np.ndarray | None = None


def signs_of(
    model: MixtureModel,
    config: TrainConfig,
    clusters: np.ndarray,
    num_images: int | None = None,
    is_k_selected: bool = False,
) -> Signs:
    """Return the signs of a model trained with `config`, from the clusters (N,) of images."""
    sizes = np.bincount(clusters, minlength=model.config.K) / max(1, len(clusters))
    has_features = model.sees_features or bool(config.features)
    is_colour = model.config.image_shape[-1] == 3
    is_paired = bool(config.pair_weight)
    return Signs(is_colour, has_features, is_paired, is_k_selected, num_images, sizes)


def verdict(
    scores: dict[str, float], closest: Closest | None = None, signs: Signs | None = None
) -> str:
    """Return a sentence on how far to rely on the clusters and, if signs are known, what to try.

    It depends on Cohen's kappa of neighbours: how much more often than by chance they are in one
    cluster. `scores` are those of `pair_scores`.
    """
    kind = kind_of(scores)
    agreement, chance = neighbour_shares(scores)
    words = f"{agreement:.0%} of neighbours are in one cluster, by chance {chance:.0%}"
    if closest is not None and closest.share >= MANY_SHARED:
        first, second, share = closest
        words += f"; clusters {first} and {second} share {share:.0%} of their neighbours"
    stable = scores.get("augmentation_agreement", 1.0)
    if stable < STABLE:
        words += f"; {1 - stable:.0%} of images change their cluster under augmentation"
    sentence = {
        "one": "nearly all images are in one cluster: do not rely on it",
        "none": f"no clusters were found: {words}; do not rely on them",
        "overlap": f"clusters overlap: {words}; look at the sheets before you rely on them",
        "separated": f"clusters are well separated: {words}",
    }[kind]
    advice = what_to_try(kind, closest, signs or Signs())
    return f"{sentence}; try {advice}" if advice else sentence


def kind_of(scores: dict[str, float]) -> str:
    """Return "one", "none", "overlap" or "separated", from `pair_scores`."""
    agreement, chance = neighbour_shares(scores)
    if chance > ONE_CLUSTER:
        return "one"
    kappa = (agreement - chance) / max(1 - chance, 1e-9)
    if kappa < NOTHING:
        return "none"
    is_stable = scores.get("augmentation_agreement", 1.0) >= STABLE
    return "separated" if kappa >= SEPARATED and is_stable else "overlap"


def neighbour_shares(scores: dict[str, float]) -> tuple[float, float]:
    """Return how often neighbours are in one cluster, and how often by chance.

    Images that are their own neighbours are left out.
    """
    agreement, chance = (
        max(0.0, (scores[name] - STAY) / (1 - STAY))
        for name in ("neighbour_agreement", "chance_agreement")
    )
    return agreement, chance


def what_to_try(kind: str, closest: Closest | None, signs: Signs) -> str:
    """Return what may help most, or "" if no sign is known."""
    is_bad = kind != "separated"
    if is_bad and not signs.is_trained_by_pairs:
        return "--pair_weight 1"
    if is_bad and signs.is_colour and not signs.has_features:
        return "an encoder for photographs, --features dinov2-small"
    if kind == "one":
        return "a larger --K, or the features of another encoder"
    if kind == "none":
        return "the features of another encoder (--features), or more images"
    is_small = signs.num_images is not None and signs.num_images < FEW_IMAGES
    if is_small and not signs.has_features:
        return "--seeds 5, or more images"
    if closest is not None and closest.share >= ONE_CLASS:
        first, second, _ = closest
        return f"merging clusters {first} and {second} in the explorer, or a smaller --K"
    if is_bad and signs.has_features:
        return "the features of another encoder, or more images"
    if signs.sizes is not None and not signs.is_k_selected and _are_unequal(signs.sizes):
        return "--K auto: clusters are of very unequal size"
    return "--seeds 5, or more --epochs" if kind == "overlap" else ""


def _are_unequal(sizes: np.ndarray) -> bool:
    relative = sizes * len(sizes)
    return bool(len(sizes) > 1 and (relative.min() < SMALL or relative.max() > LARGE))
