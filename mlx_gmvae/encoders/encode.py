"""Features of images from a pretrained encoder, computed once and cached on disk."""

import os
import warnings
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..data.decode import in_threads, picture
from ..data.downloads import expanded
from ..data.image_folder import list_images
from ..data.images import Featured, as_uint8_images
from ..data.splits import Dataset
from ..errors import InputError
from ..system.cache import cache_dir
from .encoder import Encoder, EncoderId, load_encoder, require_same
from .kept import KeptFeatures

FOLDER = "features"  # in data_dir
DRAFT_FACTOR = 2  # a JPEG is decoded at no less than this multiple of the encoder's image size
SHOWN = 3  # files in a message

Paths = Sequence[str | os.PathLike[str]]


class ImageSource(NamedTuple):
    """A listing of images: files, or the rows of a uint8 array (N, H, W, C)."""

    name: str
    listing: Any  # JSON-serialisable; it changes if the images change
    files: Sequence[str] = ()
    images: np.ndarray | None = None
    bits: int = 16  # used bits, in files with 16 bits per channel

    @property
    def num(self) -> int:
        """Number of images."""
        return len(self.files) if self.images is None else len(self.images)

    def item(self, row: int) -> str | int:
        """Return the path of a file, or the row itself for an array."""
        return self.files[row] if self.images is None else row

    def image(self, item: str | int, least: int) -> Image.Image:
        """Return an image in RGB, at `least` pixels or more if it has as many. Raises anything."""
        if isinstance(item, str) or self.images is None:
            return picture(str(item), "RGB", least, self.bits)
        pixels = self.images[item]
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")


def encode_images(
    images: np.ndarray | str | os.PathLike[str] | Paths,
    encoder: Encoder | str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
) -> np.ndarray:
    """Return the features of images from a pretrained encoder.

    The encoder is a vision transformer [1]_, for example DINOv2 [2]_, CLIP or SigLIP. Features are
    computed once and cached on disk as 16-bit floats. An interrupted computation continues where it
    stopped. Rows of files that cannot be read are NaN, and a warning names the files.

    Parameters
    ----------
    images : ndarray, path, or sequence of paths
        Images (N, H, W) or (N, H, W, C), uint8 or floats in [0, 1]; or image files; or a folder,
        whose image files are found at any depth and sorted by their relative names.
    encoder : Encoder, str or path
        A folder with config.json, preprocessor_config.json and model.safetensors, "ORG/NAME" on
        the Hugging Face Hub, or a short name such as "dinov2-small".
    data_dir : str or path, optional
        Folder for the cache of features; by default mlx_gmvae in the user's cache folder.

    Returns
    -------
    ndarray of shape (N, F)
        Features, float32.

    Raises
    ------
    InputError
        If there are no images, or the encoder cannot be loaded. It is a ValueError.

    References
    ----------
    .. [1] Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words: Transformers for Image
       Recognition at Scale", arXiv:2010.11929.
    .. [2] Oquab et al. 2023, "DINOv2: Learning Robust Visual Features without Supervision",
       arXiv:2304.07193.

    Examples
    --------
    >>> encode_images("photographs", "dinov2-small")  # doctest: +SKIP
    >>> import tempfile
    >>> images = np.zeros((3, 64, 64, 3), np.uint8)
    >>> with tempfile.TemporaryDirectory() as folder:  # with a tiny encoder, for the tests
    ...     encode_images(images, "tests/encoders/vit", folder).shape
    (3, 16)
    """
    source = _of_files(images) if not isinstance(images, np.ndarray) else _of_array(images)
    if not isinstance(encoder, Encoder):
        encoder = load_encoder(os.fspath(encoder))
    features, skipped = _features(source, np.arange(source.num), encoder, data_dir)
    if skipped:
        warnings.warn(_cannot_be_read(source, skipped), stacklevel=2)
    return features


def encoded_images(
    images: np.ndarray, name: str, wanted: EncoderId | None = None
) -> tuple[Featured, EncoderId]:
    """Return images with the features of an encoder, and the identity of the encoder.

    Raises InputError if it has other weights than the encoder `wanted`.
    """
    encoder = load_encoder(name)
    if wanted is not None:
        require_same(encoder.id, wanted)
    return Featured(images, encode_images(images, encoder)), encoder.id


