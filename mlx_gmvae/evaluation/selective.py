"""Selective classification: error against coverage where doubtful images are left out.

Sources: El-Yaniv and Wiener 2010 (coverage and risk), Geifman et al. 2019 (AURC).
"""

import numpy as np


def risk_coverage(is_wrong: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coverage (N,) and the error (N,) of that share of images, most confident first.

    Images of the same confidence count as in random order.

    >>> risk_coverage(np.array([True, False]), np.array([0.6, 0.9]))[1].tolist()
    [0.0, 0.5]
    """
    _, group_of, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    shares = np.bincount(group_of, weights=is_wrong) / sizes
    counts = np.arange(1, len(confidence) + 1)
    return counts / len(confidence), np.cumsum(np.repeat(shares, sizes)) / counts


def selective_scores(is_wrong: np.ndarray, confidence: np.ndarray) -> dict[str, float]:
    """Return the area under the risk-coverage curve and what it is compared with.

    `aurc` is the mean error over all coverages, lower is better: `aurc_random` is that of a random
    order (the error of all images), and `aurc_best` that of an order with the wrong images last.
    `auroc` is the probability that a wrong image has a lower confidence than a right one; it is
    omitted if all images are right or all are wrong.
    """
    scores = {
        "aurc": _area(is_wrong, confidence),
        "aurc_best": _area(is_wrong, 1.0 - is_wrong),
        "aurc_random": float(is_wrong.mean()),
    }
    if 0 < is_wrong.sum() < len(is_wrong):
        from sklearn.metrics import roc_auc_score

        scores["auroc"] = float(roc_auc_score(~is_wrong, confidence))
    return scores


def _area(is_wrong: np.ndarray, confidence: np.ndarray) -> float:
    return float(risk_coverage(is_wrong, confidence)[1].mean())
