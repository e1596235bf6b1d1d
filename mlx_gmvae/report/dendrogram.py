"""Diagram of the hierarchy of clusters (dendrogram.png)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import plots

MOST_NAMED = 60  # clusters
LONGEST_NAME = 30  # characters
LEAST_SHARE = 1e-4  # of the axis
MOST_SHARE = 0.999  # if all heights were 0, the axis would have no length


def save_dendrogram(path: Path, linkage: np.ndarray, names: Sequence[str], left: int) -> None:
    """Draw the merges of clusters (a linkage matrix of SciPy), with their names as leaves.

    `left` is the number of clusters that --merge_to leaves, marked by a line, or 0.
    """
    from scipy.cluster.hierarchy import dendrogram

    num = len(names)
    drawn = linkage.copy()  # on a logarithmic scale, because separate clusters share very few
    heights = -np.log10(np.clip(1 - linkage[:, 2], LEAST_SHARE, MOST_SHARE))
    drawn[:, 2] = heights
    figure = plots.new_figure(6.5, 1.2 + 0.22 * min(num, MOST_NAMED))
    axis = figure.subplots()
    dendrogram(
        drawn, orientation="left", labels=[plots.plain(name[:LONGEST_NAME]) for name in names],
        ax=axis, no_labels=num > MOST_NAMED, color_threshold=0, above_threshold_color="tab:blue",
        leaf_font_size=8,
    )  # fmt: skip
    end = -np.log10(LEAST_SHARE)
    axis.set_xlim(end + 0.1, -0.05)
    axis.set_xticks(np.arange(end + 1), [f"{100 / 10**power:g} %" for power in np.arange(end + 1)])
    axis.set_xlabel("mean share of the smaller cluster's neighbours in the other")
    title = "order in which clusters merge"
    if left:
        later = heights[num - left] if left > 1 else end
        axis.axvline((heights[num - left - 1] + later) / 2, color="black", ls=":", lw=1)
        title += f"; dotted: --merge_to {left}"
    axis.set_title(title, fontsize=10)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    plots.save_figure(figure, path)
