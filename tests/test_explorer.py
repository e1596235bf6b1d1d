"""The HTML explorer: one file, everything in it, and names that cannot break out of it."""

import base64
import csv
import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cluster
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.evaluation.scores import anomaly_scores, latents, reconstruct
from mlx_gmvae.report import model_explorer, plots
from mlx_gmvae.report.explorer import Ellipse, LatentMap, write_explorer
from mlx_gmvae.runs.checkpoint import load_model

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from conftest import ROOT
from PIL import Image
from sklearn.metrics import silhouette_score


def data_of(path: Path) -> dict:
    (content,) = re.findall(r"^const data = (.*);$", path.read_text(), flags=re.MULTILINE)
    return json.loads(content)


def sheet_of(data: dict, name: str = "sprite") -> np.ndarray:
    """All images of a page as one picture."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(data[name].split(",")[1]))))


def assert_shown(data: dict, images: np.ndarray, name: str = "sprite", atol: int = 0) -> None:
    """The page's sheet of that name has the images where the page looks for them."""
    sheet, (height, width), across = sheet_of(data, name), data["cell"], data["across"]
    assert (height, width) == images.shape[1:3]
    for number, image in enumerate(images):
        top, left = number // across * height, number % across * width
        shown = sheet[top : top + height, left : left + width].reshape(image.shape)
        np.testing.assert_allclose(shown.astype(int), image.astype(int), atol=atol)


def test_images_lie_where_the_page_looks_for_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (7, 5, 4, 3), np.uint8)
    points = rng.normal(size=(7, 2)) * (3, 1)
    names = [f"</script>{number}" for number in range(7)]
    path = tmp_path / "e.html"
    covariance = np.array([[4.0, 0], [0, 1]])
    maps = [LatentMap("plane", points, [Ellipse("0", "a", points[2], covariance)])]
    write_explorer(path, "title", "text", maps, images, names, {"kind": list("abcabca")}, images)
    data = data_of(path)
    assert path.read_text().count("</script>") == 1
    assert (
        "content=\"default-src 'none'; img-src data:;" in path.read_text()
    )  # nothing from outside
    assert data["names"] == names and data["columns"] == {"kind": list("abcabca")}
    assert_shown(data, images)
    assert_shown(data, images, "decoded")
    # In the unit square, both axes on one scale, the middle of each in the middle.
    places, (ellipse,) = np.array(data["maps"][0]["points"]), data["maps"][0]["ellipses"]
    scale = 1 / np.ptp(points, axis=0).max()
    expected = (points - (points.min(axis=0) + points.max(axis=0)) / 2) * scale + 0.5
    np.testing.assert_allclose(places, expected, atol=1e-4)
    np.testing.assert_allclose(ellipse["centre"], places[2], atol=1e-4)
    assert sorted(ellipse["radii"]) == pytest.approx([scale, 2 * scale], abs=1e-4)
    longer = np.array([np.cos(ellipse["angle"]), np.sin(ellipse["angle"])])
    if ellipse["radii"][0] < ellipse["radii"][1]:
        longer = longer[::-1]
    assert abs(longer[0]) == pytest.approx(1, abs=1e-3)


def fisher_criterion(each: dict, clusters: np.ndarray) -> float:
    """tr(W^-1 B) of covariances within and between clusters, which LDA makes largest."""
    points = np.array(each["points"])
    means = np.stack([points[clusters == k].mean(axis=0) for k in range(clusters.max() + 1)])
    within, between = np.cov((points - means[clusters]).T), np.cov(means[clusters].T)
    return float(np.trace(np.linalg.solve(within, between)))


