"""cluster.py --reject: images of a low confidence stay unassigned."""

import csv
import json
from pathlib import Path
from typing import Any

import cluster
from mlx_gmvae.data.splits import Dataset
from mlx_gmvae.evaluation.selective import risk_coverage, selective_scores
from mlx_gmvae.report.assignments import Assignments
from mlx_gmvae.report.exports import save_label_studio

import numpy as np
import pytest
from conftest import without_drawing


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("few_digits")
def test_images_of_low_confidence_stay_unassigned(
    digits_run: Path, tmp_path: Path, drawn: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    options = f"--model {digits_run}/model.npz --split test --outdir {tmp_path}/c"
    with without_drawing():
        assert cluster.main(options.split()) == 0
    before = rows_of(tmp_path / "c/assignments.csv")
    confidence = np.array([float(row["confidence"]) for row in before])
    limit = round(float(np.median(confidence)), 3)
    options += f" --reject {limit} --sort_into {tmp_path}/sorted"
    assert cluster.main(options.split()) == 0
    rows = rows_of(tmp_path / "c/assignments.csv")
    expected = [row["cluster"] if float(row["confidence"]) >= limit else "-1" for row in before]
    assert [row["cluster"] for row in rows] == expected
    left = expected.count("-1")
    assert 0 < left < len(rows)
    assert len(list((tmp_path / "sorted/unassigned").iterdir())) == left
    assert len(list((tmp_path / "sorted").glob("cluster_*/*"))) == len(rows) - left
    assert len(rows_of(tmp_path / "sorted/metadata.csv")) == len(rows)
    assert (tmp_path / "c/unassigned.png").exists()

    scores = json.loads((tmp_path / "c/metrics.json").read_text())
    assert sum(scores["cluster_sizes"]) == len(rows) - left
    rejection = scores["rejection"]
    assert (rejection["threshold"], rejection["unassigned"]) == (limit, left)
    assert rejection["unassigned_share"] == left / len(rows)
    assert rejection["aurc_best"] <= rejection["aurc"] < rejection["aurc_random"]
    assert rejection["aurc_random"] == pytest.approx(1 - scores["clustering"]["accuracy"])
    assert scores["assigned"]["accuracy"] > scores["clustering"]["accuracy"]
    out = capsys.readouterr().out
    assert f"unassigned: {left} of 60 images" in out and "assigned images only: accuracy" in out
    (axis,) = drawn["risk_coverage.png"].axes
    coverage, risk = axis.lines[0].get_data()
    assert coverage[-1] == 1 and risk[-1] == pytest.approx(rejection["aurc_random"])

    plain = f"--model {digits_run}/model.npz --split test --no_labels --reject {limit}"
    assert cluster.main([*plain.split(), "--outdir", str(tmp_path / "c")]) == 0
    assert "aurc" not in json.loads((tmp_path / "c/metrics.json").read_text())["rejection"]
    (axis,) = drawn["risk_coverage.png"].axes
    assert axis.get_xlabel() == "confidence threshold"
    assert axis.lines[1].get_data()[1] == pytest.approx(1 - left / len(rows))
    with without_drawing():
        assert cluster.main(options.split()[:6]) == 0  # without --reject, the files of it go
    assert not (tmp_path / "c/unassigned.png").exists()
    assert not (tmp_path / "c/risk_coverage.png").exists()


def test_the_curve_is_the_error_of_the_most_confident_images() -> None:
    rng = np.random.default_rng(0)
    is_wrong, confidence = rng.random(50) < 0.3, rng.random(50)
    coverage, risk = risk_coverage(is_wrong, confidence)
    order = np.argsort(-confidence)
    np.testing.assert_allclose(risk, [is_wrong[order[: n + 1]].mean() for n in range(50)])
    np.testing.assert_allclose(coverage, np.arange(1, 51) / 50)
    scores = selective_scores(is_wrong, confidence)
    assert scores["aurc"] == pytest.approx(risk.mean())
    # Without any order, the area is the error; nothing depends on the order of the rows.
    assert selective_scores(is_wrong, np.ones(50))["aurc"] == pytest.approx(is_wrong.mean())
    assert "auroc" not in selective_scores(np.zeros(5, bool), confidence[:5])


def test_unassigned_images_have_no_prediction_and_no_class(tmp_path: Path) -> None:
    images = np.zeros((3, 2, 2, 1), np.uint8)
    files = ("a.png", "b.png", "c.png")
    dataset = Dataset("few", images, None, np.arange(3), files=files)
    q = np.array([[0.9, 0.1], [0.45, 0.55], [0.2, 0.8]])
    found = Assignments(dataset, q, ("cat", "dog"), reject=0.6)
    assert found.predicted.tolist() == ["cat", "unassigned", "dog"]
    assert found.sizes.tolist() == [1, 1]
    assert found.columns()["cluster"] == [0, -1, 1]
    save_label_studio(tmp_path, found, np.zeros((3, 2)))
    tasks = json.loads((tmp_path / "label_studio.json").read_text())
    assert [len(task["predictions"]) for task in tasks] == [1, 0, 1]


@pytest.mark.parametrize("value", ["0", "1", "nan", "-0.5"])
def test_thresholds_are_between_0_and_1(
    value: str, digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--model={digits_run}/model.npz", f"--reject={value}", f"--outdir={tmp_path}/c"]
    assert cluster.main(options) == 2
    assert "it must be between 0 and 1" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
