"""Hierarchy of clusters by shared neighbours: dendrogram.png and cluster.py --merge_to."""

import csv
import json
from pathlib import Path
from typing import Any

import cluster
from mlx_gmvae.clustering.hierarchy import cluster_affinity, linkage_of, merged_to
from mlx_gmvae.report.dendrogram import save_dendrogram

import numpy as np
import pytest
from conftest import without_drawing


def test_clusters_that_share_most_neighbours_merge_first() -> None:
    clusters = np.repeat(np.arange(4), 10)
    graph = np.repeat(np.arange(40)[:, None], 2, axis=1)  # each image is its own neighbour
    graph[:4, 0] = 25  # of cluster 0 a fifth leads to 2
    graph[10:12, 0] = 35  # of cluster 1 a tenth leads to 3
    shared = cluster_affinity(clusters, graph, 4)
    np.testing.assert_allclose(shared, shared.T)
    assert shared.sum() == pytest.approx(1)
    linkage = linkage_of(shared)
    assert merged_to(linkage, 3) == [(0, 2)]
    assert merged_to(linkage, 2) == [(0, 2), (1, 3)]
    assert merged_to(linkage, 1) == [(0, 1, 2, 3)]
    # Edges count from both ends: 32 within cluster 0, 4 between 0 and 2, and 0 is the smaller one.
    assert 1 - linkage[0, 2] == pytest.approx(4 / 36)
    assert linkage[-1, 2] == 1  # the two pairs share nothing


@pytest.mark.draws
def test_clusters_that_share_all_neighbours_are_drawn(tmp_path: Path) -> None:
    graph = np.array([[2], [2], [0], [0]])  # every neighbour is in the other cluster
    linkage = linkage_of(cluster_affinity(np.array([0, 0, 1, 1]), graph, 2))
    assert linkage[0, 2] == 0
    save_dendrogram(tmp_path / "a.png", linkage, ["a", "b"], 1)
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.usefixtures("few_digits")
def test_clusters_are_merged_without_training_and_stored(
    digits_run: Path, tmp_path: Path, drawn: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    model = f"--model {digits_run}/model.npz --split test"
    options = f"{model} --merge_to 6 --save_model {tmp_path}/merged.npz --outdir {tmp_path}/c"
    assert cluster.main(options.split()) == 0
    assert "10 clusters merged into 6: cluster_" in capsys.readouterr().out
    decided = json.loads((tmp_path / "c/merged.json").read_text())
    assert sum(len(parts) - 1 for parts in decided["merged"]) == 4
    merges = json.loads((tmp_path / "c/metrics.json").read_text())["hierarchy"]
    assert len(merges) == 9
    shares = [each["shared"] for each in merges]
    assert shares == sorted(shares, reverse=True)
    first = {int(name.split()[1]) for side in merges[0]["clusters"] for name in side}
    assert any(first <= set(parts) for parts in decided["merged"])
    (axis,) = drawn["dendrogram.png"].axes
    assert len(axis.get_yticklabels()) == 10 and "--merge_to 6" in axis.get_title()
    assert "hierarchy of the clusters" in (tmp_path / "c/summary.html").read_text()

    def clusters(folder: str) -> list[str]:
        with (tmp_path / folder / "assignments.csv").open() as file:
            return [row["cluster"] for row in csv.DictReader(file)]

    found = clusters("c")
    assert len(set(found)) == 6
    for number, same in enumerate((f"{model} --curation {tmp_path}/c/merged.json",
                                   f"--model {tmp_path}/merged.npz --split test")):  # fmt: skip
        with without_drawing():
            assert cluster.main([*same.split(), "--outdir", f"{tmp_path}/{number}"]) == 0
        assert clusters(str(number)) == found
    # Merges continue from those of a curation.
    more = f"--model {tmp_path}/merged.npz --split test --merge_to 4 --outdir {tmp_path}/d"
    with without_drawing():
        assert cluster.main(more.split()) == 0
    finer = dict(zip(found, clusters("d"), strict=True))
    assert len(set(finer.values())) == 4
    assert [finer[name] for name in found] == clusters("d")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--merge_to 10", "the images are in 10 clusters; it must be fewer"),
        ("--merge_to 0", "--merge_to is 0"),
        ("--merge_to 3 --labelled 2", "leave out --labelled"),
        ("--save_model m.npz", "no effect without --curation or --merge_to"),
        ("--merge_to 3 --curation {out}/merged.json", "would replace"),
    ],
)
def test_merges_without_sense_are_refused(
    flags: str, message: str, digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curation = {"curation": 1, "clusters": 10, "names": {}, "merged": [], "moved": []}
    (tmp_path / "merged.json").write_text(json.dumps(curation))
    options = f"--model {digits_run}/model.npz --outdir {tmp_path} {flags.format(out=tmp_path)}"
    assert cluster.main(options.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["merged.json"]
