"""Encoders (image -> features) and decoders (latent -> image): convolutional and dense.

The activation is leaky ReLU: on the CPU it takes a hundredth of the time of GELU or tanh.
"""

import dataclasses
import math
from itertools import pairwise

import mlx.core as mx
import mlx.nn as nn

from ..config import ModelConfig
from ..device.parallel import over_batch
from .enlarge import enlarge, factor_for
from .layers import Dense, DownsampleConv2d, UpsampleConv2d, activated, leaky_relu
from .visual_words import VisualWordEncoder

SMALLEST_FILTERS = 16
CLASSIFIER_FILTERS = 32
CLASSIFIER_GRID = 7
CLASSIFIER_DIMS = 128


def make_encoder(config: ModelConfig) -> "ConvEncoder | MLPEncoder":
    """Return the encoder of `config`: (B, H, W, C) -> features (B, out_dims)."""
    if config.arch == "conv":
        return ConvEncoder(config, stage_filters(config))
    return MLPEncoder(config)


def make_decoder(config: ModelConfig) -> "ConvDecoder | MLPDecoder":
    """Return the decoder of `config`: latents (B, D) -> likelihood parameters (B, H, W, C)."""
    return ConvDecoder(config) if config.arch == "conv" else MLPDecoder(config)


def stage_filters(config: ModelConfig) -> list[int]:
    """Return the channels after each stride-2 stage, doubling to max_filters: 16, 32, 64."""
    smallest = min(SMALLEST_FILTERS, config.max_filters)
    halvings = reversed(range(config.layers))
    return [max(smallest, config.max_filters >> halving) for halving in halvings]


def classifier_filters(config: ModelConfig) -> list[int]:
    """Return the channels after each stride-2 stage of the classifier, to a grid of about 7x7."""
    stages = max(1, round(math.log2(min(config.image_size) / CLASSIFIER_GRID)))
    return [CLASSIFIER_FILTERS, *[2 * CLASSIFIER_FILTERS] * (stages - 1)]


def as_classifier_sees(config: ModelConfig) -> ModelConfig:
    """Return `config` with the image size that the first layer of q(y|x) sees."""
    if config.arch != "conv" or config.classifier != "conv":
        return config
    height, width = config.image_size
    factor = factor_for(config.image_size)
    return dataclasses.replace(config, image_size=(factor * height, factor * width))


def padding(side: int, stages: int) -> tuple[int, int]:
    """Return the pixels to pad (before, after), so that every stage halves a side exactly."""
    extra = -side % 2**stages
    return extra // 2, extra - extra // 2


def coarsest_grid(config: ModelConfig, stages: int) -> tuple[int, int]:
    """Return the height and width after `stages` halvings of the padded image."""
    height, width = (math.ceil(side / 2**stages) for side in config.image_size)
    return height, width


class ConvEncoder(nn.Module):
    """Stride-2 convolutions with the given numbers of channels, flattened."""

    def __init__(self, config: ModelConfig, filters: list[int]):
        super().__init__()
        self.stages = [
            DownsampleConv2d(before, after)
            for before, after in pairwise([config.channels, *filters])
        ]
        self.out_dims = math.prod(coarsest_grid(config, len(filters))) * filters[-1]
        rows, columns = (padding(side, len(filters)) for side in config.image_size)
        self._padding = [(0, 0), rows, columns, (0, 0)]

    def __call__(self, x: mx.array) -> mx.array:
        return over_batch(self._features, x)

    def _features(self, x: mx.array) -> mx.array:
        x = mx.pad(x, self._padding)
        for stage in self.stages:
            x = activated(stage, x)
        return x.flatten(1)


