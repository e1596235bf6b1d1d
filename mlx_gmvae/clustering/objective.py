"""Neighbour pairs: the objective that makes q(y|x) a clustering.

The ELBO alone penalises the information that clustering needs: averaged over images,
KL(q(y|x) || 1/K) = I(x;y) + KL(mean q(y|x) || 1/K). This term keeps the balance and rewards
agreement instead. An image x and one of its nearest neighbours x' are distorted, and

    L_pair = mean[-log sum_y q(y|Tx) q(y|T'x')] + balance * KL(mean q(y|.) || p(y)) - log K

where p(y) are the sizes to expect. For uniform ones the KL is log K - H(mean q(y|.)), so that a
balance of 1 makes it the disagreement less the entropy of the mean, as in mutual information.
No labels are used. Neighbours come from pixels and gradients (`descriptors`).
"""

import math

import mlx.core as mx
import numpy as np
from tqdm import tqdm

from ..data.images import Images
from ..device import distributed
from ..errors import InputError
from ..models.base import MixtureModel
from ..models.distributions import log_responsibilities
from .augment import draw_maps, random_affine
from .descriptors import describe
from .heads import Heads

EXACT_LIMIT = 200_000
BLOCK = 2048
STAY = 0.3


def neighbour_graph(images: Images, num_neighbours: int, descriptor: str) -> np.ndarray:
    """The nearest other images of each of N uint8 images, (N, k) int32, nearest first.

    Exact within parts of at most 200,000 images; a larger set is divided by k-means on the
    descriptors, so that only neighbours across a border between parts are missed. k is at most
    N - 1.
    """
    from sklearn.neighbors import NearestNeighbors

    described = describe(images, descriptor)
    k = min(num_neighbours, len(images) - 1)
    graph = np.empty((len(images), k), np.int32)
    with tqdm(total=len(images), desc="neighbours", unit="im", leave=False, disable=None) as bar:
        for rows in _parts(described, k):
            index = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(described[rows])
            for start in range(0, len(rows), BLOCK):
                block = rows[start : start + BLOCK]
                found = index.kneighbors(described[block], return_distance=False)
                graph[block] = rows[_without_self(found, start)]
                bar.update(len(block))
    return graph


