"""Download of encoders from the Hugging Face Hub, through `huggingface_hub`.

Its cache, tokens, proxies and environment variables (HF_HOME, HF_TOKEN, HF_ENDPOINT,
HF_HUB_OFFLINE) apply.
"""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ..errors import InputError
from .model_folder import (
    CONFIG,
    INDEX,
    PICKLES,
    PROCESSOR,
    WEIGHTS,
    Files,
    no_weights,
    sha256_of,
    shards,
)

NETWORK_ERRORS = {"ConnectError", "ConnectionError", "TimeoutException", "Timeout", "ProxyError"}
INSTALL = "pip install 'mlx_gmvae[hub]'"


def on_hub(repository: str, revision: str | None, say: Callable[[str], None]) -> Files:
    """Return the files of a repository, downloaded if they are not in the cache.

    Only the needed files are downloaded. Before that, `say` is called with a line that tells their
    size. Raises InputError.
    """
    repo = Repository(_package(), repository, revision)
    # Without a network a request for the size fails at once, a download after half a minute.
    is_there = repo.is_cached(CONFIG) or repo.size(CONFIG) is not None
    config = repo.file(CONFIG) if is_there else None
    if config is None:
        raise InputError(f"{repo.place} has no {CONFIG}; choose a repository of an encoder")
    repo = repo._replace(revision=config.parent.name)  # .../snapshots/COMMIT/config.json
    processor = repo.file(PROCESSOR)
    if processor is None:
        raise InputError(f"{repo.place} has no {PROCESSOR}; choose another encoder")
    names = _weights(repo)
    size = sum(repo.size(name) or 0 for name in names if not repo.is_cached(name))
    if size:
        amount = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
        say(f"downloading {repository}: {amount} into {repo.hub.constants.HF_HUB_CACHE}")
    weights = [path for path in map(repo.file, names) if path is not None]
    if len(weights) < len(names):
        raise InputError(f"{repo.place} lacks files listed in {INDEX}; choose another encoder")
    if size:
        for path in weights:
            _require_whole(path)
    return Files(repository, str(repo.revision), config, processor, weights)


def _weights(repo: "Repository") -> list[str]:
    """Return the names of the files with weights. Raises InputError if none can be read."""
    if repo.is_cached(WEIGHTS):
        return [WEIGHTS]
    if not repo.is_cached(INDEX) and repo.size(WEIGHTS) is not None:
        return [WEIGHTS]
    index = repo.file(INDEX)
    if index is None:
        raise no_weights(repo.place, any(repo.size(name) is not None for name in PICKLES))
    return shards(index)


class Repository(NamedTuple):
    """A repository at a revision; None is the default revision."""

    hub: ModuleType
    name: str
    revision: str | None

    @property
    def place(self) -> str:
        """Name of the repository, with its revision if there is one."""
        return f"{self.name}@{self.revision}" if self.revision else self.name

    def file(self, name: str) -> Path | None:
        """Return a file in the cache, downloaded if needed; None if the repository lacks it."""
        errors = self.hub.errors
        try:
            return Path(self.hub.hf_hub_download(self.name, name, revision=self.revision))
        except errors.LocalEntryNotFoundError as error:  # a subclass of EntryNotFoundError
            raise _explained(self, error) from None
        except errors.EntryNotFoundError:
            return None
        except Exception as error:
            raise _explained(self, error) from None

    def is_cached(self, name: str) -> bool:
        """Return whether a file is in the cache."""
        found = self.hub.try_to_load_from_cache(self.name, name, revision=self.revision)
        return isinstance(found, str)

    def size(self, name: str) -> int | None:
        """Return the size of a file on the Hub in bytes; None if the repository lacks it."""
        hub = self.hub
        try:
            address = hub.hf_hub_url(self.name, name, revision=self.revision)
            return int(hub.get_hf_file_metadata(address).size or 0)
        except hub.errors.EntryNotFoundError:
            return None
        except Exception as error:
            raise _explained(self, error) from None


def _package() -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError:
        raise InputError(
            f"an encoder from the Hugging Face Hub needs the package huggingface_hub: {INSTALL}; "
            f"or give a folder with {CONFIG}, {PROCESSOR} and {WEIGHTS}"
        ) from None
    return huggingface_hub


def _require_whole(path: Path) -> None:
    """Raise InputError if a file differs from its SHA-256, by which the cache names large files."""
    blob = path.resolve()
    if re.fullmatch("[0-9a-f]{64}", blob.name) and sha256_of([blob]) != blob.name:
        for wrong in {path, blob}:
            wrong.unlink(missing_ok=True)
        raise InputError(f"{path.name} came damaged (wrong SHA-256); download it again")


def _is_of_network(error: Exception) -> bool:
    """Return whether it is a network error, by class name.

    The HTTP library of `huggingface_hub` depends on its version.
    """
    return any(kind.__name__ in NETWORK_ERRORS for kind in type(error).__mro__)


def _explained(repo: Repository, error: Exception) -> InputError:
    """Return an InputError with the cause and a remedy for an error of the Hub or the network."""
    errors, place = repo.hub.errors, repo.place
    page = f"{repo.hub.constants.ENDPOINT}/{repo.name}"
    cause = error.__cause__ or error
    answers = (getattr(each, "response", None) for each in (error, cause))
    status = next((each.status_code for each in answers if each is not None), None)
    if isinstance(error, errors.GatedRepoError):
        return InputError(
            f"the terms of {place} must be accepted first: do so on {page}, then run: hf auth "
            "login (or set HF_TOKEN)"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return InputError(
            f"there is no repository {repo.name} on the Hugging Face Hub, or it is private; check "
            "the name, or run: hf auth login (or set HF_TOKEN)"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(f"{repo.name} has no revision {repo.revision}; see {page}/commits/main")
    if isinstance(error, errors.HFValidationError):
        return InputError(f"{repo.name} is not a repository name; it must be ORG/NAME")
    if status in (401, 403):
        return InputError(
            f"the Hugging Face Hub refuses {place} (HTTP {status}); run: hf auth login (or set "
            "HF_TOKEN to a token that may read it)"
        )
    is_away = isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled)
    if (is_away or _is_of_network(error)) and status is None:
        offline = repo.hub.constants.HF_HUB_OFFLINE
        why = "HF_HUB_OFFLINE is set" if offline else "the Hub cannot be reached"
        return InputError(
            f"{place} is not in {repo.hub.constants.HF_HUB_CACHE}, and {why}; "
            + ("unset it" if offline else "try again with a network")
            + ", or give a folder with the encoder's files"
        )
    reason = f"HTTP {status}" if status else getattr(cause, "strerror", None) or str(cause)
    return InputError(
        f"cannot download {place} ({' '.join(str(reason).split())[:200]}); run the command again, "
        "which continues the download"
    )
