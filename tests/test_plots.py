"""Diagrams: the projection and the ellipses they rest on, and that they can be drawn."""

from pathlib import Path

from mlx_gmvae.models.mixture import Gaussians
from mlx_gmvae.report import plots

import numpy as np
import pytest
from PIL import Image

rng = np.random.default_rng(0)


@pytest.mark.parametrize("dims", [1, 2, 5])
def test_latents_of_any_dimension(tmp_path: Path, dims: int) -> None:
    colourings = {"by cluster": rng.integers(0, 12, 50), "by label": np.array(["a", "b"] * 25)}
    covariances = np.stack([np.eye(dims)] * 3)
    components = Gaussians(rng.normal(size=(3, dims)), covariances, ["a", "b", "c"])
    path = tmp_path / "latent.png"
    z = rng.normal(size=(50, dims))
    plots.save_latent_plane(path, z, colourings, components)
    with_ellipses = np.array(Image.open(path))
    plots.save_latent_plane(path, z, colourings)
    assert (
        with_ellipses.shape != np.array(Image.open(path)).shape
        or (with_ellipses != np.array(Image.open(path))).any()
    )


def test_ellipses_lie_at_one_two_and_three_sigma() -> None:
    root = rng.normal(size=(2, 2))
    covariance, centre = root @ root.T, np.array([3.0, -1.0])
    axis = plots._figure(3, 3).subplots()
    plots._draw_components(axis, centre[None], covariance[None], ["0"])
    for sigma, line in zip((1, 2, 3), axis.lines, strict=True):
        offset = np.stack(line.get_data()).T - centre
        distance = np.sqrt(np.einsum("nd,de,ne->n", offset, np.linalg.inv(covariance), offset))
        np.testing.assert_allclose(distance, sigma, rtol=1e-6)


def test_many_components_hide_no_points() -> None:
    axis = plots._figure(3, 3).subplots()
    plots._draw_points(axis, plots.Panel("", rng.normal(size=(20, 2)), np.zeros(20, int)), [])
    centres, names = rng.normal(size=(30, 2)), [str(k) for k in range(30)]
    plots._draw_components(axis, centres, np.stack([np.eye(2)] * 30), names)
    assert len(axis.lines) == 30  # one sigma alone
    assert max(line.zorder for line in axis.lines) < axis.collections[0].zorder
    assert all(text.get_bbox_patch() is None for text in axis.texts)


def test_a_name_has_one_colour_in_both_panels_and_a_cluster_that_of_its_number() -> None:
    points = rng.normal(size=(3, 2))
    panels = [
        plots.Panel("by predicted class", points, np.array(["cat", "eel", "eel"])),
        plots.Panel("by label", points, np.array(["bee", "cat", "eel"])),
        plots.Panel("by cluster", points, np.array([1, 2, 2])),
    ]
    _, axes = plots._scatter_figure(panels, "z")
    colours = [
        {dots.get_label(): tuple(dots.get_facecolor()[0]) for dots in axis.collections}
        for axis in axes
    ]
    assert colours[0]["cat"] == colours[1]["cat"] == colours[2]["1"]
    assert colours[0]["eel"] == colours[1]["eel"] == colours[2]["2"]
    assert len(set(colours[1].values())) == 3


def test_the_plane_is_that_of_the_largest_variance() -> None:
    z = rng.normal(size=(500, 4)) * [1, 10, 0.1, 5]
    centre, axes, name = plots.plane_of(z)
    assert np.abs(axes).argmax(axis=0).tolist() == [1, 3]
    np.testing.assert_allclose(centre, z.mean(axis=0))
    assert name == "principal component"
    assert plots.plane_of(z[:, :2])[2] == "z"


def test_tsne_keeps_groups_apart() -> None:
    z = np.concatenate([rng.normal(0, 0.1, (30, 5)), rng.normal(9, 0.1, (30, 5))])
    points = plots.tsne(z)
    assert points.shape == (60, 2)
    nearest = ((points[:, None] - points) ** 2).sum(-1) + np.diag(np.full(60, np.inf))
    assert ((nearest.argmin(axis=1) < 30) == (np.arange(60) < 30)).all()


def test_confusion_and_curves_can_be_drawn(tmp_path: Path) -> None:
    plots.save_confusion(tmp_path / "c.png", np.array([[5, 1], [0, 0]]), ["a", "long"], ["a", "b"])
    lines = {"loss": {"": [3.0, 2.0]}, "accuracy": {"seed 0": [0.1, 0.2], "seed 1": [0.3]}}
    plots.save_curves(tmp_path / "l.png", lines, "epoch")
    for name in ("c.png", "l.png"):
        assert np.array(Image.open(tmp_path / name)).std() > 0
