"""cluster.py --map: maps of the latents by t-SNE or by methods of optional packages."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cluster
from mlx_gmvae.cli.cluster_flags import parse_arguments
from mlx_gmvae.report import embeddings, plots
from mlx_gmvae.report.embeddings import EMBEDDINGS

import numpy as np
import pytest
from conftest import only_few_digits
from test_explorer import data_of


class First:
    """In place of a method of an optional package: the first two latents."""

    def __init__(self, **options: object) -> None:
        self.options = options

    def fit_transform(self, z: np.ndarray) -> np.ndarray:
        return z[:, :2]


@pytest.mark.parametrize(("name", "method"), [("umap", "UMAP"), ("pacmap", "PaCMAP")])
def test_a_map_of_an_optional_package_is_drawn_and_opens_the_explorer(
    name: str,
    method: str,
    digits_run: Path,
    tmp_path: Path,
    drawn: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = f"--model {digits_run}/model.npz --split test --map {name} --outdir {tmp_path}/c"
    monkeypatch.setattr(embeddings, "find_spec", lambda name: None)
    assert cluster.main(options.split()) == 2
    error = capsys.readouterr().err
    assert f"pip install {EMBEDDINGS[name].package}" in error and error.count("\n") == 1
    assert not (tmp_path / "c").exists()

    module = ModuleType(name)
    setattr(module, method, First)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(embeddings, "find_spec", lambda name: module)
    monkeypatch.setattr(plots, "tsne", lambda z: z[:, :2])
    with only_few_digits():
        assert cluster.main([*options.split(), "--explorer"]) == 0
    assert drawn[f"latent_{name}.png"].axes[0].get_xlabel() == f"{method} 1"
    assert data_of(tmp_path / "c/explorer.html")["maps"][0]["name"] == method


def test_tsne_is_a_map_and_two_maps_are_refused(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", f"{digits_run}/model.npz", "--outdir", f"{tmp_path}/c"]
    assert parse_arguments([*model, "--tsne"]).map == "tsne"
    assert cluster.main([*model, "--tsne", "--map", "umap"]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_a_few_images_are_shown_in_their_plane() -> None:
    z = np.random.default_rng(0).normal(size=(4, 3))
    for name in ("umap", "pacmap"):  # too few for either, whether installed or not
        assert EMBEDDINGS[name].function(z).shape == (4, 2)
