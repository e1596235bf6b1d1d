"""Repositories on the Hugging Face Hub, and downloads from them through `huggingface_hub`.

Its cache, tokens, proxies and environment variables (HF_HOME, HF_TOKEN, HF_ENDPOINT,
HF_HUB_OFFLINE) apply.
"""

import re
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ..errors import InputError

INSTALL = "pip install 'mlx_gmvae[hub]'"
NETWORK_ERRORS = {"ConnectError", "ConnectionError", "TimeoutException", "Timeout", "ProxyError"}


class NoRepository(InputError):
    """The Hub has no such repository, or does not show it."""


class Unreachable(InputError):
    """The Hub cannot be reached, or cannot answer at present."""


class Newest(NamedTuple):
    """Size in bytes of a file on the Hub, and the commit of the revision."""

    size: int
    commit: str


class Repository(NamedTuple):
    """A repository at a revision; None is the default revision.

    `instead` names what a user can give in place of it, for messages.
    """

    hub: ModuleType
    name: str
    revision: str | None
    instead: str

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
            raise explained(self, error) from None
        except errors.EntryNotFoundError:
            return None
        except Exception as error:
            raise explained(self, error) from None

    def cached(self, name: str) -> Path | None:
        """Return a file in the cache, or None if it is not there."""
        found = self.hub.try_to_load_from_cache(self.name, name, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def newest(self, name: str) -> Newest | None:
        """Return the size and the commit of a file on the Hub; None if the repository lacks it."""
        hub = self.hub
        try:
            address = hub.hf_hub_url(self.name, name, revision=self.revision)
            found = hub.get_hf_file_metadata(address)
            return Newest(int(found.size or 0), str(found.commit_hash or ""))
        except hub.errors.EntryNotFoundError:
            return None
        except Exception as error:
            raise explained(self, error) from None


def named(name: str) -> tuple[str, str | None] | None:
    """Return the repository and the revision in ORG/NAME[@REVISION], or None for another text.

    >>> named("org/digits"), named("org/digits@refs/pr/1")
    (('org/digits', None), ('org/digits', 'refs/pr/1'))
    >>> named("digits"), named("results/birds/model"), named("../birds"), named("my runs/birds")
    (None, None, None, None)
    """
    repository, _, revision = name.partition("@")
    is_name = re.fullmatch(r"[a-zA-Z0-9][\w.-]*/[\w][\w.-]*", repository, re.ASCII)
    return (repository, revision or None) if is_name else None


def package(needed_for: str) -> ModuleType:
    """Return `huggingface_hub`. Raises InputError if it is not installed."""
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError:
        raise InputError(needed_for) from None
    return huggingface_hub


def status_of(error: Exception) -> int | None:
    """Return the HTTP status of the answer that caused an error, or None without an answer."""
    answers = (getattr(each, "response", None) for each in (error, error.__cause__))
    return next((each.status_code for each in answers if each is not None), None)


def is_of_network(error: Exception) -> bool:
    """Return whether it is a network error, by class name.

    The HTTP library of `huggingface_hub` depends on its version.
    """
    return any(kind.__name__ in NETWORK_ERRORS for kind in type(error).__mro__)


def reason_of(error: Exception) -> str:
    """Return the cause of an error in a few words."""
    cause, status = error.__cause__ or error, status_of(error)
    reason = f"HTTP {status}" if status else getattr(cause, "strerror", None) or str(cause)
    return " ".join(str(reason).split())[:200]


def explained(repo: Repository, error: Exception) -> InputError:
    """Return an InputError with the cause and a remedy for an error of the Hub or the network."""
    errors, place = repo.hub.errors, repo.place
    page = f"{repo.hub.constants.ENDPOINT}/{repo.name}"
    status = status_of(error)
    if isinstance(error, errors.GatedRepoError):
        return InputError(
            f"the terms of {place} must be accepted first: do so on {page}, then run: hf auth "
            "login (or set HF_TOKEN)"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return NoRepository(
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
    if (is_away or is_of_network(error)) and status is None:
        offline = repo.hub.constants.HF_HUB_OFFLINE
        why = "HF_HUB_OFFLINE is set" if offline else "the Hub cannot be reached"
        remedy = "unset it" if offline else "try again with a network"
        return Unreachable(
            f"{place} is not in {repo.hub.constants.HF_HUB_CACHE}, and {why}; {remedy}, or "
            f"{repo.instead}"
        )
    kind = Unreachable if status and status >= 500 else InputError
    return kind(
        f"cannot download {place} ({reason_of(error)}); run the command again, which continues "
        "the download"
    )
