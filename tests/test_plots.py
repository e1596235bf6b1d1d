"""Diagrams: the projection and the ellipses they rest on, and the pixels that come of them."""

from pathlib import Path
from typing import Any

from mlx_gmvae.models.mixture import Gaussians
from mlx_gmvae.report import plots

import numpy as np
import pytest
from matplotlib import colormaps
from pictures import pixel_under, read

rng = np.random.default_rng(0)
ALPHA = 0.6  # of points

pytestmark = pytest.mark.draws


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The diagrams that a test has made, by the names of the files that are not written."""
    made: dict[str, Any] = {}
    monkeypatch.setattr(
        plots, "save_figure", lambda figure, path: made.__setitem__(path.name, figure)
    )
    return made


def points_of(ellipse: Any) -> np.ndarray:
    """Points (N, 2) on a patch's outline, in the diagram's own coordinates."""
    turn = np.linspace(0, 2 * np.pi, 100)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return np.array(ellipse.get_patch_transform().transform(circle))


def blend(colour: tuple[float, ...]) -> np.ndarray:
    """What a point's colour looks like on white."""
    return np.rint(255 * (ALPHA * np.array(colour[:3]) + 1 - ALPHA))


@pytest.mark.parametrize("dims", [1, 2, 5])
def test_latents_of_any_dimension(tmp_path: Path, figures: dict[str, Any], dims: int) -> None:
    """Points and ellipses against singular vectors and the widths of projected Gaussians."""
    z = rng.normal(size=(50, dims)) * [3, 2, 0.5, 0.4, 0.3][:dims] + 1
    colourings = {"by cluster": rng.integers(0, 12, 50), "by label": np.array(["a", "b"] * 25)}
    means, roots = rng.normal(size=(3, dims)), rng.normal(size=(3, dims, dims))
    covariances = roots @ roots.transpose(0, 2, 1)
    components = Gaussians(means, covariances, ["a", "b", "c"])
    plots.save_latent_plane(tmp_path / "latent.png", z, colourings, components)
    centre, basis = np.zeros(dims), np.eye(dims, 2)
    if dims > 2:
        centre = z.mean(axis=0)
        basis = np.linalg.svd(z - centre)[2][:2].T
    expected = (z - centre) @ basis

    axes = figures["latent.png"].axes
    assert [axis.get_title() for axis in axes] == list(colourings)
    for axis, kinds in zip(axes, colourings.values(), strict=True):
        found = np.full((50, 2), np.nan)
        for dots in axis.collections:
            found[kinds.astype(str) == dots.get_label()] = dots.get_offsets()
        signs = np.sign((found * expected).sum(axis=0))  # of the axes, which PCA leaves open
        signs[signs == 0] = 1
        np.testing.assert_allclose(found, expected * signs, atol=1e-6)
        directions = [np.array([np.cos(turn), np.sin(turn)]) for turn in np.arange(0, 6, 0.5)]
        for number, ellipse in enumerate(axis.patches):
            component, sigma = number // 3, 1 + number % 3
            outline = points_of(ellipse)
            for direction in directions:
                seen_from = basis @ (signs * direction)  # the direction, in the latent space
                deviation = np.sqrt(seen_from @ covariances[component] @ seen_from)
                reach = (means[component] - centre) @ seen_from + sigma * deviation
                assert (outline @ direction).max() == pytest.approx(
                    reach, abs=2e-3 * sigma * deviation
                )
        assert len(axis.patches) == 9 and [text.get_text() for text in axis.texts] == [
            "a",
            "b",
            "c",
        ]
    plots.save_latent_plane(tmp_path / "plain.png", z, colourings)
    assert not any(axis.patches or axis.texts for axis in figures["plain.png"].axes)


def test_points_have_the_colours_of_their_kinds_in_the_picture(
    tmp_path: Path, drawn: dict[str, Any]
) -> None:
    z = np.array([[0.0, 0.0], [1.0, 5.0], [7.0, 2.0], [8.0, 9.0]])
    kinds = {"by cluster": np.array([7, 0, 3, 0]), "by label": np.array(["b", "a", "c", "a"])}
    components = Gaussians(np.array([[4.0, 4.0]]), np.eye(2)[None] / 9, ["long"])
    plots.save_latent_plane(tmp_path / "z.png", z, kinds, components)
    figure, picture = drawn["z.png"], read(tmp_path / "z.png")
    for axis, places in zip(figure.axes, ([7, 0, 3, 0], [1, 0, 2, 0]), strict=True):
        for point, place in zip(z, places, strict=True):
            found = pixel_under(figure, axis, picture, *point)
            np.testing.assert_allclose(found, blend(colormaps["tab10"](place)), atol=2)
        for sigma in (1, 2, 3):  # of a third: black ellipses around (4, 4)
            edge = [
                pixel_under(figure, axis, picture, 4 + (sigma + off) / 3, 4).sum()
                for off in (-0.04, -0.02, 0, 0.02, 0.04)
            ]
            assert min(edge) < 660  # of 765, which is white
        assert (pixel_under(figure, axis, picture, 4 + 4 / 3, 4) == 255).all()


