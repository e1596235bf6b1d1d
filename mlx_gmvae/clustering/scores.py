"""How good a clustering looks without labels."""

import dataclasses

import mlx.core as mx
import numpy as np

from ..config import TrainConfig
from ..data.batches import over_batches
from ..data.images import Examples, Rows
from ..device.randomness import preserved_random_state, random_rows
from ..inputs import Batch
from ..models import MixtureModel
from .choices import fitted
from .neighbours import draw_partners, neighbour_graph
from .objective import FREE_BALANCE, PairObjective, balance_weight
from .parts import Stage

PAIR_IMAGES = 10_000


def pair_scores(
    model: MixtureModel,
    images: Examples,
    config: TrainConfig,
    seed: int = 0,
    graph: np.ndarray | None = None,
) -> dict[str, float]:
    """How good a clustering looks without labels, from at most 10,000 of the images.

    `pair_loss` is the pair objective, by which runs can be compared on the same images (lower is
    better); `neighbour_agreement` and `augmentation_agreement` are the shares of images whose
    cluster is also that of a random near neighbour, and of a distorted copy of themselves. `graph`
    are the neighbours of all the images, if they are known.
    """
    if graph is None:  # own features are of the training images: others are compared as they look
        config = dataclasses.replace(config, features=None)
    config = fitted(config, images)
    rng = np.random.default_rng(seed)
    rows = np.sort(random_rows(len(images), PAIR_IMAGES, rng))
    some = Rows(images, rows)
    if graph is None:
        near = neighbour_graph(some, config.neighbours, config.descriptor)
        partners = Rows(images, rows[draw_partners(near, np.arange(len(some)), rng)])
    else:
        partners = Rows(images, draw_partners(graph, rows, rng))
    objective = PairObjective(model, config.balance, config.augment)
    objective.stage = Stage.AGREED  # clusters are known, and distortions gentler
    with preserved_random_state():
        mx.random.seed(seed)
        plain = over_batches(model.log_cluster_probabilities, some)
        distorted, other = (
            over_batches(lambda x: _distorted_probabilities(objective, x), each)
            for each in (some, partners)
        )
    terms = objective.terms(mx.array(np.concatenate([distorted, other])))
    clusters = plain.argmax(axis=1)
    # Sizes that were found are as free as those of "free".
    is_auto = config.balance == "auto" and model.has_classifier
    weight = FREE_BALANCE if is_auto else balance_weight(config, config.epochs)
    theirs = over_batches(model.log_cluster_probabilities, partners).argmax(axis=1)
    return {
        "pair_loss": float(objective.loss(terms, weight)),
        "neighbour_agreement": float((clusters == theirs).mean()),
        "augmentation_agreement": float((clusters == distorted.argmax(axis=1)).mean()),
    }


def _distorted_probabilities(objective: PairObjective, x: Batch) -> mx.array:
    """log q(y|x), (B, K), of images that are distorted as in training."""
    seen = objective.distorted(objective.model.classifier_inputs(x))
    return objective.model.log_probabilities_of(seen)
