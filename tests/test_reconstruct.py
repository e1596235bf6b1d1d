"""reconstruct.py: the score of every image, and pictures of the worst and the best."""

import csv
from pathlib import Path
from typing import Any

import reconstruct
from mlx_gmvae.data.splits import Splits

import numpy as np
import pytest
from pictures import cells, read


def test_worst_and_best_are_those_of_the_table(
    digits_run: Path,
    digits: Splits,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sheets: dict[str, tuple[str, list[Any]]],
) -> None:
    options = f"--model {digits_run}/model.npz --rec_testdata --outdir {tmp_path} --num 24"
    assert reconstruct.main(options.split()) == 0
    saved = capsys.readouterr().out.splitlines()[-1]
    assert len(list(tmp_path.iterdir())) == 5
    assert all(path.name in saved for path in tmp_path.iterdir())
    with (tmp_path / "test_reconstructions.csv").open() as file:
        rows = list(csv.DictReader(file))
    errors = np.array([float(row["mse"]) for row in rows])
    by_index = {int(index): image for index, image in zip(
        digits.test.index, digits.test.images, strict=True
    )}  # fmt: skip
    order = np.argsort(-errors, kind="stable")
    for name, ranked in (("worst", order), ("best", order[::-1])):
        title, (section,) = sheets[f"test_{name}.png"]
        assert title == f"the 16 {name} of 359 reconstructions, below their originals"
        for shown, captions, row in zip(section.images, section.captions, ranked, strict=False):
            original, reconstruction = shown[:8], shown[9:]
            index = int(rows[row]["index"])
            np.testing.assert_array_equal(original, by_index[index])
            squared = ((original / 255 - reconstruction / 255) ** 2).mean()
            assert squared == pytest.approx(errors[row], abs=2e-3)
            error, name_of_it = captions
            assert float(error.removeprefix("MSE ")) == pytest.approx(errors[row], abs=1e-4)
            assert name_of_it == f"image {index}"
    # Rows of eight images drawn at random, above what the model makes of them.
    shown = cells(read(tmp_path / "test_reconstructions.png"), 8, 8, 8).reshape(3, 2, 8, 8, 8)
    originals, reconstructions = (shown[:, row].reshape(24, 8, 8) / 255 for row in (0, 1))
    row_of = {by_index[int(row["index"])].tobytes(): place for place, row in enumerate(rows)}
    places = [row_of[np.rint(image * 255).astype(np.uint8).tobytes()] for image in originals]
    assert len(set(places)) == 24 and places != sorted(places)
    squared = ((originals - reconstructions) ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose(squared, errors[places], atol=2e-3)


def test_the_seed_draws_the_images_of_the_picture_and_changes_no_score(
    digits_run: Path, tmp_path: Path
) -> None:
    pictures, scores = [], []
    for name, flags in (("a", ""), ("b", "--seed 0"), ("c", "--seed 1")):
        options = f"--model {digits_run}/model.npz --rec_testdata --num 8 {flags}"
        assert reconstruct.main([*options.split(), "--outdir", f"{tmp_path}/{name}"]) == 0
        pictures.append((tmp_path / name / "test_reconstructions.png").read_bytes())
        scores.append((tmp_path / name / "test_reconstructions.csv").read_text())
    assert pictures[0] == pictures[1] != pictures[2]
    assert len(set(scores)) == 1