def test_cluster_writes_it_and_it_needs_nothing_else(
    digits_run: Path, few_digits: None, tmp_path: Path
) -> None:
    options = f"--model {digits_run}/model.npz --split test --explorer --outdir {tmp_path}"
    assert cluster.main(options.split()) == 0
    data = data_of(tmp_path / "explorer.html")
    columns = data["columns"]
    with (tmp_path / "assignments.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(columns) == {"cluster", "label", "confidence", "anomaly"}
    assert columns["cluster"] == [f"cluster_{int(row['cluster']):02d}" for row in rows]
    assert columns["label"] == [row["label"] for row in rows]
    assert data["names"] == [row["index"] for row in rows]
    confidence = [float(row["confidence"]) for row in rows]
    np.testing.assert_allclose(columns["confidence"], confidence, atol=1e-4)
    images = load_dataset("digits").test.images
    model = load_model(digits_run / "model.npz").model
    scores = anomaly_scores(model, images)
    np.testing.assert_allclose(columns["anomaly"], scores, atol=0.06)
    assert_shown(data, images)
    assert_shown(data, reconstruct(model, images) * 255, "decoded", atol=1)
    assert data["subtitle"] == "60 images"
    # Distances on the first map are those of the first two principal components.
    plane, between, by_tsne, of_classifier = data["maps"]
    z = latents(model, images)
    turned = (z - z.mean(axis=0)) @ np.linalg.svd(z - z.mean(axis=0))[2][:2].T
    for place, component in zip(np.array(plane["points"]).T, turned.T, strict=True):
        assert abs(np.corrcoef(place, component)[0, 1]) == pytest.approx(1, abs=1e-5)
    assert [each["kind"] for each in plane["ellipses"]] == [f"cluster_{k:02d}" for k in range(10)]
    # The others part the clusters better, each in its own sense.
    clusters = np.array([int(row["cluster"]) for row in rows])
    assert fisher_criterion(between, clusters) > fisher_criterion(plane, clusters)
    crowded, *parted = (
        silhouette_score(each["points"], clusters) for each in (plane, by_tsne, of_classifier)
    )
    assert min(parted) > crowded
    assert not re.search(r"(src|href)=|https?://", (tmp_path / "explorer.html").read_text())


@pytest.mark.usefixtures("few_digits")
def test_with_tsne_the_page_opens_on_that_map_which_is_made_once(
    digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: dict[str, Any]
) -> None:
    calls = []

    def tsne(z: np.ndarray) -> np.ndarray:
        calls.append(len(z))
        return z[:, :2]

    monkeypatch.setattr(plots, "tsne", tsne)
    monkeypatch.setattr(model_explorer, "tsne", tsne)
    options = f"--model {digits_run}/model.npz --split test --explorer --tsne --outdir {tmp_path}"
    assert cluster.main(options.split()) == 0
    assert calls == [60]
    first, *others = data_of(tmp_path / "explorer.html")["maps"]
    assert first["name"] == "t-SNE" and "t-SNE" not in [each["name"] for each in others]
    assert others[-1]["name"] == "features of q(y|x)"
    shown = [len(dots.get_offsets()) for dots in drawn["latent_tsne.png"].axes[0].collections]
    assert sum(shown) == 60


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Browser]:
    """Nine images at the places of a 3x3 grid, in a browser."""
    if CHROMIUM is None:
        pytest.skip("no Chromium to try the page in (apt-get install chromium)")
    grid = np.stack(np.meshgrid([0.0, 1, 2], [0.0, 1, 2]), axis=-1).reshape(9, 2)
    images = np.full((9, 8, 8, 1), 255, np.uint8) * np.linspace(0, 1, 9)[:, None, None, None]
    columns: dict[str, list] = {"cluster": list("aaabbbccc"), "anomaly": [*map(float, range(9))]}
    ellipses = [Ellipse(kind, kind, grid[3 * k + 1], np.eye(2) / 9) for k, kind in enumerate("abc")]
    maps = [LatentMap("plane", grid, ellipses), LatentMap("turned", grid[::-1], [])]
    names = [f"<img src=x onerror=alert({n})>{n}.jpg" for n in range(9)]
    write_explorer(
        tmp_path / "e.html", "nine", "9 images", maps, images.astype(np.uint8), names, columns,
        images.astype(np.uint8), {"anomaly": "anomaly score, nats"},
    )  # fmt: skip
    browser = Browser(tmp_path / "profile")
    browser.open(tmp_path / "e.html")
    yield browser
    browser.close()


