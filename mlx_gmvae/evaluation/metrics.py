"""Metrics of clusterings and reconstructions, on NumPy arrays."""

from collections.abc import Sequence

import numpy as np


def confusion(labels: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Return counts of images by cluster (rows) and by label (columns)."""
    from sklearn.metrics import confusion_matrix

    rows, columns = int(clusters.max()) + 1, int(labels.max()) + 1
    numbers = np.arange(max(rows, columns))
    return confusion_matrix(clusters, labels, labels=numbers)[:rows, :columns]  # type: ignore[no-any-return]


def classification_scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return accuracy; precision, recall and F1 as means over classes (macro); micro F1."""
    from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

    macro = {"average": "macro", "zero_division": 0}
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "precision": float(precision_score(labels, predicted, **macro)),
        "recall": float(recall_score(labels, predicted, **macro)),
        "f1_macro": float(f1_score(labels, predicted, **macro)),
        "f1_micro": float(f1_score(labels, predicted, average="micro", zero_division=0)),
    }


def confusion_of(
    labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """Return counts (R, P) of images by true class (rows) and prediction, and the rows' names.

    `names` are the P classes that can be predicted; other true classes follow as further rows.
    """
    from sklearn.metrics import confusion_matrix

    rows = [*names, *sorted(set(labels.tolist()) - set(names))]
    return confusion_matrix(labels, predicted, labels=rows)[:, : len(names)], rows


def matching_accuracy(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Return ACC: the best accuracy over one-to-one maps of clusters to classes, in [0, 1].

    Source: Yang et al. 2010. The Hungarian algorithm finds the best map.

    >>> matching_accuracy(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 1]))
    0.75
    """
    from scipy.optimize import linear_sum_assignment

    counts = confusion(labels, clusters)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return float(counts[rows, columns].sum() / len(labels))


def best_possible_accuracy(labels: np.ndarray, num_clusters: int) -> float:
    """Return the upper limit of `matching_accuracy`: the share of the largest classes.

    >>> best_possible_accuracy(np.array([0, 0, 1, 2]), 2)
    0.75
    """
    sizes = np.sort(np.unique(labels, return_counts=True)[1])[::-1]
    return float(sizes[:num_clusters].sum() / len(labels))


def majority_accuracy(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Return the accuracy if every cluster takes its most frequent class (many-to-one).

    >>> majority_accuracy(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2]))
    1.0
    """
    return float(confusion(labels, clusters).max(axis=1).sum() / len(labels))


def exemplar_accuracy(labels: np.ndarray, responsibilities: np.ndarray) -> float:
    """Return the accuracy if every cluster takes the class of its most confident image.

    Many-to-one, from labels (N,) and responsibilities (N, K). Source: Dilokthanakul et al. 2016,
    section 4.2.
    """
    classes = labels[responsibilities.argmax(axis=0)]
    return float((classes[responsibilities.argmax(axis=1)] == labels).mean())


def clustering_scores(labels: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """Return ACC (Hungarian), majority accuracy, NMI (arithmetic) and ARI."""
    from sklearn.metrics import normalized_mutual_info_score

    return {
        "accuracy": matching_accuracy(labels, clusters),
        "majority_accuracy": majority_accuracy(labels, clusters),
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "ari": adjusted_rand(labels, clusters),
    }


def adjusted_rand(clusters: np.ndarray, others: np.ndarray) -> float:
    """Return ARI, the adjusted Rand index of two clusterings (N,): 1 if equal, 0 by chance."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(clusters, others))


def is_matched(labels: np.ndarray, responsibilities: np.ndarray) -> np.ndarray:
    """Return whether each image is in the cluster that is matched with its class, (N,).

    Clusters get classes as in `matching_accuracy`. A cluster without a class is always wrong.
    """
    from scipy.optimize import linear_sum_assignment

    clusters = responsibilities.argmax(axis=1)
    rows, columns = linear_sum_assignment(confusion(labels, clusters), maximize=True)
    class_of = np.full(responsibilities.shape[1], -1)
    class_of[rows] = columns
    return class_of[clusters] == labels  # type: ignore[no-any-return]


def calibration_error(labels: np.ndarray, responsibilities: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error of the matched clustering, in [0, 1].

    Source: Guo et al. 2017, eq. 3.
    """
    confidence = responsibilities.max(axis=1)
    correct = is_matched(labels, responsibilities)
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(correct[bin_of == number].sum() - confidence[bin_of == number].sum())
        for number in range(bins)
    ]
    return float(sum(gaps) / len(labels))


def mse(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the mean squared error of each image, (N,), for pixels in [0, 1].

    >>> mse(np.zeros((1, 2, 2, 1)), np.full((1, 2, 2, 1), 0.5)).tolist()
    [0.25]
    """
    return ((images - others) ** 2).mean(axis=(1, 2, 3))


def ssim(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the structural similarity of each image, (N,), for (N, H, W, C) pixels in [0, 1].

    Windows are uniform, of 7x7 pixels (smaller for images below 7 pixels), with the sample
    covariance. The result is the mean over channels and over windows inside the image.

    Source: Wang et al. 2004, eq. 13, K1 = 0.01, K2 = 0.03.
    """
    from scipy.ndimage import uniform_filter

    shortest = min(images.shape[1:3])
    window = min(7, shortest - 1 + shortest % 2)
    edge = window // 2
    inside = (slice(None), slice(edge, images.shape[1] - edge), slice(edge, images.shape[2] - edge))

    def local_mean(values: np.ndarray) -> np.ndarray:
        return uniform_filter(values, size=(1, window, window, 1))[inside]

    x, y = images.astype(np.float64), others.astype(np.float64)
    mean_x, mean_y = local_mean(x), local_mean(y)
    unbiased = window**2 / max(1, window**2 - 1)
    var_x = unbiased * (local_mean(x * x) - mean_x**2)
    var_y = unbiased * (local_mean(y * y) - mean_y**2)
    covariance = unbiased * (local_mean(x * y) - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    return similarity.mean(axis=(1, 2, 3))
