"""Where images come from and how they are fitted: what the files of a run say of them."""

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
    """A dataset by name or by path, as it was typed and as an absolute one; and what `fit` did.

    `classes` are those that were kept, or None for all; `labels` whether any were read; `bits` how
    many of 16 bits a channel were used, if there were so many; `encoder` which frozen encoder
    saw the images, as its `EncoderId` says, if one did.
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
        """What was given on a command line."""
        path = None if dataset in NAMES else os.path.realpath(expanded(dataset))
        return cls(dataset, path, classes, fit or "crop", labels, bits)

    @classmethod
    def from_dict(cls, values: dict[str, Any], file: str | Path) -> "DatasetSpec":
        """What `file` says. Raises InputError if it does not say it.

        Files of the first version know of no other way to fit images than to stretch them. Those of
        the second read labels wherever there were any, and image files by all of their 16 bits.
        """
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
            raise InputError(f"{file} does not say what it was trained on; give --dataset")
        return replace(source, path=source.path and os.path.expanduser(source.path))

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of JSON types; `from_dict` inverts it."""
        values = asdict(self)
        if self.encoder is None:
            del values["encoder"]
        return values

    def to_share(self) -> dict[str, Any]:
        """What a model's file says, which others may get: the user's home folder is ~ in paths."""
        paths = {"dataset": self.dataset, "path": self.path}
        return self.to_dict() | {k: v and without_home(v) for k, v in paths.items()}

    def is_named_by(self, dataset: str) -> bool:
        """Whether `dataset`, typed anywhere, names this source."""
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
        """The images, as `load_dataset` reads them. Raises InputError."""
        where = self.dataset
        if self.path and Path(self.path).exists():  # it may have been typed in another folder
            where = self.path
        return load_dataset(
            where, data_dir, image_size, self.classes, self.fit, channels, least, self.labels,
            self.bits,
        )  # fmt: skip

    def is_gone(self) -> bool:
        """Whether neither the absolute path nor the typed one leads anywhere."""
        return self.path is not None and not any(
            expanded(place).exists() for place in (self.path, self.dataset)
        )
