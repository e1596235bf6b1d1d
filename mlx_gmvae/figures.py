"""Pictures: image grids (Pillow), latent scatters and curves (matplotlib, imported on use)."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MARGIN = 2
SMALLEST_SIDE = 56


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1] as uint8; uint8 stays."""
    if images.dtype == np.uint8:
        return images
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def tile(images: np.ndarray, columns: int, margin: int = MARGIN) -> np.ndarray:
    """(N, H, W, C) images in rows of `columns`, on white, as one uint8 (H', W', C) picture."""
    images = to_uint8(images)
    num, height, width, channels = images.shape
    rows = math.ceil(num / columns)
    cell_height, cell_width = height + margin, width + margin
    canvas = np.full(
        (rows * cell_height + margin, columns * cell_width + margin, channels), 255, np.uint8
    )
    for position, image in enumerate(images):
        top = margin + position // columns * cell_height
        left = margin + position % columns * cell_width
        canvas[top : top + height, left : left + width] = image
    return canvas


def save_grid(
    path: Path, images: np.ndarray, columns: int, smallest_side: int = SMALLEST_SIDE
) -> None:
    """Write images in rows of `columns`, small ones enlarged by a whole factor."""
    factor = max(1, round(smallest_side / max(images.shape[1:3])))
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    save_image(path, tile(images, columns))


def save_image(path: Path, image: np.ndarray) -> None:
    """Write one (H, W, C) image; one, three and four channels as they are, others averaged."""
    image = to_uint8(image)
    if image.shape[-1] not in (1, 3, 4):
        image = np.rint(image.mean(axis=-1, keepdims=True)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path)


def interleave(originals: np.ndarray, reconstructions: np.ndarray, columns: int) -> np.ndarray:
    """A row of originals, the row of their reconstructions below it, and so on."""
    originals, reconstructions = to_uint8(originals), to_uint8(reconstructions)
    rows = []
    for start in range(0, len(originals), columns):
        for images in (originals, reconstructions):
            row = images[start : start + columns]
            blank = np.full((columns - len(row), *row.shape[1:]), 255, np.uint8)
            rows += [row, blank]
    return np.concatenate(rows)


def save_curves(path: Path, history: list[dict[str, float]]) -> None:
    """The loss and its terms over the epochs, nats per image."""
    epochs = [record["epoch"] for record in history]
    names = [n for n in history[0] if n not in ("epoch", "throughput", "seconds")]
    figure = _figure(2.6 * len(names), 2.6)
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        axis.plot(epochs, [record[name] for record in history], marker=".")
        axis.set_title(name)
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel("nats per image")
    _save(figure, path)


def save_latent_scatter(
    path: Path,
    latents: np.ndarray,
    colourings: dict[str, np.ndarray],
    centres: np.ndarray | None = None,
) -> None:
    """Latents (N, D) in the plane, by PCA if D > 2, once for each colouring (N,) of integers.

    `centres` (K, D) are drawn with their component numbers.
    """
    from matplotlib import colormaps
    from sklearn.decomposition import PCA

    axis_name = "z"
    if latents.shape[1] > 2:
        pca = PCA(2).fit(latents)
        latents, axis_name = pca.transform(latents), "principal component"
        centres = None if centres is None else pca.transform(centres)
    elif latents.shape[1] == 1:
        latents = np.hstack([latents, np.zeros_like(latents)])
        centres = None if centres is None else np.hstack([centres, np.zeros_like(centres)])
    figure = _figure(5.5 * len(colourings), 5)
    size = 4 if len(latents) > 1000 else 14
    axes = figure.subplots(1, len(colourings), squeeze=False, sharey=True)[0]
    for axis, (title, colours) in zip(axes, colourings.items(), strict=True):
        kinds = np.unique(colours)
        for position, kind in enumerate(kinds):
            # Clusters keep their own colour even when others are empty.
            number = int(kind) if kinds.dtype.kind in "iu" else position
            shade = colormaps["tab10"](number) if number < 10 else colormaps["tab20b"](number % 20)
            points = latents[colours == kind]
            axis.scatter(*points.T, s=size, alpha=0.6, linewidths=0, color=shade, label=str(kind))
        if centres is not None:
            for number, centre in enumerate(centres):
                box = {"boxstyle": "circle,pad=0.15", "fc": "white", "lw": 0.5, "alpha": 0.8}
                axis.annotate(str(number), centre, ha="center", va="center", fontsize=8, bbox=box)
        axis.set_title(title)
        axis.set_xlabel(f"{axis_name} 1")
        if len(kinds) <= 30:
            axis.legend(markerscale=8 / size, fontsize=7, loc="best", ncols=1 + len(kinds) // 11)
    axes[0].set_ylabel(f"{axis_name} 2")
    _save(figure, path)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows of equal keys as a CSV file with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _figure(width: float, height: float) -> Any:
    """A matplotlib figure without pyplot, which would look for a display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
