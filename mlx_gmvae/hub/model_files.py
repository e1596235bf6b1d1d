"""Model files by name: a local file, a pretrained model, or a repository on the Hub."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError, did_you_mean
from .download import downloaded, to_stderr
from .pretrained import PRETRAINED, find_pretrained
from .repository import INSTALL, NoRepository, Repository, Unreachable, named, package

SAFETENSORS, NPZ = "model.safetensors", "model.npz"  # the first is preferred
SUFFIXES = (".npz", ".safetensors")


class ModelSource(NamedTuple):
    """A model file, and a name of it that holds on other machines too."""

    path: Path
    name: str


def find_model(name: str | Path, say: Callable[[str], None] = to_stderr) -> ModelSource:
    """Return the file of a model, downloaded if it is not in the cache.

    `name` is a file, the name of a pretrained model, or ORG/NAME or ORG/NAME@REVISION on the Hub.
    A file or folder of that name has priority. Before a download, `say` is called with a line that
    tells its size. Raises InputError, but not for a name of a file that does not exist.
    """
    path, text = Path(name), str(name)
    repository = named(text)
    if os.path.lexists(path) or path.suffix in SUFFIXES:
        return ModelSource(path, path.name)
    if text in PRETRAINED:
        return ModelSource(find_pretrained(text, say), text)
    if repository is not None:
        try:
            return on_hub(*repository, say)
        except (NoRepository, Unreachable) as error:
            raise InputError(f"there is no file {name}; {error}") from None
    if os.sep not in text and (meant := did_you_mean(text, PRETRAINED)):
        raise InputError(f"there is no file {name}{meant}")
    return ModelSource(path, path.name)


def on_hub(repository: str, revision: str | None, say: Callable[[str], None]) -> ModelSource:
    """Return the model file of a repository. Raises InputError."""
    needed = (
        f"there is no file {repository}; a model of that name on the Hugging Face Hub needs the "
        f"package huggingface_hub: {INSTALL}"
    )
    repo = Repository(package(needed), repository, revision, "give a model file")
    path = downloaded(repo, (SAFETENSORS, NPZ), say)
    if path is None:
        raise InputError(
            f"{repo.place} has neither {SAFETENSORS} nor {NPZ}; choose a repository of a model "
            "that train.py --push_to_hub has written"
        )
    return ModelSource(path, f"{repository}@{path.parent.name}")  # .../snapshots/COMMIT/FILE
