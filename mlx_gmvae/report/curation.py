"""What a person decided about clusters: their names, merges, and images that belong elsewhere.

A curation is a JSON file, as the explorer downloads it:

    {"curation": 1, "clusters": 10, "names": {"3": "sevens"}, "merged": [[1, 4]],
     "moved": [{"image": "IMG_0012.png", "crc32": 3421780262, "to": 3},
               {"image": "IMG_0099.png", "to": null}]}

Clusters are the model's own, by number. A merged cluster keeps the lowest number of its parts, and
an image that was moved to null belongs to none. A checksum, of the pixels that the model sees,
tells an image from another one of the same name in another set; it may be left out.
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
NONE = "none"  # what images that belong to no cluster are called


class Group(NamedTuple):
    """A cluster after curation: its number, its name or "", and the model's clusters in it.

    The group of images that belong to no cluster has no number and no members.
    """

    number: int | None
    name: str
    members: tuple[int, ...]


@dataclass(frozen=True)
class Curation:
    """Names by cluster, groups of clusters that are one, and by image where it belongs.

    `checksums` has those of moved images that are known.
    """

    num_clusters: int
    names: dict[int, str] = field(default_factory=dict)
    merged: tuple[tuple[int, ...], ...] = ()
    moved: dict[str, int | None] = field(default_factory=dict)
    checksums: dict[str, int] = field(default_factory=dict)

    def groups(self, with_none: bool = False) -> tuple[Group, ...]:
        """The clusters after curation, by number; at the end, if asked for, that of no cluster."""
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
        """Return where the rows of a set belong that are among the moved images."""
        return {
            row: self.moved[name]
            for row, name in enumerate(names)
            if name in self.moved
            and (name not in self.checksums or self.checksums[name] == checksum_of(row))
        }

    def applied(
        self, responsibilities: np.ndarray, moves: Mapping[int, int | None]
    ) -> tuple[np.ndarray, tuple[Group, ...]]:
        """Return what becomes of responsibilities (N, K): (N, groups), and the groups.

        Those of merged clusters are added; a row that was moved belongs where it was moved to.
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
        """The content of a file that `read` reads."""
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
    """Read a curation of a model with so many clusters. Raises InputError for any other file."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} has more than {MOST_BYTES >> 20} MB; it is no curation")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):  # no text, no JSON, or one nested too deeply
        raise InputError(
            f"{path} is no curation; the explorer's Download button writes one"
        ) from None
    return from_json(content, num_clusters, str(path))


def from_json(content: Any, num_clusters: int, where: str) -> Curation:
    """Check the content of a curation. Raises InputError, which calls it `where`."""
    if not isinstance(content, dict) or content.get("curation") != FORMAT:
        raise InputError(f"{where} is no curation; the explorer's Download button writes one")
    if content.get("clusters") != num_clusters:
        raise InputError(
            f"{where} is about {content.get('clusters')!r} clusters; the model has {num_clusters}"
        )

    def cluster(value: Any) -> int:
        is_text = isinstance(value, str) and value.isdecimal() and len(value) <= LONGEST_NUMBER
        number = int(value) if is_text else value
        if (
            isinstance(number, bool)
            or not isinstance(number, int)
            or number not in range(num_clusters)
        ):
            raise InputError(f"{where} names cluster {value!r}; there are 0 to {num_clusters - 1}")
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
                f"{where}: the name of cluster {key} must be a text of at most {LONGEST_NAME} "
                "characters"
            )
        letters = (letter if letter.isprintable() else " " for letter in name)
        names[cluster(key)] = " ".join("".join(letters).split()) or f"cluster {key}"
    merged = []
    for parts in entries("merged", list):
        together = sorted(set(map(cluster, parts))) if isinstance(parts, list) else []
        if len(together) < 2:
            raise InputError(f"{where}: merged must hold lists of two clusters or more")
        merged.append(tuple(together))
    if sum(map(len, merged)) != len({each for parts in merged for each in parts}):
        raise InputError(f"{where}: a cluster can be merged only once")
    moved: dict[str, int | None] = {}
    checksums: dict[str, int] = {}
    for each in entries("moved", list):
        if not isinstance(each, dict) or not isinstance(each.get("image"), str):
            raise InputError(f"{where}: moved must hold objects with image and to")
        to = each.get("to")
        moved[each["image"]] = None if to is None else cluster(to)
        if (checksum := each.get("crc32")) is not None:
            if isinstance(checksum, bool) or not isinstance(checksum, int):
                raise InputError(f"{where}: the crc32 of {each['image']!r} must be a number")
            checksums[each["image"]] = checksum
    return Curation(num_clusters, names, tuple(merged), moved, checksums)
