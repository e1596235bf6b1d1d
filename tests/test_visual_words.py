"""Kinds of small patches, in numbers, and what they bring for images in colour."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import train
from mlx_gmvae.clustering import codebook
from mlx_gmvae.clustering.neighbours import neighbour_graph
from mlx_gmvae.clustering.prepare import prepare_classifier
from mlx_gmvae.config import ModelConfig
from mlx_gmvae.models import build_model, visual_words
from mlx_gmvae.models.visual_words import (
    CONTRAST_FLOOR,
    GRID,
    LENGTH_FLOOR,
    SIDE,
    STRIDE,
    THRESHOLD,
    VisualWords,
    num_windows,
    windows,
)
from mlx_gmvae.training import memory
from mlx_gmvae.training.resolve import Options, resolve_model

import mlx.core as mx
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

rng = np.random.default_rng(0)


WORDS = 80


@pytest.fixture(scope="module", autouse=True)
def few_words() -> Iterator[None]:
    """A fifth of the words, whose k-means takes most of the time."""
    with (
        patch.object(codebook, "WORDS", WORDS),
        patch.object(memory, "WORDS", WORDS),
        patch.object(visual_words, "WORDS", WORDS),
    ):
        yield


@pytest.fixture(scope="module")
def photographs() -> tuple[np.ndarray, np.ndarray]:
    """Pieces of two photographs, 24x24, and which of the two each is from."""
    china, flower = load_sample_images().images
    pieces = [
        photo[top : top + 24, left : left + 24]
        for photo in (china, flower)
        for top, left in rng.integers(0, 400, (40, 2))
    ]
    return np.stack(pieces), np.repeat([0, 1], 40)


@pytest.fixture(scope="module")
def learned(few_words: None, photographs: tuple[np.ndarray, np.ndarray]) -> VisualWords:
    layer = VisualWords(3)
    codebook.learn(layer, photographs[0])
    return layer


def test_windows_are_all_patches_at_every_second_pixel() -> None:
    images = rng.random((2, 14, 17, 3), dtype=np.float32)
    found = np.array(windows(mx.array(images)))
    views = np.lib.stride_tricks.sliding_window_view(images[:, :14, :16], (SIDE, SIDE), axis=(1, 2))
    views = views[:, ::STRIDE, ::STRIDE].reshape(*found.shape)
    np.testing.assert_array_equal(np.sort(found, axis=-1), np.sort(views, axis=-1))
    # Values have the same places in all patches.
    one = np.zeros((1, 14, 14, 1), np.float32)
    one[0, 3, 5] = 1
    moved = np.array(windows(mx.array(np.roll(one, (2, 2), (1, 2)))))[0, 1:, 1:]
    before = np.array(windows(mx.array(one)))[0, :-1, :-1]
    np.testing.assert_array_equal(moved, before)
    assert moved.any()


@pytest.mark.parametrize(
    "size", [(28, 28), (12, 40), (64, 64), (70, 130), (5, 9), (300, 31), (3, 320)]
)
def test_images_of_any_size(size: tuple[int, int]) -> None:
    images = mx.array(rng.random((2, *size, 3), dtype=np.float32))
    found = windows(images)
    assert found.shape[1] * found.shape[2] == num_windows(size)
    assert VisualWords(3)(images).shape == (2, GRID * GRID * WORDS)


def test_a_large_image_is_reduced_by_means() -> None:
    images = rng.random((1, 64, 96, 3), dtype=np.float32)
    small = images[:, :63].reshape(1, 21, 3, 32, 3, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(
        np.array(windows(mx.array(images))), np.array(windows(mx.array(small))), atol=1e-6
    )


def test_histograms_are_the_naive_ones(
    photographs: tuple[np.ndarray, np.ndarray], learned: VisualWords
) -> None:
    images, layer = photographs[0], learned
    x = mx.array(images[:1].astype(np.float32) / 255)
    (values,) = np.array(windows(x))
    kinds, expected = np.array(layer.codebook), np.zeros((GRID, GRID, WORDS))
    counts = np.zeros((GRID, GRID, 1))
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            patch = values[row, column] - values[row, column].mean()
            patch = patch / np.sqrt((patch**2).mean() + CONTRAST_FLOOR)
            white = (patch - np.array(layer.mean)) @ np.array(layer.whitening)
            white = white / np.sqrt((white**2).mean() + LENGTH_FLOOR)
            borders = [values.shape[0] * cell // GRID for cell in range(1, GRID)]
            cell = (
                int(np.searchsorted(borders, row, "right")),
                int(np.searchsorted(borders, column, "right")),
            )
            expected[cell] += np.maximum(kinds @ white - THRESHOLD, 0)
            counts[cell] += 1
    roots = np.sqrt(expected / counts + 1e-6).reshape(-1)
    np.testing.assert_allclose(np.array(layer.histogram(x))[0], roots, atol=2e-3)


def test_what_is_learned_of_the_images(
    photographs: tuple[np.ndarray, np.ndarray], learned: VisualWords
) -> None:
    images, first, second = photographs[0], learned, VisualWords(3)
    codebook.learn(second, images)
    for name, value in first.parameters().items():
        np.testing.assert_array_equal(np.array(value), np.array(second[name]), err_msg=name)
    np.testing.assert_allclose(np.linalg.norm(np.array(first.codebook), axis=1), 1, atol=1e-4)
    amounts = np.array(first(mx.array(images.astype(np.float32) / 255)))
    np.testing.assert_allclose(amounts.mean(axis=0), 0, atol=1e-3)
    assert 0.8 < np.median(amounts.std(axis=0)) < 1.01
    assert not first.trainable_parameters()


def test_neighbours_by_patches_are_of_the_same_photograph(
    photographs: tuple[np.ndarray, np.ndarray],
) -> None:
    images, photo = photographs
    agreement = {
        kind: (photo[neighbour_graph(images, 5, kind)] == photo[:, None]).mean()
        for kind in ("patches", "pixels")
    }
    assert agreement["patches"] > max(0.9, agreement["pixels"])


@pytest.mark.parametrize(
    ("options", "classifier"),
    [
        ({"image_size": (32, 32), "channels": 3}, "patches"),
        ({"image_size": (32, 32), "channels": 1}, "conv"),
        ({"image_size": (16, 32), "channels": 3}, "conv"),
        ({"image_size": (32, 32), "channels": 3, "arch": "mlp"}, "conv"),
        ({"image_size": (32, 32), "channels": 3, "model": "vae"}, "conv"),
        ({"image_size": (32, 32), "channels": 3, "posterior": "bayes"}, "conv"),
    ],
)
def test_images_in_colour_get_them(options: dict[str, Any], classifier: str) -> None:
    height, width = options.pop("image_size")
    model, reasons = resolve_model(Options(options, {}), (height, width, options.pop("channels")))
    assert model.classifier == classifier
    assert reasons.get("classifier", classifier).startswith(classifier)


def test_a_model_without_them_learns_none(small_images: np.ndarray) -> None:
    model = build_model(ModelConfig(model="vae", image_size=(9, 6), channels=3))
    before = {name: np.array(value) for name, value in model.arrays().items()}
    prepare_classifier(model, small_images)
    for name, value in model.arrays().items():
        np.testing.assert_array_equal(before[name], np.array(value))


@pytest.mark.parametrize(
    ("options", "reason"),
    [("--model vae", "model vae"), ("--arch mlp", "arch mlp"),
     ("--posterior bayes", "posterior bayes")],
)  # fmt: skip
def test_a_choice_without_effect_is_refused(
    options: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"--dataset digits {options} --classifier patches"
    assert train.main(command.split()) == 2
    assert f"classifier has no effect with {reason}" in capsys.readouterr().err


def test_the_layer_after_them_is_as_wide_as_asked() -> None:
    config = ModelConfig(classifier="patches", image_size=(16, 16), channels=3, hidden_dims=7)
    model = build_model(config)
    assert model.arrays()["classifier.encoder.dense.weight"].shape[0] == 7
    assert model.responsibilities(mx.zeros((2, 16, 16, 3))).shape == (2, config.K)


def test_a_given_choice_is_kept() -> None:
    for given, expected in (({}, "patches"), ({"classifier": "conv"}, "conv")):
        model, reasons = resolve_model(Options({"K": 2, **given}, {}), (32, 32, 3))
        assert model.classifier == expected
        assert ("classifier" in reasons) == (not given)
