"""Manual curation of clusters: names, merges and images moved to another cluster.

A curation is a JSON file that the explorer downloads:

    {"curation": 1, "clusters": 10, "names": {"3": "sevens"}, "merged": [[1, 4]],
     "moved": [{"image": "IMG_0012.png", "crc32": 3421780262, "to": 3},
               {"image": "IMG_0099.png", "to": null}]}

Cluster numbers are those of the model. A merged cluster keeps the lowest number of its parts, and
an image that is moved to null belongs to no cluster. The checksum of the pixels that the model sees
distinguishes images of the same name in different datasets; it is optional.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError

FORMAT = 1
MOST_BYTES = 64 << 20
LONGEST_NAME, LONGEST_NUMBER = 80, 9  # characters
NONE = "none"  # the name of the group of images that belong to no cluster


class Group(NamedTuple):
    """A cluster after curation: its number, its name (or ""), and the model's clusters in it.

    The group of images that belong to no cluster has no number and no members.
    """

    number: int | None
    name: str
    members: tuple[int, ...]


@dataclass(frozen=True)
class Curation:
    """Names of clusters, groups of merged clusters, and the new cluster of each moved image.

    `checksums` holds the known checksums of moved images.
    """

    num_clusters: int
    names: dict[int, str] = field(default_factory=dict)
    merged: tuple[tuple[int, ...], ...] = ()
    moved: dict[str, int | None] = field(default_factory=dict)
    checksums: dict[str, int] = field(default_factory=dict)

    def groups(self, with_none: bool = False) -> tuple[Group, ...]:
        """Return the clusters after curation by number, and `with_none` the group without one."""
        lowest = {cluster: cluster for cluster in range(self.num_clusters)}
        for parts in self.merged:
            lowest |= dict.fromkeys(parts, min(parts))
        groups = []
        for number in sorted(set(lowest.values())):
            members = tuple(cluster for cluster, first in lowest.items() if first == number)
            named = [self.names[member] for member in members if member in self.names]
            groups.append(Group(number, named[0] if named else "", members))
        if with_none:
            groups.append(Group(None, NONE, ()))
        return tuple(groups)

    def moves(
        self, names: Sequence[str], checksum_of: Callable[[int], int]
    ) -> dict[int, int | None]:
        """Return the new cluster (or None) of each row of a dataset that is a moved image."""
        return {
            row: self.moved[name]
            for row, name in enumerate(names)
            if name in self.moved
            and (name not in self.checksums or self.checksums[name] == checksum_of(row))
        }

    def applied(
        self, responsibilities: np.ndarray, moves: Mapping[int, int | None]
    ) -> tuple[np.ndarray, tuple[Group, ...]]:
        """Apply the curation to responsibilities (N, K); return them (N, groups) and the groups.

        Responsibilities of merged clusters are added. A moved row has 1 for its new group.
        """
        groups = self.groups(with_none=None in moves.values())
        found = np.zeros((len(responsibilities), len(groups)), responsibilities.dtype)
        for column, group in enumerate(groups):
            found[:, column] = responsibilities[:, list(group.members)].sum(axis=1)
        column_of = {
            member: column for column, each in enumerate(groups) for member in each.members
        }
        for row, to in moves.items():
            found[row] = 0
            found[row, len(groups) - 1 if to is None else column_of[to]] = 1
        return found, groups

    def to_json(self) -> dict[str, Any]:
        """Return the content of a file for `read`."""
        moved: list[dict[str, Any]] = [
            {"image": image}
            | ({"crc32": self.checksums[image]} if image in self.checksums else {})
            | {"to": to}
            for image, to in self.moved.items()
        ]
        return {
            "curation": FORMAT,
            "clusters": self.num_clusters,
            "names": {str(cluster): name for cluster, name in self.names.items()},
            "merged": [list(parts) for parts in self.merged],
            "moved": moved,
        }


def read(path: Path, num_clusters: int) -> Curation:
    """Read a curation of a model with `num_clusters` clusters. Raises InputError if invalid."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} is not a curation: it is larger than {MOST_BYTES >> 20} MB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):  # not text, not JSON, or nested too deeply
        raise InputError(
            f"{path} is not a curation; the explorer's Download button writes one"
        ) from None
    return from_json(content, num_clusters, str(path))


def from_json(content: Any, num_clusters: int, where: str) -> Curation:
    """Check and convert the content of a curation; `where` names it in an InputError."""
    if not isinstance(content, dict) or content.get("curation") != FORMAT:
        raise InputError(f"{where} is not a curation; the explorer's Download button writes one")
    if content.get("clusters") != num_clusters:
        raise InputError(
            f"{where} is for {content.get('clusters')!r} clusters, but the model has {num_clusters}"
        )

    def cluster(value: Any) -> int:
        is_text = isinstance(value, str) and value.isdecimal() and len(value) <= LONGEST_NUMBER
        number = int(value) if is_text else value
        if (
            isinstance(number, bool)
            or not isinstance(number, int)
            or number not in range(num_clusters)
        ):
            raise InputError(f"{where} has cluster {value!r}; clusters are 0 to {num_clusters - 1}")
        return number

    def entries(name: str, kind: type) -> Any:
        value = content.get(name, kind())
        if not isinstance(value, kind):
            raise InputError(f"{where}: {name} must be {'a list' if kind is list else 'an object'}")
        return value

    names = {}
    for key, name in entries("names", dict).items():
        if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME:
            raise InputError(
                f"{where}: the name of cluster {key} must be a string of at most {LONGEST_NAME} "
                "characters"
            )
        letters = (letter if letter.isprintable() else " " for letter in name)
        names[cluster(key)] = " ".join("".join(letters).split()) or f"cluster {key}"
    merged = []
    for parts in entries("merged", list):
        together = sorted(set(map(cluster, parts))) if isinstance(parts, list) else []
        if len(together) < 2:
            raise InputError(f"{where}: merged must contain lists of two clusters or more")
        merged.append(tuple(together))
    if sum(map(len, merged)) != len({each for parts in merged for each in parts}):
        raise InputError(f"{where}: a cluster can be merged only once")
    moved: dict[str, int | None] = {}
    checksums: dict[str, int] = {}
    for each in entries("moved", list):
        if not isinstance(each, dict) or not isinstance(each.get("image"), str):
            raise InputError(f"{where}: moved must contain objects with image and to")
        to = each.get("to")
        moved[each["image"]] = None if to is None else cluster(to)
        if (checksum := each.get("crc32")) is not None:
            if isinstance(checksum, bool) or not isinstance(checksum, int):
                raise InputError(f"{where}: the crc32 of {each['image']!r} must be a number")
            checksums[each["image"]] = checksum
    return Curation(num_clusters, names, tuple(merged), moved, checksums)
