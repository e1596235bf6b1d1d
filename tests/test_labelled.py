"""Classification from few labels: of training images alone, as many of each class."""

import csv
from pathlib import Path

import cluster
from mlx_gmvae.data.splits import Splits
from mlx_gmvae.errors import InputError
from mlx_gmvae.evaluation.labelled import RIDGE, _mixture_of, choose_labelled, classify
from mlx_gmvae.evaluation.scores import responsibilities
from mlx_gmvae.models import MixtureModel
from mlx_gmvae.runs.checkpoint import load_model

import numpy as np
import pytest


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_components_are_shown_under_the_names_of_their_classes(
    digits_run: Path, digits: Splits
) -> None:
    model = load_model(digits_run / "model.npz").model
    assert isinstance(model, MixtureModel)
    images = digits.test.images
    classes = classify(model, digits.train, images, num_per_class=5, seed=0)
    assert len(classes.gaussians.names) == 10
    clusters = responsibilities(model, images).argmax(axis=1)
    predicted = np.array(classes.names)[classes.values.argmax(axis=1)]
    by_component = np.array(classes.gaussians.names)[clusters]
    assert (by_component == predicted).mean() > 0.9  # all, but where two components share a class


def test_few_labels_are_those_of_training_images_alone(
    digits_run: Path, digits: Splits, tmp_path: Path
) -> None:
    """Whatever the labels of the images are that are classified."""
    (train_part, test), answers = digits, []
    assert train_part.labels is not None and test.labels is not None
    for name, labels in (("true", test.labels), ("wrong", (test.labels + 3) % 10)):
        np.savez(tmp_path / f"{name}.npz", images=train_part.images, labels=train_part.labels,
                 test_images=test.images, test_labels=labels)  # fmt: skip
        options = f"--model {digits_run}/model.npz --dataset {tmp_path}/{name}.npz --split test"
        assert cluster.main(f"{options} --labelled 5 --outdir {tmp_path}/{name}".split()) == 0
        answers.append([row["predicted"] for row in rows_of(tmp_path / name / "assignments.csv")])
    assert answers[0] == answers[1]
    right = np.mean([int(answer) for answer in answers[0]] == test.labels)
    assert right > 0.5


def test_examples_that_are_alike_do_not_make_a_class_infinitely_narrow() -> None:
    """Half of each covariance is that of all classes together."""
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(40, 2)) * (3, 1)
    mixture = _mixture_of(np.concatenate([np.full((4, 2), 9.0), wide]), np.repeat([0, 1], [4, 40]))
    narrow, broad = np.linalg.inv(mixture.precisions_init)
    pooled = np.cov(np.concatenate([np.zeros((4, 2)), wide - wide.mean(axis=0)]).T)
    np.testing.assert_allclose(narrow, (pooled + RIDGE * np.eye(2)) / 2)
    np.testing.assert_allclose(broad, narrow + np.cov(wide.T) / 2)


def test_labelled_examples_are_as_many_of_each_class(digits: Splits) -> None:
    rows = choose_labelled(digits.train, 7, seed=3)
    assert digits.train.labels is not None
    assert np.bincount(digits.train.labels[rows]).tolist() == [7] * 10
    assert len(set(rows)) == 70
    np.testing.assert_array_equal(choose_labelled(digits.train, 7, seed=3), rows)
    assert (choose_labelled(digits.train, 7, seed=4) != rows).any()
    with pytest.raises(InputError, match="only"):
        choose_labelled(digits.train, 1000, seed=0)
