"""Assignments as other programs load them."""

import csv
import json
from pathlib import Path

import cluster

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from sklearn.datasets import load_sample_images

DIGITS = f"--model {ROOT}/pretrained/gmvae_digits_K10_dims_0008.npz --split test"
PHOTOS = f"--model {ROOT}/pretrained/gmvae_photos_K10_dims_0032.npz --no_labels --fit crop"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dozen photographs, one of them with a tab and quotes in its name."""
    place = tmp_path / "some photos"
    place.mkdir()
    photo = load_sample_images().images[0]
    for number in range(12):
        piece = photo[30 * number : 30 * number + 60, 50 * number : 50 * number + 60]
        name = 'a\t"b".png' if number == 5 else f"ü{number}.png"
        Image.fromarray(piece).save(place / name)
    return place


def table(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def test_the_projector_gets_a_line_for_each_image(folder: Path, tmp_path: Path) -> None:
    options = [*PHOTOS.split(), "--dataset", str(folder), "--export", "projector"]
    assert cluster.main([*options, "--outdir", str(tmp_path / "out"), "--save_latents"]) == 0
    vectors = np.loadtxt(tmp_path / "out/projector_vectors.tsv", delimiter="\t")
    np.testing.assert_allclose(vectors, np.load(tmp_path / "out/latents.npy"), rtol=1e-4, atol=1e-5)
    lines = (tmp_path / "out/projector_metadata.tsv").read_text().splitlines()
    names = lines[0].split("\t")
    rows = [dict(zip(names, line.split("\t"), strict=True)) for line in lines[1:]]
    expected = table(tmp_path / "out/assignments.csv")
    assert len(rows) == len(expected) == 12
    assert [row["cluster"] for row in rows] == [row["cluster"] for row in expected]


def test_label_studio_gets_tasks_with_predictions(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*PHOTOS.split(), "--dataset", str(folder), "--export", "label-studio"]
    assert cluster.main([*options, "--outdir", str(tmp_path / "out")]) == 0
    tasks = json.loads((tmp_path / "out/label_studio.json").read_text())
    for task, row in zip(tasks, table(tmp_path / "out/assignments.csv"), strict=True):
        path = "/" + task["data"]["image"].removeprefix("/data/local-files/?d=")
        assert Path(path).samefile(row["file"])
        (prediction,) = task["predictions"]
        (result,) = prediction["result"]
        assert result["value"]["choices"] == [f"cluster_{int(row['cluster']):02d}"]
        assert prediction["score"] == pytest.approx(float(row["confidence"]), abs=1e-4)
        assert (result["type"], result["to_name"]) == ("choices", "image")
    # Images of an array have no files to be shown.
    assert cluster.main(f"{DIGITS} --export label-studio --outdir {tmp_path}/no".split()) == 2
    assert "needs a folder of image files" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_sorted_folders_load_as_a_set_with_its_metadata(folder: Path, tmp_path: Path) -> None:
    options = [*PHOTOS.split(), "--dataset", str(folder), "--sort_into", str(tmp_path / "sorted")]
    assert cluster.main([*options, "--outdir", str(tmp_path / "out")]) == 0
    rows = table(tmp_path / "sorted/metadata.csv")
    assert len(rows) == 12
    for row in rows:
        copy = tmp_path / "sorted" / row["file_name"]
        assert copy.read_bytes() == Path(row["file"]).read_bytes()
        assert copy.parent.name == f"cluster_{int(row['cluster']):02d}"


def test_a_set_without_copies_has_an_empty_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "noise.npy", rng.integers(0, 256, (20, 8, 8), np.uint8))
    options = f"{DIGITS.replace(' --split test', '')} --dataset {tmp_path}/noise.npy"
    options += f" --outdir {tmp_path}/out"
    assert cluster.main([*options.split(), "--duplicates"]) == 0
    assert table(tmp_path / "out/duplicates.csv") == []
    assert not (tmp_path / "out/duplicates.png").exists()
    # Without the flag the next call removes what one with it has written.
    (tmp_path / "out/duplicates.png").touch()
    assert cluster.main(options.split()) == 0
    assert not list((tmp_path / "out").glob("duplicates.*"))
