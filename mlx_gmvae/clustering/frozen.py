"""Clustering of features of a frozen encoder: many heads, and a classifier that learns their vote.

The network is small and no image is augmented, so q(y|x) is trained before the generative model,
which takes it as given. The loss is pointwise mutual information,

    L_PMI = mean[-log sum_y (q(y|x) q(y|x'))^beta / m(y)]

where m is the mean of q(y|.) over images, a moving average that is not differentiated (Adaloglou et
al. 2023, TEMI, arXiv:2303.17896). Partners x' are neighbours in smoothed features. Finally the
classifier learns the vote of the heads, as in Baydar and Akbas 2025 (ICCE, arXiv:2511.16213).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.optimizers import Adam
from tqdm import tqdm

from ..device import distributed
from ..device.backend import choose_fusing
from ..device.randomness import preserved_random_state
from ..models.distributions import log_responsibilities
from ..models.layers import leaky_relu
from ..models.networks import FeatureClassifier
from ..system.progress_bar import progress
from .neighbours import draw_partners
from .phases import half_cosine

BETA = 0.6
MEAN_DECAY = 0.9  # of the mean of q over images
STEPS, VOTE_STEPS = 1200, 400
RATE = 1e-3
HEADS_PER_LAYER = 5
LOSS_NEIGHBOURS = 10  # of each image, in the loss that compares heads
BATCH, SMALL_BATCH, FEW_IMAGES = 512, 256, 4000
BLOCK = 4096  # images at a time


class Voters(nn.Module):
    """About `num` heads with K outputs each, five on each of several dense layers.

    Heads on one layer make similar errors, and the clusters depend on the layer's initial weights.
    """

    def __init__(self, classifier: FeatureClassifier, num: int):
        super().__init__()
        num_clusters, width = classifier.out.weight.shape
        layers = max(1, round(num / HEADS_PER_LAYER))
        self._shape = (layers, max(1, num // layers), num_clusters, width)
        self.scaler = classifier.encoder
        self.hidden = nn.Linear(classifier.hidden.weight.shape[1], layers * width)
        draw_weights(self.hidden, 6)
        limit = width**-0.5
        outputs = self._shape[1] * num_clusters
        self.weight = mx.random.uniform(-limit, limit, (layers, width, outputs))
        self.bias = mx.zeros((layers, 1, outputs))
        heads = layers * self._shape[1]
        self.mean = mx.full((heads, num_clusters), 1 / num_clusters)
        self.freeze(keys=["mean"], recurse=False)

    def __call__(self, x: mx.array) -> mx.array:
        """Return log q(y|x) of each head, (B, heads, K), for features (B, F)."""
        layers, heads, num_clusters, width = self._shape
        hidden = leaky_relu(self.hidden(self.scaler(x))).reshape(-1, layers, width)
        z = hidden.transpose(1, 0, 2) @ self.weight + self.bias
        z = z.transpose(1, 0, 2).reshape(-1, layers * heads, num_clusters)
        return log_responsibilities(z)

    def information_loss(self, x: mx.array) -> mx.array:
        """Return the mean of L_PMI over heads, for features of images and then of partners."""
        log_q = self(x)
        q = mx.stop_gradient(mx.exp(log_q))
        self.mean = MEAN_DECAY * self.mean + (1 - MEAN_DECAY) * q.mean(axis=0)
        powers, half = mx.exp(BETA * log_q), len(x) // 2
        agreement = (powers[:half] * powers[half:] / mx.maximum(self.mean, 1e-12)).sum(axis=-1)
        return -mx.log(agreement + 1e-20).mean()

    def vote(self, features: np.ndarray, graph: np.ndarray) -> np.ndarray:
        """Return the mean of q(y|x), (N, K), over the half of the heads whose loss is lower."""
        blocks = (features[start : start + BLOCK] for start in range(0, len(features), BLOCK))
        q = np.concatenate([np.array(mx.exp(self(mx.array(block)))) for block in blocks])
        losses = head_losses(q, graph)
        q = q[:, np.argsort(losses)[: max(1, len(losses) // 2)]]
        return np.take_along_axis(q, vote_order(q)[None], axis=-1).mean(axis=1)


def train_on_features(
    classifier: FeatureClassifier,
    features: np.ndarray,
    graph: np.ndarray,
    num_heads: int,
    seed: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train q(y|x) on the features (N, F) of all training images, with their neighbours (N, k).

    The result depends on these and on the seed only, not on the weights before. Returns whether it
    was finished, which is False once `should_stop` returns True.
    """
    rng = np.random.default_rng(seed)
    choose_fusing()
    with preserved_random_state(), progress(
        total=STEPS + VOTE_STEPS, desc="clusters", unit="step"
    ) as bar:  # fmt: skip
        mx.random.seed(seed)
        voters = Voters(classifier, num_heads)
        steps = Steps(len(features), rng, bar, should_stop)

        def pairs(rows: np.ndarray) -> tuple[mx.array]:
            both = np.concatenate([rows, draw_partners(graph, rows, rng)])
            return (mx.array(features[both]),)

        if not steps.minimise(voters, voters.information_loss, pairs, STEPS):
            return False
        vote = voters.vote(features, graph)
        draw_weights(classifier.hidden, 6)
        draw_weights(classifier.out, 1)

        def taught(rows: np.ndarray) -> tuple[mx.array, mx.array]:
            return mx.array(features[rows]), mx.array(vote[rows])

        def cross_entropy(x: mx.array, wanted: mx.array) -> mx.array:
            return -(wanted * log_responsibilities(classifier(x))).sum(axis=-1).mean()

        if not steps.minimise(classifier, cross_entropy, taught, VOTE_STEPS):
            return False
    for layer in (classifier.hidden, classifier.out):
        for name, value in layer.items():
            layer[name] = mx.array(distributed.broadcast(np.array(value)))
    return True


