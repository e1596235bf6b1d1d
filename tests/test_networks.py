"""Encoders and decoders accept any image size."""

from mlx_gmvae.config import ModelConfig
from mlx_gmvae.models.networks import (
    Classifier,
    coarsest_grid,
    make_decoder,
    make_encoder,
    stage_filters,
)

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image


@pytest.mark.parametrize("arch", ["conv", "mlp"])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (28, 28), (28, 20), (33, 17), (5, 64)])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(arch: str, size: tuple[int, int], channels: int) -> None:
    config = ModelConfig(arch=arch, image_size=size, channels=channels, hidden_dims=32)
    encoder, decoder = make_encoder(config), make_decoder(config)
    assert encoder(mx.zeros((2, *size, channels))).shape == (2, encoder.out_dims)
    assert decoder(mx.zeros((2, config.latent_dims))).shape == (2, *size, channels)
    assert Classifier(config)(mx.zeros((2, *size, channels))).shape == (2, config.K)


@pytest.mark.parametrize(
    ("size", "stages", "filters", "grid"),
    [
        ((28, 28), 3, [16, 32, 64], (4, 4)),
        ((8, 8), 1, [64], (4, 4)),
        ((28, 20), 2, [32, 64], (7, 5)),
        ((512, 512), 7, [16, 16, 16, 16, 16, 32, 64], (4, 4)),
    ],
)
def test_stages_follow_the_image_size(
    size: tuple[int, int], stages: int, filters: list[int], grid: tuple[int, int]
) -> None:
    config = ModelConfig(image_size=size)
    assert config.layers == stages
    assert stage_filters(config) == filters
    assert coarsest_grid(config, stages) == grid


def test_num_layers_and_max_filters_choose_the_stages() -> None:
    config = ModelConfig(num_layers=2, max_filters=8)
    assert stage_filters(config) == [8, 8]
    assert make_encoder(config).out_dims == 7 * 7 * 8


def test_padding_keeps_the_image_where_it_was() -> None:
    """A decoder crops exactly what the encoder padded: rows and columns do not shift.

    With the weights of networks for the larger size that is padded to, both do the same.
    """
    narrow, wide = (ModelConfig(image_size=(28, width), num_layers=2) for width in (21, 24))
    encoder, wide_encoder = make_encoder(narrow), make_encoder(wide)
    encoder.update(wide_encoder.parameters())
    images = mx.random.uniform(shape=(2, 28, 21, 1))
    padded = mx.pad(images, [(0, 0), (0, 0), (1, 2), (0, 0)])
    np.testing.assert_allclose(encoder(images), wide_encoder(padded), atol=1e-6)
    decoder, wide_decoder = make_decoder(narrow), make_decoder(wide)
    decoder.update(wide_decoder.parameters())
    z = mx.random.normal((2, narrow.latent_dims))
    np.testing.assert_allclose(decoder(z), wide_decoder(z)[:, :, 1:22], atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (9, 6), (1, 1), (5, 30), (15, 16)])
def test_small_images_are_enlarged_for_the_classifier_as_pillow_does_it(
    size: tuple[int, int],
) -> None:
    classifier = Classifier(ModelConfig(image_size=size, channels=3))
    images = np.random.default_rng(0).random((4, *size, 3)).astype(np.float32)
    larger = classifier.enlarged(mx.array(images))
    factor = larger.shape[1] // size[0]
    assert larger.shape[1:3] == (factor * size[0], factor * size[1])
    assert factor == 1 or max(larger.shape[1:3]) <= 32
    assert min(larger.shape[1:3]) >= 16 or 2 * max(larger.shape[1:3]) > 32
    for image, found in zip(images, np.array(larger), strict=True):
        for channel in range(3):
            plane = Image.fromarray(image[..., channel])
            wanted = (factor * size[1], factor * size[0])
            expected = np.asarray(plane.resize(wanted, Image.Resampling.BICUBIC))
            np.testing.assert_allclose(found[..., channel], expected.clip(0, 1), atol=1e-5)
    assert classifier.enlarged(larger) is larger
    np.testing.assert_array_equal(classifier(mx.array(images)), classifier(larger))
