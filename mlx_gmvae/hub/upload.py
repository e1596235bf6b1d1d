"""Upload of files to a repository on the Hugging Face Hub, in one commit."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from ..errors import InputError
from .repository import INSTALL, is_of_network, named, package, reason_of, status_of

LOG_IN = "run: hf auth login (or set HF_TOKEN)"
MESSAGE = "Upload a model of mlx_gmvae"


def require_token(name: str) -> ModuleType:
    """Return `huggingface_hub`, which has a token. Raises InputError if nothing can be uploaded.

    `name` must be ORG/NAME. No request is made.
    """
    hub = package(f"an upload to the Hugging Face Hub needs the package huggingface_hub: {INSTALL}")
    try:
        hub.utils.validate_repo_id(name)
    except hub.errors.HFValidationError:
        is_valid = False
    else:
        is_valid = named(name) == (name, None)
    if not is_valid:
        raise InputError(f"{name!r} is not the name of a repository; it must be ORG/NAME")
    if hub.constants.HF_HUB_OFFLINE:
        raise InputError(f"HF_HUB_OFFLINE is set, so nothing can be uploaded to {name}; unset it")
    if hub.get_token() is None:
        raise InputError(f"an upload to {name} needs a token of the Hugging Face Hub; {LOG_IN}")
    return hub


def require_known_token(name: str) -> None:
    """Raise InputError if the Hub refuses the token; a Hub that is away may be back later."""
    hub = require_token(name)
    try:
        hub.HfApi().whoami()
    except Exception as error:
        if status_of(error) in (401, 403):
            raise refused(name, error, "") from None


def upload(name: str, files: Mapping[str, Path], private: bool, again: str) -> str:
    """Upload files, by their names there, and return the address of the repository.

    The repository is created if it does not exist. `again` says how to repeat the upload, for
    messages. Raises InputError.
    """
    hub = require_token(name)
    api = hub.HfApi()
    added = [hub.CommitOperationAdd(there, str(path)) for there, path in files.items()]
    try:
        api.create_repo(name, private=private or None, exist_ok=True)
        if private and not api.model_info(name).private:
            raise InputError(
                f"{name} exists and is public; make it private in its settings, or choose another "
                "name"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on the metadata of the card
            api.create_commit(name, added, commit_message=MESSAGE)
    except InputError:
        raise
    except Exception as error:
        raise refused(name, error, again) from None
    return f"{hub.constants.ENDPOINT}/{name}"


def refused(name: str, error: Exception, again: str) -> InputError:
    """Return the InputError with the cause and the remedy for an upload that failed."""
    status = status_of(error)
    then = f"; {again}" if again else ""
    if status == 401:
        return InputError(f"the Hugging Face Hub refuses the token (HTTP 401); {LOG_IN}{then}")
    if status in (402, 403, 404):
        return InputError(
            f"the token may not write to {name} (HTTP {status}); check the name, or set HF_TOKEN "
            f"to a token with write access{then}"
        )
    if status is None and is_of_network(error):
        return InputError(f"{name} is not uploaded: the Hub cannot be reached; {again}")
    return InputError(f"{name} is not uploaded ({reason_of(error)}); {again}")
