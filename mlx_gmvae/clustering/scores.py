"""How good a clustering looks without labels."""

import mlx.core as mx
import numpy as np

from ..config import TrainConfig
from ..data.batches import over_batches
from ..data.images import Rows
from ..device.randomness import preserved_random_state
from ..models import MixtureModel
from .neighbours import draw_partners, neighbour_graph
from .objective import PairObjective, balance_weight, pair_terms

PAIR_IMAGES = 10_000


def pair_scores(
    model: MixtureModel, images: np.ndarray, config: TrainConfig, seed: int = 0
) -> dict[str, float]:
    """How good a clustering looks without labels, from at most 10,000 of the images.

    `pair_loss` is the pair objective, by which runs can be compared on the same images (lower is
    better); `neighbour_agreement` and `augmentation_agreement` are the shares of images whose
    cluster is also that of a random near neighbour, and of a distorted copy of themselves.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(images))[:PAIR_IMAGES])
    some = Rows(images, rows)
    graph = neighbour_graph(some, config.neighbours, config.descriptor)
    partners = Rows(images, rows[draw_partners(graph, np.arange(len(some)), rng)])
    objective = PairObjective(model, config.balance, config.augment)
    with preserved_random_state():
        mx.random.seed(seed)
        plain = over_batches(model.log_cluster_probabilities, some)
        distorted, other = (
            over_batches(lambda x: model.log_cluster_probabilities(objective.distort(x)), each)
            for each in (some, partners)
        )
    terms = pair_terms(mx.array(distorted), mx.array(other), objective.log_prior)
    clusters = plain.argmax(axis=1)
    near = over_batches(model.log_cluster_probabilities, partners).argmax(axis=1)
    return {
        "pair_loss": float(objective.loss(terms, balance_weight(config, config.epochs))),
        "neighbour_agreement": float((clusters == near).mean()),
        "augmentation_agreement": float((clusters == distorted.argmax(axis=1)).mean()),
    }
