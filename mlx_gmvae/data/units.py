"""Conversion between the inputs of an estimator and those of the networks."""

import math
from typing import Any

import numpy as np

from ..config.record import is_whole
from ..errors import InputError
from .images import as_uint8_images

CENTRE, UNIT = 0.5, 0.1  # mean and std of standardised columns: 5 stds fit into [0, 1]


class ImageUnits:
    """Conversion of images, or flat rows of pixels, to uint8 (n, H, W, 1 or 3) and back.

    `shape` is the shape of one given image: (H, W), (H, W, C), or flat for rows with an
    `image_shape`. Alpha channels are not restored. Raises InputError if rows have another size.
    """

    log_volume = 0.0

    def __init__(self, shape: tuple[int, ...], image_shape: tuple[int, ...] | None = None):
        whole = shape if image_shape is None else _sides(image_shape)
        self._given = (*whole, 1) if len(whole) == 2 else whole
        if math.prod(self._given) != math.prod(shape):
            raise InputError(
                f"X: rows of {math.prod(shape)} numbers are not images of {self._given}; "
                "give their image_shape"
            )
        height, width, channels = self._given
        self.kept = (height, width, {2: 1, 4: 3}.get(channels, channels))
        self.one = shape if len(shape) > 1 else None  # the shape of one image
        if image_shape is not None:
            self._outside: tuple[int, ...] = (math.prod(self.kept),)
        else:
            self._outside = shape if len(shape) == 2 else self.kept

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return X as uint8 images. Raises InputError if X has images of another shape."""
        flat = X.ndim == 2
        images = as_uint8_images(X.reshape(len(X), *self._given) if flat else X, "X")
        if images.shape[1:] != self.kept:
            raise InputError(
                f"X has images of {images.shape[1:]}, but the model has images of {self.kept}"
            )
        return images

    def inverse_transform(self, images: np.ndarray) -> np.ndarray:
        """Return images in [0, 1] in the shape that was given."""
        return images.reshape(len(images), *self._outside)


class TableUnits:
    """Conversion of table rows (n, F) to standardised float32 (n, 1, F, 1) and back."""

    one = None

    def __init__(self, rows: np.ndarray):
        from sklearn.preprocessing import StandardScaler  # scripts need not load it

        self._scaler = StandardScaler().fit(rows)

    @property
    def log_volume(self) -> float:
        """Nats to add to a log density of standardised rows for one in the units of the table."""
        return float(np.log(UNIT / self._scaler.scale_).sum())

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return X as standardised rows. Raises InputError if X has images."""
        if X.ndim != 2:
            num = len(self._scaler.scale_)
            raise InputError(
                f"X has images of {X.shape[1:]}, but the model takes rows of {num} numbers"
            )
        standard = CENTRE + UNIT * self._scaler.transform(X)
        return standard.astype(np.float32)[:, None, :, None]

    def inverse_transform(self, images: np.ndarray) -> np.ndarray:
        """Return rows in the units of the table."""
        flat = images.reshape(len(images), -1)
        return self._scaler.inverse_transform((flat - CENTRE) / UNIT)


def units_of(X: np.ndarray, image_shape: Any) -> ImageUnits | TableUnits:
    """Return the conversion for an estimator that is fitted to X. Raises InputError."""
    if X.ndim == 2:
        return TableUnits(X) if image_shape is None else ImageUnits(X.shape[1:], image_shape)
    if image_shape is not None:
        raise InputError("image_shape is for flat rows, but X has images; leave it out")
    return ImageUnits(X.shape[1:])


def _sides(image_shape: Any) -> tuple[int, ...]:
    """Return (H, W) or (H, W, C) as a tuple. Raises InputError for anything else."""
    given = image_shape.tolist() if hasattr(image_shape, "tolist") else image_shape
    is_shape = isinstance(given, (list, tuple)) and len(given) in (2, 3)
    if not is_shape or not all(is_whole(side) and side > 0 for side in given):
        raise InputError(
            f"image_shape is {image_shape!r}; it must be (H, W) or (H, W, C), whole numbers above 0"
        )
    return tuple(int(side) for side in given)
