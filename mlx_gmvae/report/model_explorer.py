"""Explorer page of a trained model: images on maps of their latents."""

from pathlib import Path

import numpy as np
from PIL import ImageOps

from ..data.batches import over_batches
from ..data.decode import in_threads, picture, read_header
from ..data.images import Rows
from ..data.splits import Dataset
from ..evaluation.scores import anomaly_scores, component_gaussians, latents, reconstruct
from ..models import LatentVariableModel, MixtureModel
from ..models.mixture import Gaussians
from .assignments import Assignments
from .curation import Curation
from .explorer import Ellipse, LatentMap, photograph_side, write_explorer
from .plots import plane_of, tsne

MOST_POINTS = 20_000
QUICK_BY_TSNE = 2_000  # images: t-SNE takes five seconds (10,000 take most of a minute)
PADDING = (128, 128, 128)
UNITS = {"anomaly": "anomaly score, nats"}


def save_explorer(
    path: Path,
    title: str,
    model: LatentVariableModel,
    found: Assignments,
    kind: str,
    seed: int,
    first: LatentMap | None = None,
) -> None:
    """Write the page of at most 20,000 images with cluster, label, confidence and anomaly score.

    `kind` is the kind of `anomaly_scores` to compute, unless they are known. The page opens on the
    map `first` of `rows_shown`, if it is given; otherwise a small set gets a t-SNE map.
    """
    num, rows = len(found.dataset), rows_shown(found)
    images = found.dataset.images[rows]
    z = latents(model, images)
    if found.anomaly is None:
        anomaly = anomaly_scores(model, Rows(found.dataset.examples, rows), kind, seed)
    else:
        anomaly = found.anomaly[rows]
    subtitle = f"{len(rows):,} images" + (f" of {num:,}, drawn at random" * (len(rows) < num))
    gaussians = component_gaussians(model) if isinstance(model, MixtureModel) else None
    maps = maps_of(z, rows, gaussians, found, first)
    if isinstance(model, MixtureModel) and "classifier" in model:
        # Where q(y|x) takes features of an encoder, z knows nothing of them.
        of_classifier = classifier_map(model, Rows(found.dataset.examples, rows))
        maps.insert(0 if model.sees_features and first is None else len(maps), of_classifier)
    write_explorer(
        path, title, subtitle, maps, images,
        [found.image_names[row] for row in rows], found.properties(rows, anomaly),
        reconstruct(model, images), UNITS, _curation(model, found, rows),
        _photographs(found.dataset, rows),
    )  # fmt: skip


def _photographs(dataset: Dataset, rows: np.ndarray) -> np.ndarray | None:
    """Return square thumbnails of the image files, padded with grey.

    Returns None if there are no files, if they are not larger than the images, or if some of them
    cannot be read any more.
    """
    side = photograph_side(len(rows))
    if not dataset.files or side <= max(dataset.images.shape[1:3]):
        return None

    def thumbnail(path: str) -> np.ndarray:
        image = picture(path, "RGB", side, dataset.bits or 16)
        return np.asarray(ImageOps.pad(image, (side, side), color=PADDING))

    paths = [dataset.files[index] for index in dataset.index[rows]]
    try:
        first = read_header(paths[0])
    except Exception:  # damaged or missing images raise a dozen unrelated types
        return None
    if max(first.height, first.width) <= max(dataset.images.shape[1:3]):
        return None
    found = list(in_threads(thumbnail, paths, len(paths), "thumbnails"))
    return None if any(isinstance(each, str) for each in found) else np.stack(found)  # type: ignore[arg-type]


def _curation(model: LatentVariableModel, found: Assignments, rows: np.ndarray) -> dict | None:
    """Return the data for curation on the page, or None if the model has no clusters."""
    if not isinstance(model, MixtureModel) or found.class_names:
        return None
    decided = found.curation or Curation(model.config.K)
    assigned = found.most_likely if found.assigned is None else found.assigned
    return {
        "clusters": model.config.K,
        "assigned": assigned[rows].tolist(),
        "checksums": [found.checksum(row) for row in rows],
        "start": decided.to_json(),
    }


def rows_shown(found: Assignments) -> np.ndarray:
    """Return the rows of the images on the page, in ascending order: all, or 20,000 at random."""
    return np.sort(found.some(MOST_POINTS))


def maps_of(
    z: np.ndarray,
    rows: np.ndarray,
    gaussians: Gaussians | None,
    found: Assignments,
    first: LatentMap | None = None,
) -> list[LatentMap]:
    """Return maps of latents (N, D) of the images at `rows`.

    They are the principal plane, the plane that separates the clusters best (LDA), and t-SNE, which
    or the map `first` in its place, which then comes first.
    """
    clusters = found.most_likely[rows]
    centre, axes, name = plane_of(z)
    title = "principal plane" if z.shape[1] > 2 else name
    maps = [LatentMap(title, (z - centre) @ axes, _ellipses(centre, axes, gaussians, found))]
    if 2 < len(np.unique(clusters)) < len(z) - 1 and z.shape[1] > 2:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        axes = LinearDiscriminantAnalysis().fit(z, clusters).scalings_[:, :2]
        if axes.shape[1] == 2:
            ellipses = _ellipses(centre, axes, gaussians, found)
            title = "plane that separates the clusters (LDA)"
            maps.append(LatentMap(title, (z - centre) @ axes, ellipses))
    if first is not None:
        return [first, *maps]
    if z.shape[1] > 2 and len(z) <= QUICK_BY_TSNE:
        print(f"t-SNE of {len(z):,} latents", flush=True)
        maps.append(LatentMap("t-SNE", tsne(z), []))
    return maps


def classifier_map(model: MixtureModel, images: Rows) -> LatentMap:
    """Return the principal plane of the features before the last layer of q(y|x)."""
    features = over_batches(model.classifier_features, images)
    centre, axes, _ = plane_of(features)
    return LatentMap("features of q(y|x)", (features - centre) @ axes, [])


def _ellipses(
    centre: np.ndarray, axes: np.ndarray, gaussians: Gaussians | None, found: Assignments
) -> list[Ellipse]:
    if gaussians is None:
        return []
    centres, covariances = (gaussians.means - centre) @ axes, axes.T @ gaussians.covariances @ axes
    group_of = {
        member: column for column, group in enumerate(found.groups) for member in group.members
    }
    return [
        Ellipse(label, found.label(group_of[number]), place, covariance)
        for number, (label, place, covariance) in enumerate(
            zip(gaussians.names, centres, covariances, strict=True)
        )
    ]
