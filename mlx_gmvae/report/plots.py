"""Diagrams of latents, training curves and confusion (matplotlib, imported on first use)."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..system.files import atomic_write

SIGMAS = (1, 2, 3)
MOST_FULL_ELLIPSES = 12  # ellipses of more components would hide the points
LONGEST_IN_CIRCLE = 2
MOST_LEGEND_ENTRIES = 30
MOST_INSIDE_ENTRIES = 10
TSNE_PERPLEXITY = 30


class Panel(NamedTuple):
    """Points (N, 2) of one diagram, coloured by their kind (N,)."""

    title: str
    points: np.ndarray
    kinds: np.ndarray


def save_latent_plane(
    path: Path,
    latents: np.ndarray,
    colourings: dict[str, np.ndarray],
    components: tuple[np.ndarray, np.ndarray, list[str]] | None = None,
) -> None:
    """Draw latents (N, D) in the plane, by PCA if D > 2, once for each colouring (N,).

    `components` (means (K, D), covariances (K, D, D) and names) are drawn as ellipses of 1, 2 and 3
    sigma with their names. If there are more than 12, only the 1-sigma ellipses are drawn, behind
    the points.
    """
    centre, axes, axis_name = plane_of(latents)
    panels = [Panel(title, (latents - centre) @ axes, kinds) for title, kinds in colourings.items()]
    figure, drawn = _scatter_figure(panels, axis_name)
    if components is not None:
        means, covariances, names = components
        centres = (means - centre) @ axes
        for axis in drawn:
            _draw_components(axis, centres, axes.T @ covariances @ axes, names)
    save_figure(figure, path)


def save_map(path: Path, points: np.ndarray, colourings: dict[str, np.ndarray], name: str) -> None:
    """Draw a map (N, 2) by the method `name`, once for each colouring (N,)."""
    panels = [Panel(title, points, kinds) for title, kinds in colourings.items()]
    save_figure(_scatter_figure(panels, name)[0], path)


def save_panels(path: Path, panels: list[Panel], axis_name: str) -> None:
    """Draw diagrams side by side, each with its own scale."""
    save_figure(_scatter_figure(panels, axis_name, share=False)[0], path)


def plane_of(latents: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the projection of (N, D) latents: centre (D,), axes (D, 2), and name of the axes."""
    dims = latents.shape[1]
    if dims <= 2 or len(latents) < 2:
        return np.zeros(dims), np.eye(dims, 2), "z"
    from sklearn.decomposition import PCA

    pca = PCA(2).fit(latents)
    return pca.mean_, pca.components_.T, "principal component"


def tsne(latents: np.ndarray) -> np.ndarray:
    """Map latents (N, D) to positions (N, 2) by t-SNE (van der Maaten and Hinton 2008)."""
    if len(latents) < 3:
        return np.zeros((len(latents), 2))
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    mapped = TSNE(
        perplexity=min(TSNE_PERPLEXITY, (len(latents) - 1) / 3), init="random", random_state=0
    )
    # Threads do not help so few points, and cost minutes when other programs use the cores.
    with threadpool_limits(1):
        return mapped.fit_transform(latents)


def save_curves(
    path: Path,
    rows: list[dict[str, dict[str, list[float]]]],
    x_name: str,
    y_name: str = "",
    first: int = 1,
) -> None:
    """Draw rows of diagrams by title, with a line per named series over `first`, `first` + 1, ...

    A row of four is 1,200 pixels wide.
    """
    columns = max(map(len, rows))
    figure = new_figure(2.5 * columns, 2.5 * len(rows), layout=None)
    _set_margins(figure, wspace=0.35, hspace=0.55)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for panels, row in zip(rows, axes, strict=True):
        for axis in row[len(panels) :]:
            axis.remove()
        row[0].set_ylabel(y_name)
        for axis, (title, lines) in zip(row, panels.items(), strict=False):
            for label, values in lines.items():
                points = range(first, first + len(values))
                axis.plot(points, values, marker=".", markersize=4, lw=1.2, label=label)
            axis.set_title(title, fontsize=10)
            axis.set_xlabel(x_name)
            axis.tick_params(labelsize=8)
            axis.xaxis.get_major_locator().set_params(integer=True)
            if len(lines) > 1:
                axis.legend(fontsize=7)
    save_figure(figure, path)


def save_conductances(
    path: Path,
    numbers: list[int],
    values: list[float],
    isotonic: list[float],
    limits: list[float],
    chosen: int,
) -> None:
    """Draw the largest conductance by number of clusters, its regression, limits and the choice.

    The conductance is the share of a cluster's neighbours that lie in the most similar cluster.
    """
    figure = new_figure(6, 3.8)
    axis = figure.subplots()
    axis.plot(numbers, values, marker=".", lw=1.2, label="two most similar clusters")
    axis.plot(numbers, isotonic, lw=1.2, ls="--", label="isotonic regression")
    axis.plot(numbers, limits, color="black", lw=0.9, ls=":", label="limit")
    axis.axvline(chosen, color="tab:green", lw=0.9, label=f"chosen, K = {chosen}")
    axis.set_xlabel("number of clusters")
    axis.set_ylabel("share of neighbours in the most similar cluster", fontsize=9)
    axis.set_title("conductance between the two most similar clusters", fontsize=10)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=8)
    save_figure(figure, path)