def features_of(
    dataset: Dataset, encoder: Encoder, data_dir: str | os.PathLike[str] | None = None
) -> np.ndarray:
    """Return the features of the images of a dataset, in their order, float32 (N, F).

    If the dataset was read from files, the encoder gets the files at its own resolution, and
    training and test images share a cache; otherwise it gets the images of the dataset. Raises
    InputError if an image cannot be read.
    """
    if dataset.files:
        source = _listed(dataset.name, list(dataset.files), dataset.bits or 16)
        rows = dataset.index
    else:
        source, rows = _of_array(dataset.images), np.arange(len(dataset))
    features, skipped = _features(source, rows, encoder, data_dir)
    if skipped:
        raise InputError(f"{_cannot_be_read(source, skipped)}; repair or remove them")
    return features


def _features(
    source: ImageSource, rows: np.ndarray, encoder: Encoder, data_dir: str | os.PathLike[str] | None
) -> tuple[np.ndarray, dict[int, str]]:
    """Return the features at `rows`, and by row the reason why an image cannot be read."""
    place = (expanded(os.fspath(data_dir)) if data_dir else cache_dir()) / FOLDER
    kept = KeptFeatures(
        place, source.name, _made_by(encoder), source.listing, source.num, encoder.num_features
    )
    found = kept.rows(rows)
    missing = rows[np.isnan(found).any(axis=1)]
    if not len(missing):
        return found, {}
    skipped: dict[int, str] = {}
    array = kept.open()
    for batch in _read(source, np.unique(missing), encoder, skipped):
        numbers = [row for row, _ in batch]
        with np.errstate(over="ignore"):  # infinities are reported below
            half = encoder.features(np.stack([pixels for _, pixels in batch])).astype(np.float16)
        if not np.isfinite(half).all():
            raise InputError(f"{encoder.id} gives NaN or huge features; download it again")
        array[numbers] = half
    return kept.rows(rows), skipped


def _made_by(encoder: Encoder) -> str:
    """Describe all that features depend on other than the images."""
    return f"{encoder.id.sha256} {encoder.network.config} {encoder.preprocessing} {DRAFT_FACTOR}"


def _read(
    source: ImageSource, rows: np.ndarray, encoder: Encoder, skipped: dict[int, str]
) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Yield batches of rows and their pixels; put those that cannot be read into `skipped`."""
    prepare, least = encoder.preprocessing.pixels, DRAFT_FACTOR * encoder.preprocessing.least_size

    def pixels(item: str | int) -> np.ndarray:
        return prepare(source.image(item, least))

    def readable() -> Iterator[tuple[int, np.ndarray]]:
        found = in_threads(pixels, map(source.item, rows.tolist()), len(rows), "encoding images")
        for row, result in zip(rows.tolist(), found, strict=True):
            if isinstance(result, str):
                skipped[row] = result
            else:
                yield row, result

    images = readable()
    while batch := list(islice(images, encoder.batch_size)):
        yield batch


def _of_array(images: np.ndarray) -> ImageSource:
    images = as_uint8_images(images, "images")
    digest = sha256(np.ascontiguousarray(images).data).hexdigest()
    return ImageSource(f"array {digest}", list(images.shape), images=images)


def _of_files(images: str | os.PathLike[str] | Paths) -> ImageSource:
    """Return the given files, or those in a folder. Raises InputError if there are none."""
    paths = [images] if isinstance(images, str | os.PathLike) else list(images)
    files = [expanded(os.fspath(path)) for path in paths]
    if len(paths) == 1 and files[0].is_dir():
        folder = files[0].resolve()
        names = [name for name, _, _ in list_images(folder)[0]]
        source = _listed(str(folder), [str(folder / name) for name in names])
    else:
        source = _listed("files", [os.path.abspath(file) for file in files])
    if not source.num:
        raise InputError(f"there are no images in {images}" if files else "there are no images")
    return source


def _listed(name: str, files: list[str], bits: int = 16) -> ImageSource:
    """Return files with their sizes and modification times, which are 0 for a missing file."""

    def status(file: str) -> tuple[str, int, int]:
        try:
            found = os.stat(file)
        except OSError:
            return file, 0, 0
        return file, found.st_size, found.st_mtime_ns

    return ImageSource(name, [bits, *map(status, files)], files, bits=bits)


def _cannot_be_read(source: ImageSource, skipped: dict[int, str]) -> str:
    first = [f"{source.item(row)} ({why})" for row, why in list(skipped.items())[:SHOWN]]
    more = ", ..." * (len(skipped) > SHOWN)
    return f"{len(skipped):,} of {source.num:,} images cannot be read: {', '.join(first)}{more}"
