"""Interactive map of the latent space in a single HTML file."""

import base64
import hashlib
import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..system.files import atomic_write
from . import figures

TEMPLATE = Path(__file__).with_suffix(".html")
PLACE_OF_DATA, PLACE_OF_HASH = "/*DATA*/", "/*HASH*/"
START = "<script>"
LARGEST_THUMBNAIL = 64
MOST_VALUES = 1 << 24  # pixels times channels of all thumbnails together
LARGEST_PHOTOGRAPH = 160  # pixels per side of thumbnails of files
MOST_PHOTOGRAPH_PIXELS = 1 << 26  # pixels of all thumbnails of files together
JPEG_QUALITY = 80


class Ellipse(NamedTuple):
    """A component on a map: its name, the kind of its points, and its Gaussian."""

    name: str
    kind: str
    centre: np.ndarray  # (2,)
    covariance: np.ndarray  # (2, 2)


class LatentMap(NamedTuple):
    """A named map: positions (N, 2) of the images, and the ellipses of components, if any."""

    name: str
    points: np.ndarray
    ellipses: list[Ellipse]


def write_explorer(
    path: Path,
    title: str,
    subtitle: str,
    maps: list[LatentMap],
    images: np.ndarray,
    names: list[str],
    columns: dict[str, list],
    reconstructions: np.ndarray | None = None,
    units: dict[str, str] | None = None,
    curation: dict | None = None,
    photographs: np.ndarray | None = None,
) -> None:
    """Write a page that needs no network and no other file.

    `images` and `reconstructions` are (N, H, W, C), `names` (N,) are the names of the images, and
    `columns` are lists (N,) to colour by: strings are categories and numbers are a scale, for which
    `units` gives "meaning, unit". With `curation`, clusters can be named, merged and corrected on
    the page. It holds the number of "clusters", the cluster "assigned" to each image (N,), the
    "checksums" of the images, and the curation to "start" from. If `photographs`, (N, h, w, 3), are
    given, the page shows them in place of the images.
    """
    side = math.isqrt(MOST_VALUES // (len(images) * images.shape[-1]))
    thumbnails = figures.shrunk(images, max(8, min(LARGEST_THUMBNAIL, side)))
    across = math.ceil(math.sqrt(len(images)))
    shown = thumbnails if photographs is None else photographs
    data = {
        "title": title,
        "subtitle": subtitle,
        "maps": [_described(each) for each in maps],
        "names": names,
        "columns": columns,
        "units": units or {},
        "sprite": _sheet(shown, across, is_photograph=photographs is not None),
        "decoded": None,
        "across": across,
        "cell": shown.shape[1:3],
        "decoded_cell": thumbnails.shape[1:3],
        "curation": curation,
    }
    if reconstructions is not None:
        small = figures.shrunk(reconstructions, max(thumbnails.shape[1:3]))
        data["decoded"] = _sheet(small, across)
    # The key of the curation in the browser's storage, which differs by model and dataset.
    known = json.dumps([names, curation], sort_keys=True)
    data["key"] = hashlib.sha256(known.encode()).hexdigest()[:16]
    # A name with "</script>" in it must not end the script.
    content = json.dumps(data).replace("<", "\\u003c")
    page = TEMPLATE.read_text(encoding="utf-8").replace(PLACE_OF_DATA, content)
    # In case it is parsed as markup all the same, the browser runs only the script of this hash.
    script = page[page.index(START) + len(START) : page.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    with atomic_write(path) as written:
        written.write_text(page.replace(PLACE_OF_HASH, digest, 1), encoding="utf-8")


def photograph_side(num: int) -> int:
    """Return the pixels per side of thumbnails of `num` photographs."""
    return max(8, min(LARGEST_PHOTOGRAPH, math.isqrt(MOST_PHOTOGRAPH_PIXELS // num)))


def _sheet(images: np.ndarray, across: int, is_photograph: bool = False) -> str:
    """Return all images in one PNG, or a JPEG for photographs, as a data URL."""
    tiled = figures.tile(images, across, margin=0)
    if is_photograph:
        picture, kind = figures.as_jpeg(tiled, JPEG_QUALITY), "jpeg"
    else:
        picture, kind = figures.as_png(tiled), "png"
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode()


def _described(each: LatentMap) -> dict:
    """Return a map scaled to the unit square, with equal axes and centred."""
    low, high = each.points.min(axis=0), each.points.max(axis=0)
    scale, middle = 1 / max(float((high - low).max()), 1e-12), (low + high) / 2
    ellipses = []
    for name, kind, centre, covariance in each.ellipses:
        values, vectors = np.linalg.eigh(covariance * scale**2)
        radii = np.sqrt(np.maximum(values, 0))
        ellipses.append({
            "name": name,
            "kind": kind,
            "centre": np.round((centre - middle) * scale + 0.5, 4).tolist(),
            "radii": np.round(radii, 5).tolist(),
            "angle": round(float(np.arctan2(vectors[1, 0], vectors[0, 0])), 4),
        })  # fmt: skip
    points = np.round((each.points - middle) * scale + 0.5, 4)
    return {"name": each.name, "points": points.tolist(), "ellipses": ellipses}