class MLPEncoder(nn.Module):
    """Dense layers of `hidden_dims` on the flattened image."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        sizes = [math.prod(config.image_shape)] + [config.hidden_dims] * config.layers
        self.layers = dense_layers(sizes)
        self.out_dims = config.hidden_dims

    def __call__(self, x: mx.array) -> mx.array:
        return over_batch(self._features, x.flatten(1))

    def _features(self, x: mx.array) -> mx.array:
        for layer in self.layers:
            x = leaky_relu(layer(x))
        return x


class Classifier(nn.Module):
    """Logits of q(y|x): (B, H, W, C) -> (B, K).

    The first layers are stride-2 convolutions down to a grid of about 7x7 (two for 28x28), after
    images below 16 pixels were enlarged; or a visual-word histogram with a dense layer; or dense
    layers. Then follows a dense layer of 128 with batch normalisation. Normalising only there
    trains as well as normalising every stage, at a tenth of the cost.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.encoder: ConvEncoder | VisualWordEncoder | MLPEncoder
        seen = as_classifier_sees(config)
        self._height = config.image_size[0]
        self._factor = seen.image_size[0] // self._height
        if config.arch == "conv" and config.classifier == "patches":
            self.encoder = VisualWordEncoder(config.channels, config.hidden_dims)
        elif config.arch == "conv":
            self.encoder = ConvEncoder(seen, classifier_filters(seen))
        else:
            self.encoder = MLPEncoder(config)
        self.hidden = Dense(self.encoder.out_dims, CLASSIFIER_DIMS)
        self.norm = nn.BatchNorm(CLASSIFIER_DIMS)
        self.out = nn.Linear(CLASSIFIER_DIMS, config.K)

    def enlarged(self, x: mx.array) -> mx.array:
        """Enlarge images to the size the first layer needs, unless they have it already."""
        return enlarge(x, self._factor) if self._factor > 1 and len(x[0]) == self._height else x

    def features(self, x: mx.array) -> mx.array:
        """Return the inputs of the last layer, (B, 128), for images, enlarged or not."""
        x = self.enlarged(x)
        hidden = over_batch(lambda part: self.hidden(self.encoder(part)), x)
        return nn.relu(self.norm(hidden))

    def __call__(self, x: mx.array) -> mx.array:
        return self.out(self.features(x))


class FeatureClassifier(nn.Module):
    """Logits of q(y|x) from features of a frozen encoder: (B, F) -> (B, K).

    One dense layer of 128 between the features and the last layer, without normalisation.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.encoder = FeatureScaler(config.feature_dims)
        self.hidden = nn.Linear(config.feature_dims, CLASSIFIER_DIMS)
        self.out = nn.Linear(CLASSIFIER_DIMS, config.K)

    def features(self, x: mx.array) -> mx.array:
        """Return the inputs of the last layer, (B, 128), for features (B, F)."""
        return leaky_relu(self.hidden(self.encoder(x)))

    def __call__(self, x: mx.array) -> mx.array:
        return self.out(self.features(x))


class FeatureScaler(nn.Module):
    """Centring of a frozen encoder's features, and division by one scale: (B, F) -> (B, F).

    `clustering.prepare` computes the mean and the scale before training. Gradients do not train
    them.
    """

    def __init__(self, feature_dims: int):
        super().__init__()
        self.mean = mx.zeros((feature_dims,))
        self.scale = mx.array(1.0)
        self.freeze(keys=["mean", "scale"], recurse=False)

    def __call__(self, features: mx.array) -> mx.array:
        return (features - self.mean) / self.scale


class ConvDecoder(nn.Module):
    """A dense layer to the coarsest grid, then nearest-neighbour upsampling convolutions."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        filters = stage_filters(config)[::-1]
        self._grid = (*coarsest_grid(config, config.layers), filters[0])
        self.dense = Dense(config.latent_dims, math.prod(self._grid))
        self.stages = [
            UpsampleConv2d(before, after) for before, after in pairwise([*filters, config.channels])
        ]
        self._top, self._left = (padding(side, config.layers)[0] for side in config.image_size)
        self._size = config.image_size

    def __call__(self, z: mx.array) -> mx.array:
        return over_batch(self._images, z)

    def _images(self, z: mx.array) -> mx.array:
        x = leaky_relu(self.dense(z)).reshape(-1, *self._grid)
        for stage in self.stages[:-1]:
            x = activated(stage, x)
        x = self.stages[-1](x)
        height, width = self._size
        return x[:, self._top : self._top + height, self._left : self._left + width]


class MLPDecoder(nn.Module):
    """Dense layers of `hidden_dims`, then a dense layer to all pixels."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        sizes = [config.latent_dims] + [config.hidden_dims] * config.layers
        self.layers = dense_layers(sizes)
        self.out = Dense(config.hidden_dims, math.prod(config.image_shape))
        self._shape = config.image_shape

    def __call__(self, z: mx.array) -> mx.array:
        return over_batch(self._images, z)

    def _images(self, z: mx.array) -> mx.array:
        for layer in self.layers:
            z = leaky_relu(layer(z))
        return self.out(z).reshape(-1, *self._shape)


def dense_layers(sizes: list[int]) -> list[Dense]:
    """Return a dense layer between each two consecutive sizes."""
    return [Dense(before, after) for before, after in pairwise(sizes)]
