"""The one exception that a person, not a programmer, is meant to read."""


class InputError(ValueError):
    """Something the user gave cannot be used: a flag, a file, a folder.

    The message is one line that names the problem and the remedy. The scripts print it and
    exit with status 2; library callers can catch it as a `ValueError`.

    >>> raise InputError("what another library says\\nin two lines")
    Traceback (most recent call last):
    InputError: what another library says in two lines
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.splitlines()))
