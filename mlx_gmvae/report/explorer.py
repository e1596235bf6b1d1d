"""The latent space as one HTML file: hover a point, see the image and what is known about it."""

import base64
import io
import json
import math
from pathlib import Path

import numpy as np

from .figures import as_pillow

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
    sprite, across, cell = _sprite(images)
    data = {
        "title": title,
        "subtitle": f"{len(points)} images; point at one to see it",
        "points": np.round(places, 4).tolist(),
        "names": names,
        "columns": columns,
        "sprite": "data:image/png;base64," + base64.b64encode(sprite).decode(),
        "across": across,
        "cell": cell,
    }
    # A name with "</script>" in it must not end the script.
    content = json.dumps(data).replace("<", "\\u003c")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TEMPLATE.read_text().replace(PLACE_OF_DATA, content))


def _sprite(images: np.ndarray) -> tuple[bytes, int, tuple[int, int]]:
    """All images as one PNG; how many lie side by side; height and width of each."""
    height, width = images.shape[1:3]
    shrink = min(1.0, LARGEST_THUMBNAIL / max(height, width))
    height, width = max(1, round(height * shrink)), max(1, round(width * shrink))
    across = math.ceil(math.sqrt(len(images)))
    first = as_pillow(images[0])
    sheet = first.resize((width * across, height * math.ceil(len(images) / across)))
    for number, image in enumerate(images):
        place = (number % across * width, number // across * height)
        sheet.paste(as_pillow(image).resize((width, height)), place)
    encoded = io.BytesIO()
    sheet.save(encoded, "PNG")
    return encoded.getvalue(), across, (height, width)
