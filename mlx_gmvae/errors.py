"""The one exception that a person, not a programmer, is meant to read."""


class InputError(ValueError):
    """Something the user gave cannot be used: a flag, a file, a folder.

    The message is one line that names the problem and the remedy. The scripts print it and
    exit with status 2; library callers can catch it as a `ValueError`.
    """