def test_ellipses_lie_at_one_two_and_three_sigma() -> None:
    root = rng.normal(size=(2, 2))
    covariance, centre = root @ root.T, np.array([3.0, -1.0])
    axis = plots.new_figure(3, 3).subplots()
    plots._draw_components(axis, centre[None], covariance[None], ["0"])
    for sigma, ellipse in zip((1, 2, 3), axis.patches, strict=True):
        offset = points_of(ellipse) - centre
        distance = np.sqrt(np.einsum("nd,de,ne->n", offset, np.linalg.inv(covariance), offset))
        np.testing.assert_allclose(distance, sigma, rtol=1e-6)


def test_many_components_hide_no_points() -> None:
    axis = plots.new_figure(3, 3).subplots()
    plots._draw_points(axis, plots.Panel("", rng.normal(size=(20, 2)), np.zeros(20, int)), [])
    centres, names = rng.normal(size=(30, 2)), [str(k) for k in range(30)]
    plots._draw_components(axis, centres, np.stack([np.eye(2)] * 30), names)
    assert len(axis.patches) == 30  # one sigma alone
    assert max(ellipse.zorder for ellipse in axis.patches) < axis.collections[0].zorder
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


def test_confusion_is_a_table_of_shares(tmp_path: Path, drawn: dict[str, Any]) -> None:
    """Each square in the blue of its share of a row, with its count; an empty row is white."""
    counts = np.array([[5, 1, 2], [0, 0, 0], [0, 10, 0]])
    plots.save_confusion(tmp_path / "c.png", counts, ["a", "long", "$x"], ["a", "b", "c"])
    (axis,) = drawn["c.png"].axes
    picture = read(tmp_path / "c.png")
    for row in range(3):
        for column in range(3):
            share = counts[row, column] / max(1, counts[row].sum())
            corner = (column - 0.4, row - 0.4)  # beside the digits
            found = pixel_under(drawn["c.png"], axis, picture, *corner)
            expected = 255 * np.array(colormaps["Blues"](share)[:3])
            np.testing.assert_allclose(found, expected, atol=2)
    shown = {(*map(round, text.get_position()),): text.get_text() for text in axis.texts}
    assert shown == {(c, r): str(counts[r, c]) for r in range(3) for c in range(3)}
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "long", r"\$x"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b", "c"]
    assert (axis.get_ylabel(), axis.get_xlabel()) == ("label", "predicted")


def test_curves_run_through_their_values(tmp_path: Path, drawn: dict[str, Any]) -> None:
    lines = {"loss": {"": [3.0, 2.0, 2.5]}, "accuracy": {"seed 0": [0.1, 0.2], "seed 1": [0.3]}}
    one, other = ({name: lines[name]} for name in lines)
    for first, rows in ((0, [one, other]), (1, [lines, one])):
        plots.save_curves(tmp_path / "l.png", rows, "epoch", "nats", first=first)
        figure, picture = drawn["l.png"], read(tmp_path / "l.png")
        assert [axis.get_title() for axis in figure.axes] == [name for row in rows for name in row]
        assert [axis.get_ylabel() for axis in figure.axes].count("nats") == len(rows)
        for axis in figure.axes:
            series = lines[axis.get_title()]
            assert axis.get_xlabel() == "epoch"
            assert (axis.get_legend() is not None) == (len(series) > 1)
            for number, (line, name) in enumerate(zip(axis.lines, series, strict=True)):
                x, y = line.get_data()
                assert list(y) == series[name] and list(x) == [first + n for n in range(len(y))]
                for point in zip(x, y, strict=True):
                    found = pixel_under(figure, axis, picture, *point)
                    expected = 255 * np.array(colormaps["tab10"](number)[:3])
                    np.testing.assert_allclose(found, expected, atol=2)
            if len(series) > 1:
                names = [text.get_text() for text in axis.get_legend().get_texts()]
                assert names == list(series)
