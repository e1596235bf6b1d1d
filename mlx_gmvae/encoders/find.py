"""Encoder names: a folder, a repository on the Hugging Face Hub, or a short name of one."""

from collections.abc import Callable

from ..data.downloads import expanded
from ..errors import InputError
from ..hub.download import to_stderr
from ..hub.repository import named
from .hub_files import on_hub
from .model_folder import CONFIG, Files, in_folder

SHORT_NAMES = {
    "dinov2-small": "facebook/dinov2-small",
    "dinov2-base": "facebook/dinov2-base",
    "clip-vit-large": "openai/clip-vit-large-patch14",
}


def names_encoder(name: str) -> bool:
    """Return whether a name is that of an encoder, and not of a file of features.

    >>> names_encoder("dinov2-small"), names_encoder("facebook/dinov2-small@main")
    (True, True)
    >>> names_encoder("birds.npy"), names_encoder("features/birds.npz")
    (False, False)
    """
    path = expanded(name)
    if name in SHORT_NAMES or path.is_dir():
        return True
    return not path.exists() and path.suffix not in (".npy", ".npz") and bool(named(name))


def find_files(name: str, say: Callable[[str], None] | None = None) -> Files:
    """Return the files of an encoder, downloaded if they are not in the cache.

    `name` is a folder, ORG/NAME or ORG/NAME@REVISION on the Hub, or one of `SHORT_NAMES`. Before a
    download, `say` is called with a line that tells its size; by default it is printed to stderr.
    Raises InputError.
    """
    folder = expanded(name)
    if name not in SHORT_NAMES and folder.is_dir():
        return in_folder(folder.resolve())
    if name not in SHORT_NAMES and (not named(name) or folder.exists()):
        raise InputError(
            f"there is no encoder {name}: give a folder with {CONFIG}, ORG/NAME on the Hugging "
            f"Face Hub, or one of {', '.join(SHORT_NAMES)}"
        )
    repository, _, revision = SHORT_NAMES.get(name, name).partition("@")
    return on_hub(repository, revision or None, say or to_stderr)