def _parts(described: np.ndarray, k: int) -> list[np.ndarray]:
    """Rows of the whole set, or of each k-means cell of a set too large for all distances."""
    from sklearn.cluster import MiniBatchKMeans

    num = len(described)
    if num <= EXACT_LIMIT:
        return [np.arange(num)]
    cells = MiniBatchKMeans(math.ceil(2 * num / EXACT_LIMIT), random_state=0).fit_predict(described)
    parts = [np.flatnonzero(cells == cell) for cell in np.unique(cells)]
    halves = [half for part in parts for half in np.array_split(part, 1 + len(part) // EXACT_LIMIT)]
    if min(map(len, halves)) <= k:  # a cell of a few odd images joins the rest
        return [np.concatenate(halves)]
    return halves


def _without_self(found: np.ndarray, start: int) -> np.ndarray:
    """Drop each row's own image, or the farthest where duplicates crowd it out."""
    own = np.arange(start, start + len(found))[:, None]
    is_other = found != own
    is_other[is_other.all(axis=1), -1] = False
    return found[is_other].reshape(len(found), -1)


def draw_partners(graph: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each image in `rows` a random neighbour, or with probability 0.3 the image itself."""
    if graph.shape[1] == 0:
        return rows
    partners = graph[rows, rng.integers(0, graph.shape[1], len(rows))]
    return np.where(rng.random(len(rows)) < STAY, rows, partners)


class PairObjective:
    """The loss above on a mixture model's q(y|x), for a balance prior over K components.

    `balance` is "uniform", "free" (uniform, and lambda falls during training), or K numbers with
    commas between them. With `heads`, each of them in place of the classifier's last layer has
    terms of its own.
    """

    def __init__(
        self,
        model: MixtureModel,
        balance: str,
        augment: str,
        heads: Heads | None = None,
    ):
        self.model = model
        self.log_prior = log_balance_prior(balance, model.config.K)
        self.distorts = augment == "affine"
        self.heads = heads

    def draw(self, num: int) -> mx.array | None:
        """The distortions of `num` images and their partners, or None."""
        return draw_maps(2 * num) if self.distorts else None

    def distort(self, x: mx.array, maps: mx.array | None = None) -> mx.array:
        """Images as the classifier sees them in training, by `draw`'s maps or new ones."""
        return random_affine(x, maps) if self.distorts else x

    def terms(
        self, x: mx.array, partners: mx.array, maps: mx.array | None = None
    ) -> dict[str, mx.array]:
        """The parts of the loss on float images (B, H, W, C) and their partners, nats.

        Scalars, or one number per head.
        """
        pairs = self.distort(mx.concatenate([x, partners]), maps)
        if self.heads is None:
            log_q = self.model.log_cluster_probabilities(pairs)
        else:
            log_q = log_responsibilities(self.heads(self.model.classifier.features(pairs)))
        return pair_terms(log_q[: len(x)], log_q[len(x) :], self.log_prior)

    def loss(self, terms: dict[str, mx.array], weight: float | mx.array) -> mx.array:
        """The loss above, for balance = `weight`.

        Of its KL terms one comes with the constant, as the entropy that `pair_terms` explains.
        """
        return terms["pair"] - terms["entropy"] + (weight - 1) * terms["imbalance"]

    def train_terms(
        self, x: mx.array, partners: mx.array, weight: mx.array, maps: mx.array | None = None
    ) -> tuple[mx.array, dict[str, mx.array]]:
        """The scalar to minimise, a mean over heads, and the terms of the head in use."""
        terms = self.terms(x, partners, maps)
        losses = self.loss(terms, weight)
        if self.heads is None:
            return losses, terms
        if self.heads.training:
            self.heads.record(distributed.average(mx.stop_gradient(losses)))
        return losses.mean(), {name: each[self.heads.chosen] for name, each in terms.items()}


def pair_terms(
    log_q: mx.array, log_q_partner: mx.array, log_prior: mx.array
) -> dict[str, mx.array]:
    """Disagreement of pairs, entropy of the mean, and its KL from the prior, nats.

    The entropy is relative to the prior, log K - KL(mean || prior), so that it is largest where the
    mean is the prior; for a uniform prior it is the plain one, H(mean).

    Of log q(y|x), (B, ..., K), and of the partners': each term has the shape between.
    """
    mean = 0.5 * (mx.exp(log_q).mean(axis=0) + mx.exp(log_q_partner).mean(axis=0))
    log_mean = mx.log(mx.maximum(mean, 1e-12))
    entropy = -(mean * log_mean).sum(axis=-1)
    # Exactly 0 for a uniform prior, which so trains as if there were no other.
    log_skew = log_prior + math.log(log_prior.size)
    return {
        "pair": -mx.logsumexp(log_q + log_q_partner, axis=-1).mean(axis=0),
        "entropy": entropy + mean @ log_skew,
        "imbalance": -entropy - mean @ log_prior,
    }


def log_balance_prior(balance: str, num_components: int) -> mx.array:
    """log p(y), (K,), from its name or its numbers. Raises InputError."""
    if balance in ("uniform", "free"):
        return mx.full((num_components,), -math.log(num_components))
    try:
        shares = np.array([float(part) for part in balance.split(",")])
    except ValueError:
        raise InputError(
            f"balance is {balance!r}; it must be uniform, free, or numbers with commas between"
        ) from None
    if len(shares) != num_components or not (np.isfinite(shares).all() and (shares > 0).all()):
        raise InputError(f"balance must be {num_components} numbers above 0, one per component")
    return mx.array(np.log(shares / shares.sum()))
