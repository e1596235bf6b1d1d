"""Callbacks, which are called during training."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from ..errors import InputError
from ..formatting import epoch_line
from .trainer import Trainer


class Callback:
    """Base class of callbacks. `fit` calls its methods during training; override what you need.

    Examples
    --------
    >>> class Halve(Callback):
    ...     def on_epoch(self, trainer, record):
    ...         return record["loss"] < 50  # ends the training
    """

    def on_step(self, trainer: Trainer) -> None:
        """Handle the end of a step; `trainer.step` is the number of steps in this epoch."""

    def on_epoch(self, trainer: Trainer, record: dict[str, float]) -> bool | None:
        """Handle the end of an epoch, with its `record`. Return True to stop the training.

        The record is the last one in `trainer.history`.
        """

    def on_end(self, trainer: Trainer) -> None:
        """Handle the end of training: the last epoch is done, or it was asked to stop."""


class PrintEpochs(Callback):
    """Print a line per epoch to stdout."""

    def on_epoch(self, trainer: Trainer, record: dict[str, float]) -> None:
        print(epoch_line(record, trainer.seconds_left), flush=True)


# A function gets the record of each epoch. If it returns True, training stops.
Callbacks: TypeAlias = Callback | Callable[[dict[str, float]], Any] | Sequence["Callbacks"] | None


class _OnEpoch(Callback):
    def __init__(self, function: Callable[[dict[str, float]], Any]):
        self.function = function

    def on_epoch(self, trainer: Trainer, record: dict[str, float]) -> bool:
        return bool(self.function(dict(record)))


def as_callbacks(given: Callbacks, name: str = "callback") -> list[Callback]:
    """Return a list of callbacks, given one, a function of an epoch's record, a list, or None."""
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
    """Train to the last epoch, or until a callback or `should_stop` returns True."""
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
