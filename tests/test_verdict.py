"""The verdict: a sentence on the clusters, without labels, and what to try next."""

import json
import re
from pathlib import Path

import cluster
import train
from mlx_gmvae.clustering.pair_scores import Closest, closest_pair
from mlx_gmvae.clustering.verdict import Signs, verdict

import numpy as np
import pytest


@pytest.mark.parametrize(
    ("agreement", "sizes", "words"),
    [
        (0.98, [0.5, 0.5], "well separated: 98%"),
        (0.75, [0.4, 0.3, 0.3], "clusters overlap: 75%"),
        (0.12, [0.1] * 10, "no clusters were found: 12% of neighbours .* by chance 10%"),
        (0.995, [0.99, 0.01], "nearly all images are in one cluster"),
    ],
)
def test_the_verdict_compares_neighbours_with_chance(
    agreement: float, sizes: list[float], words: str
) -> None:
    chance = float(np.square(sizes).sum())
    scores = {"neighbour_agreement": agreement, "chance_agreement": chance}
    scores = {name: 0.3 + 0.7 * value for name, value in scores.items()}
    assert re.search(words, verdict(scores))


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (Closest(2, 7, 0.18), "clusters 2 and 7 share 18% of their neighbours; look at"),
        (Closest(2, 7, 0.02), "by chance 36%; look at"),
        (None, "by chance 36%; look at"),
    ],
)
def test_the_verdict_names_two_clusters_that_may_be_one(pair: Closest | None, words: str) -> None:
    scores = {"neighbour_agreement": 0.3 + 0.7 * 0.8, "chance_agreement": 0.3 + 0.7 * 0.36}
    assert words in verdict(scores, pair)


def test_the_closest_clusters_are_those_that_share_most() -> None:
    clusters = np.repeat([0, 1, 4], [100, 100, 20])
    neighbours = clusters.copy()
    neighbours[100:104] = 4  # of 44 ends in 4, 4 lead to 1
    neighbours[:10] = 1  # of 200 ends in 0, 10 lead to 1
    found = closest_pair(clusters, neighbours)
    assert found is not None and found[:2] == (1, 4)
    assert found.share == pytest.approx(4 / 44)
    assert closest_pair(np.zeros(9, int), np.zeros(9, int)) is None


OVERLAP = {"neighbour_agreement": 0.3 + 0.7 * 0.8, "chance_agreement": 0.3 + 0.7 * 0.1}
SEPARATED = OVERLAP | {"neighbour_agreement": 0.3 + 0.7 * 0.97}
NONE = OVERLAP | {"neighbour_agreement": 0.3 + 0.7 * 0.12}
UNEQUAL = np.array([0.6, 0.2, 0.19, 0.01])


@pytest.mark.parametrize(
    ("scores", "closest", "signs", "advice"),
    [
        (SEPARATED, None, Signs(), ""),
        (SEPARATED, Closest(1, 3, 0.05), Signs(is_colour=True, num_images=5000), ""),
        (SEPARATED, Closest(1, 3, 0.16), Signs(num_images=1600), ""),  # right runs of few images
        (OVERLAP, Closest(1, 3, 0.4), Signs(num_images=240), "--seeds 5, or more images"),
        (SEPARATED, Closest(1, 3, 0.3), Signs(), "merging clusters 1 and 3 in the explorer"),
        (SEPARATED, None, Signs(sizes=UNEQUAL), "--K auto"),
        (SEPARATED, None, Signs(sizes=UNEQUAL, is_k_selected=True), ""),
        (SEPARATED, None, Signs(sizes=np.full(10, 0.1)), ""),
        (OVERLAP, None, Signs(True, True), "the features of another encoder"),
        (SEPARATED, None, Signs(num_images=300, sizes=UNEQUAL), "--seeds 5, or more images"),
        (OVERLAP, Closest(1, 3, 0.3), Signs(is_colour=True), "an encoder for photographs"),
        (OVERLAP, Closest(1, 3, 0.3), Signs(True, True), "merging clusters 1 and 3"),
        (OVERLAP, None, Signs(is_trained_by_pairs=False), "--pair_weight 1"),
        (OVERLAP, None, Signs(), "--seeds 5, or more --epochs"),
        (NONE, None, Signs(), "the features of another encoder"),
    ],
)
def test_the_advice_follows_the_signs(
    scores: dict[str, float], closest: Closest | None, signs: Signs, advice: str
) -> None:
    _, _, found = verdict(scores, closest, signs).partition("; try ")
    assert found.startswith(advice) and bool(found) == bool(advice)


def test_clusters_that_change_under_augmentation_overlap() -> None:
    words = verdict(SEPARATED | {"augmentation_agreement": 0.62})
    assert words.startswith("clusters overlap: 97%")
    assert "38% of images change their cluster under augmentation" in words


def test_it_ends_the_evaluation_and_is_stored(
    tmp_path: Path, undrawn: None, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--dataset digits --classes 1 4 8 --arch mlp --hidden_dims 8 --K 3 --epochs 1"
    assert train.main([*options.split(), "--pair_weight", "0", "--outdir", f"{tmp_path}/run"]) == 0
    *_, saved, found, following = capsys.readouterr().out.splitlines()
    assert saved.startswith("saved ") and following.startswith("next: ")
    words = json.loads((tmp_path / "run/metrics.json").read_text())["verdict"]
    assert found == f"verdict: {words}" and "; try " in words
    assert words in (tmp_path / "run/README.md").read_text()
    assert words in (tmp_path / "run/summary.html").read_text()

    options = f"--model {tmp_path}/run/model.npz --outdir {tmp_path}/c"
    assert cluster.main(options.split()) == 0
    words = json.loads((tmp_path / "c/metrics.json").read_text())["verdict"]
    assert f"\nverdict: {words}\n" in capsys.readouterr().out
    assert words in (tmp_path / "c/summary.html").read_text()
