"""cluster.py --compare: baselines on the same images."""

import json
from pathlib import Path

import cluster
from mlx_gmvae.cli import compare
from mlx_gmvae.data.splits import Splits
from mlx_gmvae.evaluation.baselines import fitted_clusters, methods, principal_components
from mlx_gmvae.evaluation.metrics import matching_accuracy

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score


def test_baselines_are_compared_on_the_same_images(
    digits_run: Path,
    digits: Splits,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compare, "SPECTRAL_IMAGES", 200)
    options = f"--model {digits_run}/model.npz --split test --compare --seed 3 --outdir {tmp_path}"
    assert cluster.main(options.split()) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())
    rows = found["comparison"]["rows"]
    kinds = [(row["method"], row["input"]) for row in rows]
    names = ["k-means", "Gaussian mixture", "spectral"]
    assert kinds == [("this model", ""), *((name, "pixels") for name in names),
                     *((name, "features of q(y|x)") for name in names)]  # fmt: skip
    assert rows[0]["accuracy"] == found["clustering"]["accuracy"]
    assert rows[0]["ari"] == rows[0]["same_cluster"] == 1
    assert all(0.3 < row["neighbour_agreement"] <= 1 for row in rows)

    images, labels = digits.test.images.reshape(359, -1) / 255, digits.test.labels
    assert labels is not None
    x = PCA(50, random_state=0).fit_transform(images)
    theirs = KMeans(10, random_state=3, n_init=1).fit_predict(x)
    assert rows[1]["accuracy"] == pytest.approx(matching_accuracy(labels, theirs), abs=0.01)
    table = (tmp_path / "assignments.csv").read_text().splitlines()[1:]
    ours = [int(line.split(",")[1]) for line in table]
    assert rows[1]["ari"] == pytest.approx(adjusted_rand_score(ours, theirs), abs=0.02)
    out = capsys.readouterr().out
    assert "comparison on all 359 images, K = 10 (spectral: fitted on 200)" in out
    assert "k-means           pixels" in out
    assert "<h2>Comparison</h2>" in (tmp_path / "summary.html").read_text()


def test_a_method_without_predict_takes_the_cluster_of_the_nearest_image() -> None:
    x = np.concatenate([np.zeros((30, 2)), np.ones((30, 2))])
    x += np.random.default_rng(0).normal(0, 0.01, x.shape)
    found = fitted_clusters(methods(2, 30)["spectral"](0), x[::2], x)
    assert len(set(found[:30])) == len(set(found[30:])) == 1 and found[0] != found[-1]


def test_components_of_many_values_are_those_of_some_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (300, 4, 4, 1), np.uint8)
    all_rows = principal_components(images)(images)
    assert all_rows.shape == (300, 16)
    monkeypatch.setattr("mlx_gmvae.evaluation.baselines.FITTED_VALUES", 16 * 60)
    some = principal_components(images)(images)
    assert some.shape == all_rows.shape and not np.allclose(some, all_rows)


@pytest.mark.parametrize(
    ("flags", "message"),
    [("--labelled 2", "leave out --labelled"), ("--dataset {few}", "more images than clusters")],
)
def test_comparisons_without_sense_are_refused(
    flags: str, message: str, digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "few.npy", np.zeros((3, 8, 8), np.uint8))
    given = flags.format(few=tmp_path / "few.npy")
    options = f"--model {digits_run}/model.npz --compare {given} --outdir {tmp_path}/c"
    assert cluster.main(options.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "c").exists()
