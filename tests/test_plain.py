"""examples/plain_mlx.py was written from docs/MODELS.md alone: it and the package must agree."""

import importlib.util
import math

from mlx_gmvae.clustering.merge import affinity, merged_clusters
from mlx_gmvae.clustering.neighbours import neighbour_graph
from mlx_gmvae.clustering.pair_loss import log_balance_prior, pair_loss, pair_terms
from mlx_gmvae.data.splits import Splits

import mlx.core as mx
import numpy as np
import pytest
from conftest import ROOT
from sklearn.metrics import adjusted_rand_score

rng = np.random.default_rng(0)
spec = importlib.util.spec_from_file_location("plain_mlx", ROOT / "examples" / "plain_mlx.py")
assert spec is not None and spec.loader is not None
plain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plain)


def test_the_neighbours_are_the_same(digits: Splits) -> None:
    images = digits.train.images  # fewer would be smoothed
    ours, theirs = neighbour_graph(images, 10, "hog"), plain.nearest(images[..., 0])
    assert np.mean([len(set(a) & set(b)) for a, b in zip(ours, theirs, strict=True)]) > 9.9


def test_the_pair_loss_is_the_same() -> None:
    log_q = mx.log(mx.softmax(3 * mx.random.normal((64, 4, 10)), axis=-1))
    terms = pair_terms(log_q[:32], log_q[32:], log_balance_prior("uniform", 10))
    np.testing.assert_allclose(
        pair_loss(terms, 2.0), plain.pair_loss(log_q, -math.log(10)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("sizes", [[40] * 10, [120, 90, 60, 40, 30, 20, 15, 10, 10, 5]])
def test_the_merge_is_the_same(sizes: list[int]) -> None:
    classes = np.repeat(np.arange(10), sizes)
    part = classes * 3 + rng.integers(0, 3, len(classes))
    q = 0.9 * np.eye(30)[part] + 0.1 / 30
    graph = np.stack([rng.choice(np.flatnonzero(classes == c), 10) for c in classes])
    noise = rng.random(graph.shape) < 0.05
    graph = np.where(noise, rng.integers(0, len(classes), graph.shape), graph)
    ours = merged_clusters(affinity(q, graph), 10)[part]
    phase, groups, log_sizes = plain.merge(q, classes, graph)
    theirs = np.array(groups)[part].argmax(axis=1)
    assert adjusted_rand_score(ours, theirs) == 1
    assert phase == "refine" and np.exp(np.array(log_sizes)).sum() == pytest.approx(1, abs=1e-4)
    np.testing.assert_array_equal(theirs, classes)
