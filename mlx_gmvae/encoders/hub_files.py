"""Files of encoders on the Hugging Face Hub."""

from collections.abc import Callable

from ..errors import InputError
from ..hub.download import announce, require_whole
from ..hub.repository import INSTALL, Repository, package
from .model_folder import (
    CONFIG,
    INDEX,
    PICKLES,
    PROCESSOR,
    WEIGHTS,
    Files,
    no_weights,
    shards,
)

NEEDED = (
    f"an encoder from the Hugging Face Hub needs the package huggingface_hub: {INSTALL}; "
    f"or give a folder with {CONFIG}, {PROCESSOR} and {WEIGHTS}"
)
INSTEAD = "give a folder with the encoder's files"


def on_hub(repository: str, revision: str | None, say: Callable[[str], None]) -> Files:
    """Return the files of a repository, downloaded if they are not in the cache.

    Only the needed files are downloaded. Before that, `say` is called with a line that tells their
    size. Raises InputError.
    """
    repo = Repository(package(NEEDED), repository, revision, INSTEAD)
    # Without a network a request for the size fails at once, a download after half a minute.
    is_there = repo.cached(CONFIG) or repo.newest(CONFIG) is not None
    config = repo.file(CONFIG) if is_there else None
    if config is None:
        raise InputError(f"{repo.place} has no {CONFIG}; choose a repository of an encoder")
    repo = repo._replace(revision=config.parent.name)  # .../snapshots/COMMIT/config.json
    processor = repo.file(PROCESSOR)
    if processor is None:
        raise InputError(f"{repo.place} has no {PROCESSOR}; choose another encoder")
    names = _weights(repo)
    found = [repo.newest(name) for name in names if not repo.cached(name)]
    size = sum(each.size for each in found if each)
    if size:
        announce(repo, size, say)
    weights = [path for path in map(repo.file, names) if path is not None]
    if len(weights) < len(names):
        raise InputError(f"{repo.place} lacks files listed in {INDEX}; choose another encoder")
    if size:
        for path in weights:
            require_whole(path)
    return Files(repository, str(repo.revision), config, processor, weights)


def _weights(repo: Repository) -> list[str]:
    """Return the names of the files with weights. Raises InputError if none can be read."""
    if repo.cached(WEIGHTS):
        return [WEIGHTS]
    if not repo.cached(INDEX) and repo.newest(WEIGHTS) is not None:
        return [WEIGHTS]
    index = repo.file(INDEX)
    if index is None:
        raise no_weights(repo.place, any(repo.newest(name) is not None for name in PICKLES))
    return shards(index)