def draw_weights(layer: nn.Linear, gain: float) -> None:
    """Draw new weights; a gain of 6 is He et al. 2015, eq. 10, for a layer before a ReLU."""
    limit = math.sqrt(gain / layer.weight.shape[1])
    layer.weight = mx.random.uniform(-limit, limit, layer.weight.shape)
    layer.bias = mx.zeros(layer.bias.shape)


class Steps:
    """Steps of Adam over batches of `num` rows, with a falling learning rate."""

    def __init__(
        self, num: int, rng: np.random.Generator, bar: tqdm, should_stop: Callable[[], bool]
    ):
        self.num = num
        self.rng = rng
        self.bar = bar
        self.should_stop = should_stop

    def minimise(
        self,
        layers: nn.Module,
        loss: Callable[..., mx.array],
        inputs: Callable[[np.ndarray], tuple[mx.array, ...]],
        steps: int,
    ) -> bool:
        """Minimise `loss` of the `inputs` at rows. Return whether it was finished."""
        optimizer = Adam(RATE, bias_correction=True)
        optimizer.init(layers.trainable_parameters())
        state: list[Any] = [layers.state, optimizer.state]

        @partial(mx.compile, inputs=state, outputs=state)
        def step(*arrays: mx.array) -> mx.array:
            value, grads = nn.value_and_grad(layers, loss)(*arrays)
            optimizer.update(layers, grads)
            return value

        batch = min(self.num, BATCH if self.num >= FEW_IMAGES else SMALL_BATCH)
        for number in range(steps):
            if self.should_stop():
                return False
            first = number % (self.num // batch) * batch
            if first == 0:
                order = self.rng.permutation(self.num)
            optimizer.learning_rate = mx.array(RATE * half_cosine(number / steps))
            mx.eval(step(*inputs(order[first : first + batch])), state)
            self.bar.update()
        return True


def head_losses(q: np.ndarray, graph: np.ndarray) -> np.ndarray:
    """Return L_PMI of each head, (heads,), from q (N, heads, K) and some neighbours of images."""
    mean = np.maximum(q.mean(axis=0), 1e-12)
    losses = np.zeros(q.shape[1])
    columns = np.linspace(0, graph.shape[1], LOSS_NEIGHBOURS, endpoint=False, dtype=int)
    for column in np.unique(columns) if graph.shape[1] else []:
        agreement = ((q * q[graph[:, column]]) ** BETA / mean).sum(axis=-1)
        losses -= np.log(agreement + 1e-20).mean(axis=0)
    return losses


def vote_order(q: np.ndarray, rounds: int = 3) -> np.ndarray:
    """Return, for each head of q (N, heads, K), which of its clusters are 0, 1, ... of the vote.

    Heads are matched with the head that agrees most with all others, then with the vote.
    """
    from scipy.optimize import linear_sum_assignment

    num, heads, k = q.shape
    flat = q.reshape(num, -1)
    shared = (flat.T @ flat).reshape(heads, k, heads, k)

    def matched(counts: np.ndarray) -> float:
        return float(counts[linear_sum_assignment(counts, maximize=True)].sum())

    total = [sum(matched(shared[a, :, b]) for b in range(heads)) for a in range(heads)]
    vote = q[:, int(np.argmax(total))]
    for _ in range(rounds):
        found = [linear_sum_assignment(vote.T @ q[:, h], maximize=True)[1] for h in range(heads)]
        vote = np.mean([q[:, h][:, order] for h, order in enumerate(found)], axis=0)
    return np.array(found, np.int32)
