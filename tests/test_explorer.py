"""The HTML explorer: one file, everything in it, and names that cannot break out of it."""

import base64
import io
import json
import re
from pathlib import Path

import cluster
from mlx_gmvae.report.explorer import write_explorer

import numpy as np
from PIL import Image


def data_of(path: Path) -> dict:
    (content,) = re.findall(r"^const data = (.*);$", path.read_text(), flags=re.MULTILINE)
    return json.loads(content)


def test_images_lie_where_the_page_looks_for_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (7, 5, 4, 3), np.uint8)
    points = rng.normal(size=(7, 2))
    names = [f"</script>{number}" for number in range(7)]
    path = tmp_path / "e.html"
    write_explorer(path, "title", points, images, names, {"kind": list("abcabca")})
    data = data_of(path)
    assert path.read_text().count("</script>") == 1
    assert data["names"] == names
    sheet = np.array(Image.open(io.BytesIO(base64.b64decode(data["sprite"].split(",")[1]))))
    (height, width), across = data["cell"], data["across"]
    for number, image in enumerate(images):
        top, left = number // across * height, number % across * width
        np.testing.assert_array_equal(sheet[top : top + height, left : left + width], image)
    places = np.array(data["points"])
    assert places.min() == 0 and places.max() == 1
    assert (places.argsort(axis=0) == points.argsort(axis=0)).all()


def test_cluster_writes_it_and_it_needs_nothing_else(digits_run: Path, tmp_path: Path) -> None:
    options = f"--model {digits_run}/model.npz --explorer --outdir {tmp_path}"
    assert cluster.main(options.split()) == 0
    data = data_of(tmp_path / "explorer.html")
    assert len(data["points"]) == len(data["names"]) == 359
    assert set(data["columns"]) == {"cluster", "label", "confidence", "anomaly"}
    assert all(len(values) == 359 for values in data["columns"].values())
    assert not re.search(r"(src|href)=|https?://", (tmp_path / "explorer.html").read_text())