def test_the_page_does_what_hands_ask(page: Browser) -> None:
    def place(number: int) -> list[float]:
        return page.ask(f"at[{number}]")

    page.mouse("mouseMoved", *place(4))
    facts = page.ask("document.getElementById('facts').innerText")
    assert page.ask("chosen") == 4 and "4.jpg" in facts and "4 nats" in facts
    assert page.ask("document.images.length") == 0  # a name is no markup
    # Arrow keys, then two clicks pin, and a strip of decoded images lies between the pins.
    page.key("ArrowRight")
    assert page.ask("chosen") == 5
    page.key("ArrowUp")
    assert page.ask("chosen") == 8
    page.click(*place(0))
    page.click(*place(2))
    assert page.ask("pins") == [0, 2]
    strip = "[...document.querySelectorAll('#strip canvas')].map(c => +c.dataset.image)"
    assert page.ask(strip) == [0, 0, 1, 1, 1, 1, 2, 2]
    page.key("Escape")
    assert page.ask("pins") == [] and page.ask("document.getElementById('strip').hidden")
    # The wheel zooms where the pointer is; dragging moves; a double click shows all again.
    before, (x, y) = place(8), place(4)
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-400)
    after = place(8)
    assert np.allclose(place(4), [x, y], atol=1) and after[0] - x > 2 * (before[0] - x)
    page.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
    page.mouse("mouseMoved", x + 50, y + 30, button="left", buttons=1)
    page.mouse("mouseReleased", x + 50, y + 30, button="left", clickCount=1)
    assert np.allclose(place(4), [x + 50, y + 30], atol=1) and page.ask("pins") == []
    for count in (1, 2):
        for kind in ("mousePressed", "mouseReleased"):
            page.mouse(kind, 5, 5, button="left", buttons=1, clickCount=count)
    assert np.allclose(place(8), before, atol=1)
    # A kind that is hidden cannot be pointed at, and comes back.
    page.ask("document.querySelector('#legend button').click()")
    page.mouse("mouseMoved", *place(3))
    page.mouse("mouseMoved", *place(1))
    assert page.ask("chosen") == 3 and page.ask("hidden.size") == 1
    page.ask("document.querySelector('#legend button').click()")
    # Finding by name, another map, another colour.
    page.ask("document.getElementById('search').focus()")
    page.send("Input.insertText", text="7.JPG")
    page.key("Enter")
    assert page.ask("chosen") == 7
    first = place(0)
    page.ask("map.value = 1, map.onchange()")
    assert np.allclose(place(8), first, atol=1)
    page.ask("by.value = 'anomaly', by.onchange()")
    assert "anomaly score, nats: lowest, median, highest" in page.ask("legend.innerText")
    assert page.errors == []


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1400, 900)])
def test_the_page_fits_any_screen(page: Browser, width: int, height: int) -> None:
    page.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
              deviceScaleFactor=2, mobile=width < 500)  # fmt: skip
    assert page.ask("document.documentElement.scrollWidth") <= width
    # Equal scale on both axes.
    for _ in range(50):  # until the page has drawn itself anew
        left, right, upper = (page.ask(f"at[{number}]") for number in (0, 2, 6))
        if right[0] - left[0] == pytest.approx(left[1] - upper[1], abs=1):
            break
        time.sleep(0.1)
    assert right[0] - left[0] == pytest.approx(left[1] - upper[1], abs=1)


def test_photographs_are_shown_as_large_as_the_page_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From their files, whole; without the files the images that the model saw."""
    monkeypatch.setattr(model_explorer, "tsne", lambda z: z[:, :2])
    rng, folder = np.random.default_rng(0), tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        pixels = np.full((200, 300, 3), rng.integers(0, 256, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    model = ROOT / "pretrained/gmvae_photos_K10_dims_0032.npz"
    options = f"--model {model} --dataset {folder} --fit crop --explorer --outdir {tmp_path}/out"
    assert cluster.main(options.split()) == 0
    data = data_of(tmp_path / "out/explorer.html")
    assert data["cell"] == [160, 160] and data["decoded_cell"] == [32, 32]
    assert data["sprite"].startswith("data:image/jpeg")
    sheet = sheet_of(data)
    for number, name in enumerate(data["names"]):
        top, left = number // data["across"] * 160, number % data["across"] * 160
        with Image.open(folder / name) as original:
            expected = np.asarray(original)[0, 0]
        np.testing.assert_allclose(sheet[top + 80, left + 80].astype(int), expected, atol=6)
        assert np.ptp(sheet[top + 5, left : left + 160].astype(int)) <= 12  # grey above the image
    small = [Image.open(path) for path in sorted(folder.iterdir())]
    for image, path in zip(small, sorted(folder.iterdir()), strict=True):
        with image:
            image.resize((20, 20)).save(path)
    assert cluster.main(f"{options}2".split()) == 0
    assert data_of(tmp_path / "out2/explorer.html")["cell"] == [32, 32]
