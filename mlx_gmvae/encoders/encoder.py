"""Pretrained encoder: its identity, preprocessing and network."""

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
from ..hub.download import sha256_of
from ..system.cache import without_home
from .architectures import ARCHITECTURES, describe, model_type_of
from .find import find_files
from .model_folder import Files, read_json
from .preprocess import Preprocessing, parse
from .vit import VisionTransformer
from .weights import find_tensors, load_network

GPU_BATCH, CPU_BATCH = 64, 2  # images; on the CPU per stream
HALF_TOLERANCE = 0.01  # largest difference of features in half precision, relative to their norm


@dataclass(frozen=True)
class EncoderId:
    """Identity of an encoder: its folder or repository, the commit, and a hash of the weights.

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
        """Return the identity as it is saved in files."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Any) -> "EncoderId":
        """Create an identity from a dict of `to_dict`. Raises InputError if it is invalid."""
        names = ("repository", "revision", "sha256")
        if not isinstance(content, dict) or any(
            not isinstance(content.get(name), str) for name in names
        ):
            raise InputError(f"an encoder is described by {', '.join(names)}, not by {content!r}")
        return cls(*(content[name] for name in names))


class Encoder:
    """A frozen network with its preprocessing.

    `preprocessing.pixels` prepares each image, and `features` encodes a batch of them.
    """

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
        """Number of images in a batch."""
        return GPU_BATCH if on_gpu() else CPU_BATCH * cores()

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """Return the features (B, F), float32, of B images after `preprocessing.pixels`."""
        images = self.normalised(pixels)
        network = self._network_for(images)
        features = over_batch(network, images, smallest=1)
        return np.asarray(features.astype(mx.float32))

    def normalised(self, pixels: np.ndarray) -> mx.array:
        """Return the pixels (B, H, W, 3), rescaled and normalised for the network."""
        scale, shift = mx.array(self.preprocessing.scale), mx.array(self.preprocessing.shift)
        return mx.array(pixels).astype(mx.float32) * scale + shift

    def _network_for(self, images: mx.array) -> Callable[[mx.array], mx.array]:
        """Return the network, on a GPU in float16 if the features of the first batch agree."""
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
    """Load an encoder from a folder, ORG/NAME[@REVISION] on the Hub, or by a short name.

    Before a download, `say` is called with a line that tells its size. Raises InputError.
    """
    return read_encoder(find_files(str(name), say))


def load_same(wanted: EncoderId, say: Callable[[str], None] | None = None) -> Encoder:
    """Load an encoder by its identity. Raises InputError if it is missing or has other weights."""
    name = f"{wanted.repository}@{wanted.revision}" if wanted.revision else wanted.repository
    encoder = load_encoder(name, say)
    require_same(encoder.id, wanted)
    return encoder


def require_same(found: EncoderId, wanted: EncoderId) -> None:
    """Raise InputError unless two encoders have the same weights, wherever they are stored."""
    if found.sha256 != wanted.sha256:
        raise InputError(
            f"{found} has other weights (SHA-256 {found.sha256[:12]}) than {wanted} "
            f"({wanted.sha256[:12]}), the encoder that the model was trained with; use that one"
        )


def read_encoder(files: Files) -> Encoder:
    """Load an encoder from its files. Invalid ones raise InputError before large allocations."""
    content, path = read_json(files.config), str(files.config)
    model_type = model_type_of(content, path)
    usual = ARCHITECTURES[model_type].processor
    preprocessing = parse(read_json(files.processor), str(files.processor), usual)
    tensors = find_tensors(files.weights, model_type)
    described = describe(content, path, "projection.weight" in tensors)
    smallest = min(preprocessing.image_size)
    if smallest < described.config.patch_size:
        raise InputError(
            f"{files.processor} resizes images to {smallest} pixels, smaller than a patch of "
            f"{described.config.patch_size}; download it again"
        )
    network = load_network(described, tensors)
    network.freeze()
    place = without_home(files.repository)  # saved in models, which may be shared
    identity = EncoderId(place, files.revision, sha256_of(files.weights))
    return Encoder(identity, preprocessing, network)


def half_precision(network: VisionTransformer) -> VisionTransformer:
    """Return a copy of a network in float16."""
    half = VisionTransformer(network.config)
    half.update(tree_map(lambda array: array.astype(mx.float16), network.parameters()))
    return half


def differences(features: mx.array, others: mx.array) -> float:
    """Return the largest norm of a difference between rows, relative to the norm of the row."""
    lengths = mx.linalg.norm(features, axis=-1)
    apart = mx.linalg.norm(features - others.astype(mx.float32), axis=-1)
    largest = np.asarray(apart / mx.maximum(lengths, 1e-12)).max()
    return float(largest) if np.isfinite(largest) else math.inf
