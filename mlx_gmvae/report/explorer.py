"""The latent space as one HTML file: hover a point, see the image and what is known about it."""

import base64
import json
import math
from pathlib import Path

import numpy as np

from . import figures

TEMPLATE = Path(__file__).with_suffix(".html")
PLACE_OF_DATA = "/*DATA*/"
LARGEST_THUMBNAIL = 64


def write_explorer(
    path: Path,
    title: str,
    points: np.ndarray,
    images: np.ndarray,
    names: list[str],
    columns: dict[str, list],
) -> None:
    """Write a page that needs no network and no other file.

    `points` (N, 2) are positions on the plane, `images` (N, H, W, C) uint8, `names` (N,) what each
    image is called, and `columns` lists (N,) to colour by: texts are kinds, numbers a scale.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    places = (points - low) / np.maximum(high - low, 1e-12)
    thumbnails = figures.shrunk(images, LARGEST_THUMBNAIL)
    across = math.ceil(math.sqrt(len(images)))
    sprite = figures.as_png(figures.tile(thumbnails, across, margin=0))
    data = {
        "title": title,
        "subtitle": f"{len(points)} images; point at one to see it",
        "points": np.round(places, 4).tolist(),
        "names": names,
        "columns": columns,
        "sprite": "data:image/png;base64," + base64.b64encode(sprite).decode(),
        "across": across,
        "cell": thumbnails.shape[1:3],
    }
    # A name with "</script>" in it must not end the script.
    content = json.dumps(data).replace("<", "\\u003c")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TEMPLATE.read_text().replace(PLACE_OF_DATA, content))
