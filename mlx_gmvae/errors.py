"""InputError, the exception for invalid user input, and helpers for its messages."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager


class InputError(ValueError):
    r"""Error in what the user gave: a parameter, an array, a flag, a file or a folder.

    The message is one line that names the problem and the remedy. The scripts print it and exit
    with status 2. In Python it can be caught as a ValueError.

    Parameters
    ----------
    message : str
        The problem and the remedy. Several lines are joined to one.

    Examples
    --------
    >>> raise InputError("what another library says\nin two lines")
    Traceback (most recent call last):
    mlx_gmvae.errors.InputError: what another library says in two lines
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.splitlines()))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a suggestion to end a message with: the known word most similar to `word`, if any.

    >>> did_you_mean("minst", ["mnist", "digits"])
    '; did you mean mnist?'
    """
    like = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {like[0]}?" if like else ""


@contextmanager
def naming(names: Mapping[str, str]) -> Iterator[None]:
    """Rename options in the messages of InputErrors by `names`, and write them without dashes.

    >>> with naming({"batchsize": "batch_size", "K": "n_components"}):
    ...     raise InputError("K is 9; give more images or a larger --batchsize")
    Traceback (most recent call last):
    mlx_gmvae.errors.InputError: n_components is 9; give more images or a larger batch_size
    """
    try:
        yield
    except InputError as error:
        # Matches "--lr", "lr is 3", "lr = 3", and words with a capital such as K, which are
        # never ordinary words of these messages.
        pattern = r"--(\w+)|\b(\w+)(?= is | = )|\b([A-Z]\w*)\b"

        def own_name(found: re.Match[str]) -> str:
            name = found[1] or found[2] or found[3]
            return names.get(name, name)

        raise InputError(re.sub(pattern, own_name, str(error))) from None
