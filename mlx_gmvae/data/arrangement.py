"""Splits and classes of image files, read from the names of their folders."""

import re
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from .splits import held_out_rows

TRAIN = {"train", "training"}
TEST = {"test", "testing", "val", "valid", "validate", "validation", "dev", "eval", "evaluation"}
UNLABELLED = {"pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled"}
KINDS = {word: kind for kind in (TRAIN, TEST, UNLABELLED) for word in kind}
FILLING = {"set", "split", "data", "dataset", "image", "images", "img", "imgs"}  # as in test_images


class Arrangement(NamedTuple):
    """Splits and classes of N files, as the names of their folders give them."""

    is_test: np.ndarray  # (N,) bool
    labels: np.ndarray | None  # (N,) int
    class_names: tuple[str, ...]
    is_divided: bool  # there is no test folder: a fifth is held out


class Split(NamedTuple):
    """The split that a folder name stands for: a word of KINDS, and the other words of the name."""

    word: str
    others: tuple[str, ...]

    @classmethod
    def named(cls, folder: str) -> "Split | None":
        """Return the split that a folder name stands for, as with seg_train, TEST or val2017.

        >>> Split.named("seg_train"), Split.named("Test-Images"), Split.named("cats")
        (Split(word='train', others=('seg',)), Split(word='test', others=()), None)
        """
        words = [_without_set(word) for word in re.findall("[a-z]+", folder.lower())]
        known = [word for word in words if word in KINDS]
        if len(known) != 1:
            return None
        return cls(known[0], tuple(w for w in words if w != known[0] and w not in FILLING))

    @property
    def kind(self) -> set[str]:
        return KINDS[self.word]


def _without_set(word: str) -> str:
    """Remove "set" from words such as trainset and testset."""
    return word.removesuffix("set") if word.removesuffix("set") in KINDS else word


def arrange(names: list[str]) -> Arrangement:
    """Return the splits and classes of files from their relative names.

    Raises InputError if some files lie outside the folders of the splits.
    """
    parts = [name.split("/")[:-1] for name in names]
    splits, parts = _find_splits(parts)
    is_divided = not splits
    if splits:
        is_test = np.array([splits[folders[0]].kind is TEST for folders in parts])
        parts = _below(splits, parts)
    else:
        is_test = np.zeros(len(names), bool)
        if len(names) > 1:
            # Depends on the names alone: neither --classes nor a damaged file changes the split.
            is_test[held_out_rows(len(names))[1]] = True
    if not all(parts) or len({folders[0] for folders in parts}) < 2:
        return Arrangement(is_test, None, (), is_divided)
    class_names, labels = np.unique([folders[0] for folders in parts], return_inverse=True)
    return Arrangement(is_test, labels, tuple(map(str, class_names)), is_divided)


def _find_splits(parts: list[list[str]]) -> tuple[dict[str, Split], list[list[str]]]:
    """Return the folders that are splits, and the folders of each name from there on.

    The splits may lie in an enclosing folder, as in an extracted archive.
    """
    inner = parts
    while True:
        first = {folders[0] if folders else "" for folders in inner}
        splits = _splits_among(first)
        if splits:
            return splits, inner
        if len(first) > 1 or "" in first:
            return {}, parts
        inner = [folders[1:] for folders in inner]


def _splits_among(folders: set[str]) -> dict[str, Split]:
    """Return the `folders` that are for training or testing; "" stands for files outside them.

    Raises InputError if there are other folders too, or two test folders.
    """
    named = {name: split for name in folders if (split := Split.named(name)) is not None}
    besides = {split.others for split in named.values() if split.kind is TRAIN}
    named = {name: split for name, split in named.items() if {split.others} == besides}
    splits = {name: split for name, split in named.items() if split.kind is not UNLABELLED}
    tests = [name for name, split in splits.items() if split.kind is TEST]
    others = sorted(folders - set(splits) - {""}, key=str.lower)
    if not splits or (not tests and (set(others) - set(named) or folders == set(splits))):
        return {}
    shown = ", ".join(sorted(splits, key=str.lower))
    if "" in folders:
        raise InputError(
            f"some images are not in the folder of a split ({shown}); move them into one"
        )
    if others:
        raise InputError(
            f"there are folders of splits ({shown}) and other folders ({', '.join(others)}); "
            "move the other folders out"
        )
    if len(tests) > 1:
        raise InputError(
            f"there are folders {shown}, but only two splits are used; keep the training folder "
            "and one other"
        )
    return splits


def _below(splits: dict[str, Split], parts: list[list[str]]) -> list[list[str]]:
    """Return the folders below each split; a split may be nested, as in seg_train/seg_train."""
    inside: dict[str, set[str]] = {name: set() for name in splits}
    for name, *folders in parts:
        inside[name].add(folders[0] if folders else "")
    twice = set()
    for name, folders_inside in inside.items():
        again = [Split.named(folder) for folder in folders_inside]
        if len(again) == 1 and again[0] is not None and again[0].kind is splits[name].kind:
            twice.add(name)
    return [folders[2 if folders[0] in twice else 1 :] for folders in parts]
