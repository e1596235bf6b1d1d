"""Specifications of datasets, as they are stored in the files of a run."""

import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..system.cache import without_home
from .datasets import NAMES, load_dataset
from .depth import DEPTHS
from .downloads import expanded
from .fitting import FITS
from .splits import Splits


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset by name or path, and the options it was loaded with.

    Attributes
    ----------
        dataset: the name or path as it was typed.
        path: the absolute path, or None for a dataset with a name.
        classes: the classes that were kept, or None for all.
        fit: how images were brought to another size.
        labels: whether labels were read.
        bits: how many bits a channel images with 16 bits a channel use, if there are such images.
        encoder: the `EncoderId` of the frozen encoder, as a dictionary, if there is one.
    """

    dataset: str
    path: str | None = None
    classes: list[str] | None = None
    fit: str = "crop"
    labels: bool = True
    bits: int | None = None
    encoder: dict[str, str] | None = None

    @classmethod
    def typed(
        cls,
        dataset: str,
        classes: list[str] | None,
        fit: str | None,
        labels: bool = True,
        bits: int | None = None,
    ) -> "DatasetSpec":
        """Build a specification from command-line arguments."""
        path = None if dataset in NAMES else os.path.realpath(expanded(dataset))
        return cls(dataset, path, classes, fit or "crop", labels, bits)

    @classmethod
    def from_dict(cls, values: Any, file: str | Path) -> "DatasetSpec":
        """Build a specification from the contents of `file`. Raises InputError if it is invalid.

        In files of the first version images were always stretched. In those of the second, labels
        were always read where there were any, and image files used all of their 16 bits.
        """
        unnamed = InputError(f"{file} does not name its training images; give --dataset")
        if not isinstance(values, dict):
            raise unnamed
        place = str(values.get("path") or values.get("dataset"))
        bits = None if place.endswith((".npy", ".npz")) else 16
        known: dict[str, Any] = {"fit": "stretch", "labels": True, "bits": bits} | values
        known = {field.name: known.get(field.name) for field in fields(cls)}
        source = cls(**known)
        classes = source.classes or []
        listed = classes if isinstance(classes, list) else [None]
        names = [source.dataset, source.path or "", *listed]
        is_right = source.fit in FITS and type(source.labels) is bool
        is_right = is_right and source.bits in (None, *DEPTHS)
        if not all(isinstance(name, str) for name in names) or not is_right:
            raise unnamed
        return replace(source, path=source.path and os.path.expanduser(source.path))

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types; `from_dict` is the inverse."""
        values = asdict(self)
        if self.encoder is None:
            del values["encoder"]
        return values

    def to_share(self) -> dict[str, Any]:
        """Return `to_dict` for model files, which may be shared: the home folder in paths is ~."""
        paths = {"dataset": self.dataset, "path": self.path}
        return self.to_dict() | {k: v and without_home(v) for k, v in paths.items()}

    def is_named_by(self, dataset: str) -> bool:
        """Return whether `dataset`, a name or path, is this dataset."""
        if dataset in NAMES or self.path is None:
            return dataset == self.dataset
        return os.path.realpath(expanded(dataset)) == self.path

    def load(
        self,
        data_dir: str | None,
        image_size: tuple[int, int] | None = None,
        channels: int | None = None,
        least: int = 2,
    ) -> Splits:
        """Load the images with `load_dataset`. Raises InputError."""
        where = self.dataset
        if self.path and Path(self.path).exists():  # it may have been typed in another folder
            where = self.path
        return load_dataset(
            where, data_dir, image_size, self.classes, self.fit, channels, least, self.labels,
            self.bits,
        )  # fmt: skip

    def is_gone(self) -> bool:
        """Return whether neither the absolute path nor the typed one exists."""
        places = (self.path, self.dataset)
        return self.dataset not in NAMES and not any(
            expanded(place).exists() for place in places if place
        )
