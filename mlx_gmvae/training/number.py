"""How many clusters there are: parts alone are trained, and joined as long as they leak.

Two parts of one class share many neighbours, two classes few. So parts are joined, the two that
leak most into each other first, and the number is where the leaks become small.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from tqdm import tqdm

from ..clustering.choices import fitted
from ..clustering.neighbours import draw_partners, neighbour_graph
from ..clustering.objective import PairObjective
from ..clustering.parts import Parts, leaks_by_number, part_links
from ..clustering.prepare import prepare_classifier
from ..config import ModelConfig, TrainConfig
from ..data.batches import as_inputs
from ..data.images import Examples
from ..device.backend import choose_fusing
from ..device.progress import progress
from ..errors import InputError
from ..models import MixtureModel, build_model, kind_of
from ..report.words import duration
from .optimizer import Adam
from .schedule import half_cosine

PARTS = 50
COPIES = 8  # of the parts, whose leaks are averaged
IMAGES_PER_PART = 20  # at least
SMALL_LEAK = 0.085  # of the neighbours of the smaller of two clusters
STEPS, FEWEST_EPOCHS = 800, 3
FEWEST_STEPS, ENOUGH_IMAGES = 100, 640  # fewer images take fewer steps, in proportion
FASTEST = 4  # times the learning rate, which makes up for that
WARM_UP, TIMED = 2, 5  # steps: the first are traced and compiled
LINES = 10  # that say how far it is


class Number(NamedTuple):
    """The number of clusters that was found, and the largest leak among each number (curve)."""

    clusters: int
    leaks: dict[int, float]

    def describe(self) -> str:
        """A line on how sure it is."""
        if self.clusters == 1:
            return (
                f"K = 1: even of two clusters the smaller shares {self.leaks[2]:.1%} of its "
                "neighbours with the other; give --K if there are to be more"
            )
        last = self.leaks.get(self.clusters, 0.0)
        line = f"K = {self.clusters}: of {self.clusters} clusters "
        line += f"the two most alike share {last:.1%} of the neighbours of the smaller one"
        if self.clusters + 1 in self.leaks:
            line += f", of {self.clusters + 1} clusters {self.leaks[self.clusters + 1]:.1%}"
        return line


def number_of_clusters(
    config: ModelConfig,
    training: TrainConfig,
    images: Examples,
    graph: np.ndarray | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[Number, np.ndarray]:
    """The number of clusters in uint8 images (N, H, W, C), and their neighbours (N, k).

    A `graph` of neighbours that is known is not built again. No labels. `say` is called with lines
    on how long it takes, how far it is and what was found. Raises InputError if there are too few
    images to tell, or for a model whose components are not learned from pairs.
    """
    require_findable(config, training)
    say = say or (lambda line: None)
    num = min(PARTS, len(images) // IMAGES_PER_PART)
    if num < 3:
        raise InputError(
            f"{len(images)} images are too few to find a number of clusters; give K itself"
        )
    training = fitted(training, images)
    steps = steps_to_find(len(images), training)
    say(f"finding the number of clusters: {steps:,} steps before the training")
    if graph is None:
        graph = neighbour_graph(images, training.neighbours, training.descriptor)
    mx.random.seed(training.seed)
    model = build_model(ModelConfig.from_dict(config.to_dict() | {"K": 2}))
    assert isinstance(model, MixtureModel)
    prepare_classifier(model, images)
    parts = Parts(model.classifier.out, num, COPIES)
    _train(model, parts, training, images, graph, say)
    curves = [leaks_by_number(links) for links in part_links(model, parts, images, graph)]
    leaks = {k: float(np.mean([curve[k] for curve in curves])) for k in curves[0]}
    number = Number(chosen_number(leaks), leaks)
    say(number.describe())
    return number, graph


def require_findable(config: ModelConfig, training: TrainConfig) -> None:
    """Raise InputError for a model whose components are not learned from pairs by a classifier."""
    kind = kind_of(config)
    is_parted = issubclass(kind, MixtureModel) and kind.classifies(config)
    if not (is_parted and training.pair_weight):
        raise InputError(
            "a number of components can be found for a gmvae with a classifier and neighbour "
            "pairs; give K itself"
        )


def steps_to_find(num_images: int, training: TrainConfig) -> int:
    """How many steps that takes; they have no generative half."""
    few = max(FEWEST_STEPS, math.ceil(STEPS * num_images / ENOUGH_IMAGES))
    epoch = num_images // min(training.batchsize, num_images)
    return max(min(STEPS, few), FEWEST_EPOCHS * epoch)


def chosen_number(leaks: dict[int, float]) -> int:
    """The largest number of clusters of which no two leak much into each other."""
    small = [number for number, leak in rising(leaks).items() if leak < SMALL_LEAK]
    return max(small, default=1)


def rising(leaks: dict[int, float]) -> dict[int, float]:
    """The isotonic regression of leaks by number, by which they are judged.

    But for chance, leaks rise with the number. A single one that is high or low for its place would
    decide otherwise, where classes are not clear-cut and leaks are about as small over many
    numbers.
    """
    from sklearn.isotonic import IsotonicRegression

    numbers = sorted(leaks)
    values = IsotonicRegression().fit_transform(numbers, [leaks[number] for number in numbers])
    return dict(zip(numbers, map(float, values), strict=True))


class _Pace:
    """Lines on how long `steps` take, and, where no bar is shown, on how far they are."""

    def __init__(self, steps: int, say: Callable[[str], None], bar: tqdm):
        self.steps, self.say, self.bar = steps, say, bar
        self.started = 0.0

    def line_at(self, number: int) -> None:
        """Say what there is to say before a step."""
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
    """What is trained: the network of q(y|x) and the parts in the place of its last layer."""

    def __init__(self, classifier: nn.Module, parts: Parts):
        super().__init__()
        self.classifier = classifier
        self.parts = parts


def _train(
    model: MixtureModel,
    parts: Parts,
    config: TrainConfig,
    images: Examples,
    graph: np.ndarray,
    say: Callable[[str], None],
) -> None:
    """Pairs of images and their neighbours, by the pair objective of the parts alone."""
    objective = PairObjective(model, "auto", config.augment, parts=parts)
    weight = mx.array(config.pair_balance)
    network = _Network(model.classifier, parts)
    optimizer = Adam(config.lr)
    optimizer.init(network.trainable_parameters())
    choose_fusing()
    captured: list[Any] = [network.state, optimizer.state, mx.random.state]

    @partial(mx.compile, inputs=captured, outputs=captured)
    def step(x: mx.array, partners: mx.array) -> mx.array:
        loss_and_grad = nn.value_and_grad(network, objective.part_loss)
        loss, grads = loss_and_grad(x, partners, weight)
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
    network.eval()
