"""Seconds as people say them."""


def duration(seconds: float) -> str:
    """45 s, 3 min 20 s, 1 h 5 min.

    >>> duration(200.4)
    '3 min 20 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
