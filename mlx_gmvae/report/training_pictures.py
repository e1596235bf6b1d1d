"""Pictures of the training progress: reconstructions, samples and an animation of both."""

from pathlib import Path

import numpy as np

from . import figures

GRID_COLUMNS = 8
LARGE_IMAGES = 4
LARGE_SIDE = 256
FRAME_COLUMNS = 10
FRAME_IMAGES = 50
MOST_FRAME_COMPONENTS = 12


def save_progress(
    folder: Path,
    epoch: int,
    originals: np.ndarray,
    reconstructions: np.ndarray,
    rows: np.ndarray,
    columns: int,
    in_clusters: bool,
) -> dict[str, np.ndarray]:
    """Write reconstructions and samples of `epoch` to a run folder and extend progress.gif.

    `originals` and `reconstructions` are (N, H, W, C). `rows` are samples in rows of `columns`, one
    row per cluster if `in_clusters`. Returns the pictures of reconstructions and of samples.
    """
    name = f"epoch_{epoch:04d}.png"
    tree = folder / "reconstructions"
    figures.save_grid(tree / "standard" / name, reconstructions, GRID_COLUMNS)
    pairs = figures.interleave(originals, reconstructions, GRID_COLUMNS)
    figures.save_grid(tree / "comparisons" / name, pairs, GRID_COLUMNS)
    few = originals[:LARGE_IMAGES], reconstructions[:LARGE_IMAGES]
    large = figures.interleave(*few, LARGE_IMAGES)
    figures.save_grid(tree / "large_comparisons" / name, large, LARGE_IMAGES, LARGE_SIDE)
    figures.save_grid(folder / "samples.png", rows, columns)
    if in_clusters:
        figures.save_grid(tree / "clusters" / name, rows, columns)

    some = originals[:FRAME_IMAGES], reconstructions[:FRAME_IMAGES]
    pictures = {
        "reconstructions": _small(figures.interleave(*some, FRAME_COLUMNS), FRAME_COLUMNS),
        "samples": _small(rows[: columns * MOST_FRAME_COMPONENTS], columns),
    }
    frames = folder / "progress"
    figures.save_progress_frame(frames / name, list(pictures.values()), f"epoch {epoch}")
    in_order = sorted(frames.glob("*.png"), key=lambda path: int(path.stem.split("_")[1]))
    figures.save_animation(folder / "progress.gif", in_order)
    return pictures


def _small(images: np.ndarray, columns: int) -> np.ndarray:
    return figures.grid(figures.shrunk(images, figures.SHOWN_SIDE), columns)
