"""A pretrained encoder: which one it is, what it does with an image, and its network."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map

from ..device.backend import cores, on_gpu
from ..device.parallel import over_batch
from ..errors import InputError
from ..system.cache import without_home
from .architectures import ARCHITECTURES, describe, model_type_of
from .find import find_files
from .model_folder import Files, read_json, sha256_of
from .preprocess import Preprocessing, parse
from .vit import VisionTransformer
from .weights import find_tensors, load_network

GPU_BATCH, CPU_BATCH = 64, 2  # images; on the CPU for each stream
HALF_TOLERANCE = 0.01  # by which features may differ in half precision, relative to their length


@dataclass(frozen=True)
class EncoderId:
    """Which encoder made some features: the folder or repository, its commit, its weights.

    >>> EncoderId.from_dict(EncoderId("facebook/dinov2-small", "ed25f3a", "00" * 32).to_dict())
    EncoderId(facebook/dinov2-small@ed25f3a)
    """

    repository: str
    revision: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}" if self.revision else self.repository

    def __repr__(self) -> str:
        return f"EncoderId({self})"

    def to_dict(self) -> dict[str, str]:
        """As it is written in files."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Any) -> "EncoderId":
        """From what `to_dict` gave. Raises InputError."""
        names = ("repository", "revision", "sha256")
        if not isinstance(content, dict) or any(
            not isinstance(content.get(name), str) for name in names
        ):
            raise InputError(f"an encoder is described by {', '.join(names)}, not by {content!r}")
        return cls(*(content[name] for name in names))


class Encoder:
    """A frozen network with its preprocessing: `pixels` of an image, then features of a batch."""

    def __init__(self, id: EncoderId, preprocessing: Preprocessing, network: VisionTransformer):
        self.id = id
        self.preprocessing = preprocessing
        self.network = network
        self.num_features = network.config.num_features
        self._half: VisionTransformer | None = None
        self._is_half_tried = False

    def __repr__(self) -> str:
        height, width = self.preprocessing.image_size
        return f"Encoder({self.id}: images of {height} x {width}, {self.num_features} features)"

    @property
    def batch_size(self) -> int:
        """How many images to give at once."""
        return GPU_BATCH if on_gpu() else CPU_BATCH * cores()

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """Features (B, F), float32, of what `preprocessing.pixels` made of B images."""
        images = self.normalised(pixels)
        network = self._network_for(images)
        features = over_batch(network, images, smallest=1)
        return np.asarray(features.astype(mx.float32))

    def normalised(self, pixels: np.ndarray) -> mx.array:
        """Pixels (B, H, W, 3) as the network takes them."""
        scale, shift = mx.array(self.preprocessing.scale), mx.array(self.preprocessing.shift)
        return mx.array(pixels).astype(mx.float32) * scale + shift

    def _network_for(self, images: mx.array) -> Callable[[mx.array], mx.array]:
        """In half precision on a GPU, if its features of these images, the first, are the same."""
        if not on_gpu():
            return self.network
        if not self._is_half_tried:
            self._is_half_tried = True
            half = half_precision(self.network)
            if differences(self.network(images), half(images.astype(mx.float16))) < HALF_TOLERANCE:
                self._half = half
        half_network = self._half
        if half_network is None:
            return self.network
        return lambda images: half_network(images.astype(mx.float16))


def load_encoder(name: str | Path, say: Callable[[str], None] | None = None) -> Encoder:
    """An encoder by the name of a folder, ORG/NAME[@REVISION] on the Hub, or a short name.

    `say` is told beforehand how much is downloaded, if anything is. Raises InputError.
    """
    return read_encoder(find_files(str(name), say))


def load_same(wanted: EncoderId, say: Callable[[str], None] | None = None) -> Encoder:
    """The encoder that made some features. Raises InputError if it is not there or another one."""
    name = f"{wanted.repository}@{wanted.revision}" if wanted.revision else wanted.repository
    encoder = load_encoder(name, say)
    require_same(encoder.id, wanted)
    return encoder


def require_same(found: EncoderId, wanted: EncoderId) -> None:
    """Raise InputError unless two encoders have the same weights, wherever they lie."""
    if found.sha256 != wanted.sha256:
        raise InputError(
            f"{found} has other weights (SHA-256 {found.sha256[:12]}) than the encoder "
            f"{wanted} that was trained with ({wanted.sha256[:12]}); give that one"
        )


def read_encoder(files: Files) -> Encoder:
    """An encoder from its files. Raises InputError, before anything large is allocated."""
    content, path = read_json(files.config), str(files.config)
    model_type = model_type_of(content, path)
    usual = ARCHITECTURES[model_type].processor
    preprocessing = parse(read_json(files.processor), str(files.processor), usual)
    tensors = find_tensors(files.weights, model_type)
    described = describe(content, path, "projection.weight" in tensors)
    smallest = min(preprocessing.image_size)
    if smallest < described.config.patch_size:
        raise InputError(
            f"{files.processor} makes images of {smallest} pixels, smaller than a patch of "
            f"{described.config.patch_size}; download it again"
        )
    network = load_network(described, tensors)
    network.freeze()
    place = without_home(files.repository)  # which is written into models, and may be passed on
    identity = EncoderId(place, files.revision, sha256_of(files.weights))
    return Encoder(identity, preprocessing, network)


def half_precision(network: VisionTransformer) -> VisionTransformer:
    """A copy of a network with parameters of 16 bits."""
    half = VisionTransformer(network.config)
    half.update(tree_map(lambda array: array.astype(mx.float16), network.parameters()))
    return half


def differences(features: mx.array, others: mx.array) -> float:
    """The largest length of a difference between rows, relative to the row's length."""
    lengths = mx.linalg.norm(features, axis=-1)
    apart = mx.linalg.norm(features - others.astype(mx.float32), axis=-1)
    largest = np.asarray(apart / mx.maximum(lengths, 1e-12)).max()
    return float(largest) if np.isfinite(largest) else math.inf
