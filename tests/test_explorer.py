"""The HTML explorer: one file, everything in it, and names that cannot break out of it."""

import base64
import csv
import io
import json
import re
from pathlib import Path

import cluster
from mlx_gmvae.data.splits import Splits
from mlx_gmvae.evaluation.scores import anomaly_scores, latents
from mlx_gmvae.report.explorer import write_explorer
from mlx_gmvae.runs.checkpoint import load_model

import numpy as np
import pytest
from PIL import Image


def data_of(path: Path) -> dict:
    (content,) = re.findall(r"^const data = (.*);$", path.read_text(), flags=re.MULTILINE)
    return json.loads(content)


def sheet_of(data: dict) -> np.ndarray:
    """All images of a page as one picture."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(data["sprite"].split(",")[1]))))


def test_images_lie_where_the_page_looks_for_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (7, 5, 4, 3), np.uint8)
    points = rng.normal(size=(7, 2))
    names = [f"</script>{number}" for number in range(7)]
    path = tmp_path / "e.html"
    write_explorer(path, "title", points, images, names, {"kind": list("abcabca")})
    data = data_of(path)
    assert path.read_text().count("</script>") == 1
    assert (
        "content=\"default-src 'none'; img-src data:;" in path.read_text()
    )  # nothing from outside
    assert data["names"] == names
    sheet = sheet_of(data)
    (height, width), across = data["cell"], data["across"]
    for number, image in enumerate(images):
        top, left = number // across * height, number % across * width
        np.testing.assert_array_equal(sheet[top : top + height, left : left + width], image)
    assert data["columns"] == {"kind": list("abcabca")}
    # What moves and scales the points to the unit square, each axis on its own.
    places = np.array(data["points"])
    for axis in range(2):
        slope, start = np.polyfit(points[:, axis], places[:, axis], 1)
        assert slope > 0
        np.testing.assert_allclose(places[:, axis], slope * points[:, axis] + start, atol=2e-4)
        assert (places[:, axis].min(), places[:, axis].max()) == (0, 1)


def test_cluster_writes_it_and_it_needs_nothing_else(
    digits_run: Path, digits: Splits, tmp_path: Path
) -> None:
    options = f"--model {digits_run}/model.npz --explorer --outdir {tmp_path}"
    assert cluster.main(options.split()) == 0
    data = data_of(tmp_path / "explorer.html")
    assert len(data["points"]) == len(data["names"]) == 359
    columns = data["columns"]
    with (tmp_path / "assignments.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(columns) == {"cluster", "label", "confidence", "anomaly"}
    assert columns["cluster"] == [f"cluster_{int(row['cluster']):02d}" for row in rows]
    assert columns["label"] == [row["label"] for row in rows]
    assert data["names"] == [row["index"] for row in rows]
    confidence = [float(row["confidence"]) for row in rows]
    np.testing.assert_allclose(columns["confidence"], confidence, atol=1e-4)
    images = digits.test.images
    model = load_model(digits_run / "model.npz").model
    scores = anomaly_scores(model, images, "importance")
    np.testing.assert_allclose(columns["anomaly"], scores, atol=0.06)
    sheet, (height, width), across = sheet_of(data), data["cell"], data["across"]
    assert (height, width) == images.shape[1:3]
    for number, image in enumerate(images[..., 0]):
        top, left = number // across * height, number % across * width
        np.testing.assert_array_equal(sheet[top : top + height, left : left + width], image)
    # Distances on the page are those of the first two principal components, axis by axis.
    z = latents(model, images)
    turned = (z - z.mean(axis=0)) @ np.linalg.svd(z - z.mean(axis=0))[2][:2].T
    for place, component in zip(np.array(data["points"]).T, turned.T, strict=True):
        assert abs(np.corrcoef(place, component)[0, 1]) == pytest.approx(1, abs=1e-5)
    assert not re.search(r"(src|href)=|https?://", (tmp_path / "explorer.html").read_text())
