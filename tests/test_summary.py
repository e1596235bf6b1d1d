"""summary.html: what is in it, and that names of files and classes cannot be markup."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import cluster
from mlx_gmvae.report.summary import Block, Picture, write_summary

import numpy as np
import pytest
from PIL import Image

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'<!--BODY-->"


class Reader(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def picture_of(source: str | None) -> np.ndarray:
    assert source is not None
    encoded = base64.b64decode(source.removeprefix("data:image/png;base64,"), validate=True)
    return np.asarray(Image.open(io.BytesIO(encoded)))


def test_the_page_shows_texts_figures_and_pictures(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)
    Image.fromarray(images[0]).save(tmp_path / "diagram.png")
    pictures = [Picture("three", images), Picture("one", tmp_path / "diagram.png")]
    blocks = [Block("Heading", "Text.", {"accuracy": "0.5"}, pictures), Block("", "Last.")]
    write_summary(tmp_path / "s.html", "A run", blocks)
    page = Reader((tmp_path / "s.html").read_text())
    text = " ".join(page.texts)
    for expected in ("A run", "Heading", "Text.", "accuracy", "0.5", "three", "one", "Last."):
        assert expected in text
    first, second = (attributes["src"] for tag, attributes in page.tags if tag == "img")
    np.testing.assert_array_equal(picture_of(second), images[0])
    shown = picture_of(first)
    for number, image in enumerate(images):
        left = 2 + 42 * number
        np.testing.assert_array_equal(shown[2:42, left : left + 40], image)


def test_nothing_in_a_name_is_markup(tmp_path: Path) -> None:
    image = np.zeros((1, 8, 8, 1), np.uint8)
    block = Block(HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, [Picture(HOSTILE, image)])
    plain = Block("h", "t", {"n": "v"}, [Picture("c", image)])
    pages = []
    for name, each in (("hostile", block), ("plain", plain)):
        write_summary(tmp_path / f"{name}.html", HOSTILE if name == "hostile" else "x", [each])
        pages.append(Reader((tmp_path / f"{name}.html").read_text()))
    hostile, harmless = pages
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in harmless.tags]
    assert all("onerror" not in attributes for _, attributes in hostile.tags)
    assert hostile.texts.count(HOSTILE) == 7  # title twice, heading, text, name, value, caption
    (policy,) = (a["content"] for _, a in hostile.tags if "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'")
    assert not [tag for tag, _ in hostile.tags if tag in ("script", "link", "iframe")]


@pytest.mark.usefixtures("few_digits")
def test_a_run_and_its_clusters_have_one(digits_run: Path, tmp_path: Path) -> None:
    page = (digits_run / "summary.html").read_text()
    assert {
        "pairs, training images",
        "pairs, held-out images",
        "clustering, held-out images",
    } <= set(re.findall(r"<th>(.*?)</th>", page))
    titles = re.findall(r"cluster \d\d: [\d,]+ images, mean confidence 0\.\d{3}", page)
    assert len(set(titles)) == 10
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == ["Figures", "Clusters", "Reconstructions", "Diagrams", "Anomalies"]
    for name in ("one", "two"):
        options = f"--model {digits_run}/model.npz --outdir {tmp_path}/{name}"
        assert cluster.main(options.split()) == 0
    one, two = (tmp_path / name / "summary.html" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()  # its samples too
    options = f"--model {digits_run}/model.npz --labelled 5 --anomalies 4 --outdir {tmp_path}"
    assert cluster.main(options.split()) == 0
    page = (tmp_path / "summary.html").read_text()
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == ["Figures", "Classes", "Anomalies", "Diagrams"]
    assert "labels and predicted classes" in page
