"""The files of an encoder from the Hugging Face Hub, through `huggingface_hub`.

Cache, tokens, proxies and environment variables (HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE)
are those that every tool of that ecosystem has.
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
    """The files of a repository, downloaded if they are not in the cache. Raises InputError.

    Only what is needed is downloaded; `say` is told how much that is, before.
    """
    repo = Repository(_package(), repository, revision)
    # Asking for its size fails at once where there is no network, a download after half a minute.
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
        raise InputError(f"{repo.place} lacks files that {INDEX} names; choose another encoder")
    if size:
        for path in weights:
            _require_whole(path)
    return Files(repository, str(repo.revision), config, processor, weights)


def _weights(repo: "Repository") -> list[str]:
    """The names of the files with the weights. Raises InputError if there are none to be read."""
    if repo.is_cached(WEIGHTS):
        return [WEIGHTS]
    if not repo.is_cached(INDEX) and repo.size(WEIGHTS) is not None:
        return [WEIGHTS]
    index = repo.file(INDEX)
    if index is None:
        raise no_weights(repo.place, any(repo.size(name) is not None for name in PICKLES))
    return shards(index)


class Repository(NamedTuple):
    """A repository at a revision, the default one if that is None."""

    hub: ModuleType
    name: str
    revision: str | None

    @property
    def place(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name

    def file(self, name: str) -> Path | None:
        """A file in the cache, downloaded if need be; None if the repository has none like that."""
        errors = self.hub.errors
        try:
            return Path(self.hub.hf_hub_download(self.name, name, revision=self.revision))
        except errors.LocalEntryNotFoundError as error:  # which is an EntryNotFoundError too
            raise _explained(self, error) from None
        except errors.EntryNotFoundError:
            return None
        except Exception as error:
            raise _explained(self, error) from None

    def is_cached(self, name: str) -> bool:
        """Whether a file is in the cache."""
        found = self.hub.try_to_load_from_cache(self.name, name, revision=self.revision)
        return isinstance(found, str)

    def size(self, name: str) -> int | None:
        """How many bytes a file has on the Hub, or None if the repository has none like that."""
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
    """Raise InputError if what came is not what the Hub has, whose cache names large files so."""
    blob = path.resolve()
    if re.fullmatch("[0-9a-f]{64}", blob.name) and sha256_of([blob]) != blob.name:
        for wrong in {path, blob}:
            wrong.unlink(missing_ok=True)
        raise InputError(f"what came as {path.name} is damaged (wrong SHA-256); download it again")


def _is_of_network(error: Exception) -> bool:
    """By their names: which library the Hub's package asks with differs by its version."""
    return any(kind.__name__ in NETWORK_ERRORS for kind in type(error).__mro__)


def _explained(repo: Repository, error: Exception) -> InputError:
    """What to say if the Hub or the network refuses."""
    errors, place = repo.hub.errors, repo.place
    page = f"{repo.hub.constants.ENDPOINT}/{repo.name}"
    cause = error.__cause__ or error
    answers = (getattr(each, "response", None) for each in (error, cause))
    status = next((each.status_code for each in answers if each is not None), None)
    if isinstance(error, errors.GatedRepoError):
        return InputError(
            f"{place} asks for its terms to be accepted first: do so on {page}, then run: hf auth "
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
        return InputError(f"{repo.name} cannot be a repository's name; it must be ORG/NAME")
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
        "which goes on where it stopped"
    )
