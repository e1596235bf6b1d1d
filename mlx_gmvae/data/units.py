"""What an estimator is given and what the networks see of it, there and back."""

import math
from dataclasses import dataclass

import numpy as np
from sklearn.preprocessing import StandardScaler

from ..errors import InputError
from .images import as_uint8_images

CENTRE, UNIT = 0.5, 0.1  # of a table's columns inside: five standard deviations fit into [0, 1]


@dataclass(frozen=True)
class ImageUnits:
    """Images, or flat rows of them: (n, *shape) outside, uint8 (n, *row_shape) inside."""

    shape: tuple[int, ...]
    row_shape: tuple[int, ...]  # (H, W, C)
    log_volume = 0.0

    @classmethod
    def of_rows(cls, num_features: int, image_shape: tuple[int, ...]) -> "ImageUnits":
        """Flat rows of (H, W) or (H, W, C). Raises InputError if they have other sizes."""
        row_shape = (*image_shape, 1) if len(image_shape) == 2 else tuple(image_shape)
        if math.prod(row_shape) != num_features:
            raise InputError(f"rows of {num_features} numbers are not images of {row_shape}")
        return cls((num_features,), row_shape)

    def inside(self, rows: np.ndarray) -> np.ndarray:
        return as_uint8_images(rows.reshape(len(rows), *self.row_shape), "X")

    def outside(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), *self.shape)


class TableUnits:
    """Rows of a table: (n, F) in their own units outside, standardised (n, 1, F, 1) inside."""

    def __init__(self, rows: np.ndarray):
        self.scaler = StandardScaler().fit(rows)
        self.row_shape = rows.shape[1:]

    @property
    def log_volume(self) -> float:
        """What turns a log density inside into one of the table's own units, nats."""
        return float(np.log(UNIT / self.scaler.scale_).sum())

    def inside(self, rows: np.ndarray) -> np.ndarray:
        standard = CENTRE + UNIT * self.scaler.transform(rows)
        return standard.astype(np.float32)[:, None, :, None]

    def outside(self, images: np.ndarray) -> np.ndarray:
        flat = images.reshape(len(images), -1)
        return self.scaler.inverse_transform((flat - CENTRE) / UNIT)
