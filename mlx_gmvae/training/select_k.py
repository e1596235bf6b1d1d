"""Selection of K: an over-clustering head is trained alone, then its sub-clusters are merged.

Two sub-clusters of one class share many neighbours, those of two classes share few. So sub-clusters
are merged, those of the highest conductance first, and K is the largest number of clusters whose
largest conductance is low.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from tqdm import tqdm

from ..clustering.merge import conductance_by_number, cut_by_number
from ..clustering.neighbours import (
    draw_partners,
    learned_graph,
    neighbour_graph,
    recomputes_neighbours,
)
from ..clustering.pair_objective import PairObjective, Weights
from ..clustering.phases import half_cosine
from ..clustering.prepare import prepare_classifier
from ..clustering.sub_clusters import SubClusters, affinities
from ..config import ModelConfig, TrainConfig
from ..data.batches import as_inputs
from ..data.images import Examples
from ..device.backend import choose_fusing
from ..errors import InputError
from ..formatting import duration
from ..models import MixtureModel, build_model, kind_of
from ..system.progress_bar import progress
from .checks import not_finite, require_resolved
from .optimizer import Adam

SUB_CLUSTERS = 50
COPIES = 8  # of the over-clustering head; their curves are averaged
IMAGES_PER_SUB_CLUSTER = 20  # at least
LOW_CONDUCTANCE = 0.085  # share of the smaller cluster's neighbours that lie in the other
# Of few images neighbours are often wrong. They are recomputed in learned features, and the limit
# is 1.1 times the share of neighbours in different clusters (an estimate of how often they are
# wrong), at least 8.5 % and at most 18 %.
FEW_IMAGES, OF_THE_CUT, HIGHEST_LIMIT = 5000, 1.1, 0.18
STEPS, FEWEST_EPOCHS = 800, 3
FEWEST_STEPS, ENOUGH_IMAGES = 100, 640  # fewer images take fewer steps, in proportion
FASTEST = 4  # times the learning rate, to compensate for fewer steps
WARM_UP, TIMED = 2, 5  # steps; the first ones are traced and compiled
LINES = 10  # of progress


class SelectedK(NamedTuple):
    """The selected number of clusters; the largest conductance and its limit for each number."""

    clusters: int
    conductances: dict[int, float]
    limits: dict[int, float]

    def describe(self) -> str:
        """Return a line with the conductances of the selected number and of the next one."""
        if self.clusters == 1:
            return (
                f"K = 1: of two clusters, the smaller shares {self.conductances[2]:.1%} of its "
                "neighbours with the other; give --K to have more clusters"
            )
        last = self.conductances.get(self.clusters, 0.0)
        line = f"K = {self.clusters}: of {self.clusters} clusters "
        line += f"the two most alike share {last:.1%} of the neighbours of the smaller one"
        more = self.clusters + 1
        if more in self.conductances:
            line += f", of {more} clusters {self.conductances[more]:.1%}"
        return line


def select_k(
    config: ModelConfig,
    training: TrainConfig,
    images: Examples,
    graph: np.ndarray | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[SelectedK, np.ndarray]:
    """Select the number of clusters in uint8 images (N, H, W, C), without labels.

    Returns it and the neighbours of the images, which are `graph` if given. `say` is called with
    lines about the expected time, the progress and the result. Raises InputError if there are too
    few images, if the training diverges, or for a model whose components are not learned from
    pairs.
    """
    require_selectable(config, training)
    say = say or (lambda line: None)
    num = min(SUB_CLUSTERS, len(images) // IMAGES_PER_SUB_CLUSTER)
    if num < 3:
        raise InputError(
            f"{len(images)} images are too few to find a number of clusters; give --K a number"
        )
    require_resolved(training)
    steps = steps_to_find(len(images), training)
    say(f"finding the number of clusters: {steps:,} steps before the training")
    if graph is None:
        graph = neighbour_graph(images, training.neighbours, training.descriptor)
    mx.random.seed(training.seed)
    model = build_model(ModelConfig.from_dict(config.to_dict() | {"K": 2}))
    assert isinstance(model, MixtureModel)
    prepare_classifier(model, images)
    sub_clusters = SubClusters(model.classifier.out, num, COPIES)
    _train(model, sub_clusters, training, images, graph, say)
    is_recomputed = len(images) <= FEW_IMAGES and recomputes_neighbours(training, len(images))
    near = learned_graph(model, images, training.neighbours) if is_recomputed else graph
    found = affinities(model, sub_clusters, images, near)
    conductances = _mean([conductance_by_number(each) for each in found])
    limits = dict.fromkeys(conductances, LOW_CONDUCTANCE)
    if is_recomputed:
        limits = limits_by_cut(_mean([cut_by_number(each) for each in found]))
    selected = SelectedK(largest_apart(conductances, limits), conductances, limits)
    say(selected.describe())
    return selected, graph


def require_selectable(config: ModelConfig, training: TrainConfig) -> None:
    """Raise InputError unless the components are learned from pairs by a classifier."""
    kind = kind_of(config)
    has_classifier = issubclass(kind, MixtureModel) and kind.classifies(config)
    if not (has_classifier and training.pair_weight):
        raise InputError(
            "--K auto works for a gmvae whose classifier is trained by neighbour pairs; give --K a "
            "number"
        )


def steps_to_find(num_images: int, training: TrainConfig) -> int:
    """Return the number of steps of the search, which train no decoder."""
    few = max(FEWEST_STEPS, math.ceil(STEPS * num_images / ENOUGH_IMAGES))
    epoch = num_images // min(training.batchsize, num_images)
    return max(min(STEPS, few), FEWEST_EPOCHS * epoch)


def largest_apart(conductances: dict[int, float], limits: dict[int, float]) -> int:
    """Return the largest number of clusters whose largest conductance is below its limit."""
    low = [k for k, value in isotonic(conductances).items() if value < limits[k]]
    return max(low, default=1)


def limits_by_cut(cuts: dict[int, float]) -> dict[int, float]:
    """Return the limits of conductance, from the shares of neighbours in different clusters."""
    return {
        k: max(LOW_CONDUCTANCE, min(HIGHEST_LIMIT, OF_THE_CUT * cut)) for k, cut in cuts.items()
    }


def _mean(curves: list[dict[int, float]]) -> dict[int, float]:
    return {k: float(np.mean([curve[k] for curve in curves])) for k in curves[0]}


def isotonic(conductances: dict[int, float]) -> dict[int, float]:
    """Return the isotonic regression of the conductances on the number of clusters.

    Apart from chance, conductances rise with the number. Where classes are not clear-cut,
    conductances are similar for many numbers, and without the regression a single value that is too
    high or too low could decide.
    """
    from sklearn.isotonic import IsotonicRegression

    numbers = sorted(conductances)
    found = [conductances[number] for number in numbers]
    values = IsotonicRegression().fit_transform(numbers, found)
    return dict(zip(numbers, map(float, values), strict=True))


class _Pace:
    """Printed lines about the time that `steps` take and, where no bar is shown, the progress."""

    def __init__(self, steps: int, say: Callable[[str], None], bar: tqdm):
        self.steps, self.say, self.bar = steps, say, bar
        self.started = 0.0

    def line_at(self, number: int) -> None:
        """Call `say` before step `number`, if a line is due."""
        if number == WARM_UP:
            self.started = time.perf_counter()
        if number <= WARM_UP:
            return
        per_step = (time.perf_counter() - self.started) / (number - WARM_UP)
        if number == WARM_UP + TIMED:
            self.bar.clear()
            self.say(f"{self.steps:,} steps: about {duration(self.steps * per_step)}")
        elif number % -(-self.steps // LINES) == 0 and self.bar.disable:
            left = duration((self.steps - number) * per_step)
            self.say(f"{number:,} of {self.steps:,} steps | Left {left}")


class _Network(nn.Module):
    """The trained network: that of q(y|x), with sub-clusters in place of its last layer."""

    def __init__(self, classifier: nn.Module, sub_clusters: SubClusters):
        super().__init__()
        self.classifier = classifier
        self.sub_clusters = sub_clusters


def _train(
    model: MixtureModel,
    sub_clusters: SubClusters,
    config: TrainConfig,
    images: Examples,
    graph: np.ndarray,
    say: Callable[[str], None],
) -> None:
    """Train on pairs of images and neighbours by the pair loss of the sub-clusters alone."""
    objective = PairObjective(model, "auto", config.augment, sub_clusters=sub_clusters)
    weights = Weights(mx.array(0.0), mx.array(config.pair_balance), mx.array(1.0))
    network = _Network(model.classifier, sub_clusters)
    optimizer = Adam(config.lr)
    optimizer.init(network.trainable_parameters())
    choose_fusing()
    captured: list[Any] = [network.state, optimizer.state, mx.random.state]

    def pair_loss(x: mx.array, partners: mx.array) -> mx.array:
        pairs = objective.augmented("overcluster", mx.concatenate([x, partners]))
        return objective.sub_cluster_loss(pairs, weights)

    @partial(mx.compile, inputs=captured, outputs=captured)
    def step(x: mx.array, partners: mx.array) -> mx.array:
        loss, grads = nn.value_and_grad(network, pair_loss)(x, partners)
        optimizer.update(network, grads)
        return loss

    batch = min(config.batchsize, len(images))
    per_epoch, steps = len(images) // batch, steps_to_find(len(images), config)
    rate = config.lr * min(FASTEST, max(1.0, STEPS / steps))
    rng = np.random.default_rng(config.seed)
    network.train()
    bar = progress(range(steps), desc="finding K", unit="step")
    pace = _Pace(steps, say, bar)
    for number in bar:
        pace.line_at(number)
        if number % per_epoch == 0:
            order = rng.permutation(len(images))
            partners = draw_partners(graph, order, rng)
        rows = slice(number % per_epoch * batch, (number % per_epoch + 1) * batch)
        optimizer.learning_rate = mx.array(rate * half_cosine(number / steps))
        x, others = (model.classifier_inputs(as_inputs(images[r[rows]])) for r in (order, partners))
        mx.eval(step(x, others), captured)
    if not_finite(dict(tree_flatten(network.parameters()))):
        raise InputError("the search for a number of clusters diverged; lower --lr or give --K")
    network.eval()
