"""Splits and classes of image files, from the names of their folders."""

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
    """What the folders say about N files: which are for testing, and their classes, if any."""

    is_test: np.ndarray  # (N,) bool
    labels: np.ndarray | None  # (N,) int
    class_names: tuple[str, ...]
    is_divided: bool  # no folder is for testing: a fifth is held out


class Split(NamedTuple):
    """What the name of a folder says: a word of KINDS, and the other words beside it."""

    word: str
    others: tuple[str, ...]

    @classmethod
    def named(cls, folder: str) -> "Split | None":
        """The split that a folder is called after, such as seg_train, TEST or val2017.

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
    """trainset and testset, written in one."""
    return word.removesuffix("set") if word.removesuffix("set") in KINDS else word


def arrange(names: list[str]) -> Arrangement:
    """Splits and classes of files from their relative names.

    Raises InputError if some files lie beside the splits.
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
            # Of the names alone, so that neither --classes nor a damaged file moves the others.
            is_test[held_out_rows(len(names))[1]] = True
    if not all(parts) or len({folders[0] for folders in parts}) < 2:
        return Arrangement(is_test, None, (), is_divided)
    class_names, labels = np.unique([folders[0] for folders in parts], return_inverse=True)
    return Arrangement(is_test, labels, tuple(map(str, class_names)), is_divided)


def _find_splits(parts: list[list[str]]) -> tuple[dict[str, Split], list[list[str]]]:
    """The folders that are splits, and the parts of each name from those on.

    They may lie in a folder that holds everything, as in an archive that was extracted.
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
    """Those of `folders` that are for training or testing; "" stands for files beside them all.

    Raises InputError if there are others too, or two for testing.
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
        raise InputError(f"some images lie beside the folder {shown}, not in it; move them into it")
    if others:
        raise InputError(
            f"there are splits ({shown}) and other folders beside them ({', '.join(others)}); "
            "move the others to another place"
        )
    if len(tests) > 1:
        raise InputError(
            f"there are folders {shown}; two splits are used: keep that for training and one other"
        )
    return splits


def _below(splits: dict[str, Split], parts: list[list[str]]) -> list[list[str]]:
    """The folders below the splits, each of which may lie in itself: seg_train/seg_train."""
    inside: dict[str, set[str]] = {name: set() for name in splits}
    for name, *folders in parts:
        inside[name].add(folders[0] if folders else "")
    twice = set()
    for name, folders_inside in inside.items():
        again = [Split.named(folder) for folder in folders_inside]
        if len(again) == 1 and again[0] is not None and again[0].kind is splits[name].kind:
            twice.add(name)
    return [folders[2 if folders[0] in twice else 1 :] for folders in parts]
