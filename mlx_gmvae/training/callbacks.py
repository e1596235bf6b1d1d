"""Callbacks: what else is done while a model trains."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from ..errors import InputError
from ..formatting import epoch_line
from .trainer import Trainer


class Callback:
    """Called by `fit` as a training goes on; override what you need.

    Examples
    --------
    >>> class Halve(Callback):
    ...     def on_epoch(self, trainer, record):
    ...         return record["loss"] < 50  # ends the training
    """

    def on_step(self, trainer: Trainer) -> None:
        """After each step; `trainer.step` are those done in this epoch."""

    def on_epoch(self, trainer: Trainer, record: dict[str, float]) -> bool | None:
        """After each epoch, whose `record` is new in `trainer.history`; True ends the training."""

    def on_end(self, trainer: Trainer) -> None:
        """When the last epoch is done or the training was asked to stop."""


class PrintEpochs(Callback):
    """A line per epoch on stdout."""

    def on_epoch(self, trainer: Trainer, record: dict[str, float]) -> None:
        print(epoch_line(record, trainer.seconds_left), flush=True)


# A function takes the record of an epoch; if it returns True the training ends.
Callbacks: TypeAlias = Callback | Callable[[dict[str, float]], Any] | Sequence["Callbacks"] | None


class _OnEpoch(Callback):
    def __init__(self, function: Callable[[dict[str, float]], Any]):
        self.function = function

    def on_epoch(self, trainer: Trainer, record: dict[str, float]) -> bool:
        return bool(self.function(dict(record)))


def as_callbacks(given: Callbacks, name: str = "callback") -> list[Callback]:
    """Return callbacks from one, a function of an epoch's record, several, or None."""
    if given is None:
        return []
    if isinstance(given, Callback):
        return [given]
    if isinstance(given, list | tuple):
        return [each for one in given for each in as_callbacks(one, name)]
    if callable(given) and not isinstance(given, type):
        return [_OnEpoch(given)]
    raise InputError(f"{name} is {given!r}; give a function, a Callback, a list of them, or None")


def fit(
    trainer: Trainer,
    callbacks: Iterable[Callback] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train to the last epoch, or until a callback or `should_stop` answers True."""
    callbacks = list(callbacks)

    def on_step() -> None:
        for callback in callbacks:
            callback.on_step(trainer)

    for record in trainer.run(should_stop, on_step):
        answers = [callback.on_epoch(trainer, record) for callback in callbacks]
        if any(answers):
            break
    for callback in callbacks:
        callback.on_end(trainer)
