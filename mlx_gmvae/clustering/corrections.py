"""The last layer of q(y|x), refitted to images that a person moved to another cluster."""

import mlx.core as mx
import numpy as np

from ..data.batches import over_batches
from ..data.images import Examples
from ..device.randomness import random_rows
from ..models.mixture_model import MixtureModel

WEIGHT = 0.5  # of the corrected images, beside 1 for all others
ANCHORS = 5000  # images whose clusters are to stay
STEPS = 200


def learn_corrections(model: MixtureModel, images: Examples, corrected: dict[int, int]) -> bool:
    """Refit the last layer of q(y|x) to corrections, with all other layers held constant.

    The loss is the cross-entropy with the present q(y|x) of at most 5,000 images, plus half the
    cross-entropy with the corrected clusters. It is convex, starts at the present layer and takes a
    second. Training all layers on corrections was tried too: it harms clusters that were right
    (benchmarks/notes/corrections.md).

    Parameters
    ----------
    model : MixtureModel
        Its last layer is changed.
    images : array of shape (N, H, W, C)
        uint8 images, with features where the model takes them.
    corrected : dict
        Clusters by the rows of images.

    Returns
    -------
    bool
        False, with nothing changed, where q(y|x) has no layer of its own (Bayes' rule).
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax, softmax

    if "classifier" not in model or not corrected:
        return False
    out = model.classifier.out
    features = over_batches(model.classifier_features, images).astype(np.float64)
    shape = out.weight.shape
    start = np.concatenate([np.array(out.weight).ravel(), np.array(out.bias)]).astype(np.float64)

    def logits(parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
        weight, bias = parameters[: -shape[0]].reshape(shape), parameters[-shape[0] :]
        return x @ weight.T + bias  # type: ignore[no-any-return]

    anchors = random_rows(len(features), ANCHORS)
    rows, clusters = np.array(list(corrected)), np.array(list(corrected.values()))
    x = np.concatenate([features[anchors], features[rows]])
    targets = np.concatenate([softmax(logits(start, features[anchors]), axis=1),
                              np.eye(shape[0])[clusters]])  # fmt: skip
    weights = np.repeat([1 / len(anchors), WEIGHT / len(rows)], [len(anchors), len(rows)])[:, None]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        log_q = log_softmax(logits(parameters, x), axis=1)
        gradient = weights * (np.exp(log_q) - targets)
        return -float((weights * targets * log_q).sum()), np.concatenate(
            [(gradient.T @ x).ravel(), gradient.sum(axis=0)]
        )

    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS}).x
    out.weight = mx.array(found[: -shape[0]].reshape(shape).astype(np.float32))
    out.bias = mx.array(found[-shape[0] :].astype(np.float32))
    return True