def save_confusion(path: Path, counts: np.ndarray, rows: list[str], columns: list[str]) -> None:
    """Draw counts (R, C) of images by true class (rows) and predicted class (columns)."""
    figure = new_figure(1.5 + 0.45 * len(columns), 1.3 + 0.45 * len(rows))
    axis = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axis.text(column, row, str(counts[row, column]), ha="center", va="center",
                  color=colour, fontsize=7)  # fmt: skip
    turned = 90 if max(map(len, columns)) > 2 else 0
    axis.set_xticks(range(len(columns)), map(plain, columns), rotation=turned)
    axis.set_yticks(range(len(rows)), map(plain, rows))
    axis.set_xlabel("predicted")
    axis.set_ylabel("label")
    save_figure(figure, path)


def _scatter_figure(panels: list[Panel], axis_name: str, share: bool = True) -> tuple[Any, Any]:
    """Return a figure with the panels side by side, and its axes."""
    kinds_shown = [len(np.unique(panel.kinds)) for panel in panels]
    are_beside = any(MOST_INSIDE_ENTRIES < kinds <= MOST_LEGEND_ENTRIES for kinds in kinds_shown)
    figure = new_figure(5.5 * len(panels), 5, "constrained" if are_beside else None)
    if not are_beside:
        _set_margins(figure, wspace=0.06 if share else 0.15)
    axes = figure.subplots(1, len(panels), squeeze=False, sharex=share, sharey=share)[0]
    # A name has the same colour in all panels, even if it is missing in some.
    names = sorted({str(kind) for panel in panels for kind in panel.kinds if not _is_number(kind)})
    for axis, panel in zip(axes, panels, strict=True):
        _draw_points(axis, panel, names)
        axis.set_title(panel.title)
        axis.set_xlabel(f"{axis_name} 1")
    axes[0].set_ylabel(f"{axis_name} 2")
    return figure, axes


def _draw_points(axis: Any, panel: Panel, names: list[str]) -> None:
    """Draw the points, each kind in the colour of its number or of its position in `names`."""
    from matplotlib import colormaps

    size = 4 if len(panel.points) > 1000 else 14
    kinds = np.unique(panel.kinds)
    for kind in kinds:
        points = panel.points[panel.kinds == kind]
        # Clusters keep their colour even if others are empty.
        number = int(kind) if _is_number(kind) else names.index(str(kind))
        shade: Any = colormaps["tab10"](number) if number < 10 else colormaps["tab20b"](number % 20)
        if number < 0:
            kind, shade = "unassigned", "black"
        axis.scatter(*points.T, s=size, alpha=0.6, linewidths=0, color=shade, label=plain(kind))
    if len(kinds) <= MOST_LEGEND_ENTRIES:
        place: dict[str, Any] = {"loc": "best"}
        if len(kinds) > MOST_INSIDE_ENTRIES:  # a longer legend would hide the points
            place = {"loc": "upper left", "bbox_to_anchor": (1, 1), "ncols": 1 + len(kinds) // 16}
        axis.legend(markerscale=4 / np.sqrt(size), fontsize=7, **place)


def _is_number(kind: Any) -> bool:
    return isinstance(kind, (int, np.integer))


def _draw_components(
    axis: Any, centres: np.ndarray, covariances: np.ndarray, names: list[str]
) -> None:
    """Draw ellipses at Mahalanobis distances 1, 2 and 3 of the centres (K, 2), or only 1."""
    from matplotlib.patches import Ellipse
    from matplotlib.patheffects import withStroke

    are_many = len(centres) > MOST_FULL_ELLIPSES
    for centre, covariance, name in zip(centres, covariances, names, strict=True):
        values, vectors = np.linalg.eigh(covariance)
        width, height = 2 * np.sqrt(np.maximum(values, 0))
        angle = np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0]))
        for sigma in SIGMAS[:1] if are_many else SIGMAS:
            style = {"lw": 0.6, "zorder": 0.5} if are_many else {"lw": 0.9 / sigma, "zorder": 2}
            ellipse = Ellipse(centre, sigma * width, sigma * height, angle=angle, **style)
            ellipse.set(fill=False, edgecolor="black", alpha=0.7)
            axis.add_patch(ellipse)
        shown: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7 if are_many else 8}
        if are_many or len(name) > LONGEST_IN_CIRCLE:
            # A circle around the name would hide too much.
            shown["path_effects"] = [withStroke(linewidth=2, foreground="white", alpha=0.8)]
        else:
            shown["bbox"] = {"boxstyle": "circle,pad=0.15", "fc": "white", "lw": 0.5, "alpha": 0.8}
        axis.annotate(plain(name), centre, **shown)
    axis.autoscale_view()


def plain(name: object) -> str:
    """Escape a name so that matplotlib does not read it as mathematics."""
    return str(name).replace("$", r"\$")


def new_figure(width: float, height: float, layout: Any = "constrained") -> Any:
    """Return a matplotlib figure without pyplot, which would look for a display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def _set_margins(figure: Any, **spaces: float) -> None:
    """Set fixed margins, because a layout engine takes as long as drawing the whole figure."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(0.65 / width, 0.5 / height, 1 - 0.1 / width, 1 - 0.3 / height, **spaces)


def save_figure(figure: Any, path: Path) -> None:
    with atomic_write(path) as written:
        figure.savefig(written, dpi=120)
