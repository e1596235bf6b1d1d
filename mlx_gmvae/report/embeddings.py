"""Maps of latents in the plane that keep neighbours together: t-SNE, UMAP and PaCMAP."""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from . import plots

FEWEST = 10  # points that UMAP and PaCMAP can map


class Embedding(NamedTuple):
    """A method: its name, its module and package on PyPI, and a function of latents (N, D)."""

    name: str
    module: str
    package: str
    function: Callable[[np.ndarray], np.ndarray]


def umap(latents: np.ndarray) -> np.ndarray:
    """Map latents (N, D) to positions (N, 2) by UMAP (McInnes et al. 2018)."""
    if len(latents) < FEWEST:
        return _plane(latents)
    from umap import UMAP

    return np.asarray(UMAP(n_neighbors=min(15, len(latents) - 1), random_state=0, n_jobs=1)
                      .fit_transform(latents))  # fmt: skip


def pacmap(latents: np.ndarray) -> np.ndarray:
    """Map latents (N, D) to positions (N, 2) by PaCMAP (Wang et al. 2021)."""
    if len(latents) < FEWEST:
        return _plane(latents)
    from pacmap import PaCMAP

    mapped = PaCMAP(n_neighbors=min(10, len(latents) // 2), random_state=0)
    with warnings.catch_warnings():  # about the random state
        warnings.simplefilter("ignore")
        return np.asarray(mapped.fit_transform(latents.astype(np.float32)))


def _plane(latents: np.ndarray) -> np.ndarray:
    centre, axes, _ = plots.plane_of(latents)
    return (latents - centre) @ axes  # type: ignore[no-any-return]


EMBEDDINGS = {
    # Looked up at each call, as the other diagrams are.
    "tsne": Embedding("t-SNE", "sklearn", "scikit-learn", lambda latents: plots.tsne(latents)),
    "umap": Embedding("UMAP", "umap", "umap-learn", umap),
    "pacmap": Embedding("PaCMAP", "pacmap", "pacmap", pacmap),
}


def require_installed(name: str) -> None:
    """Raise InputError if the package of a method is not installed."""
    method = EMBEDDINGS[name]
    if find_spec(method.module) is None:
        raise InputError(f"--map {name} needs a package: pip install {method.package}")


def picture_of(name: str) -> str:
    """Return the name of the file that shows a map."""
    return f"latent_{name}.png"
