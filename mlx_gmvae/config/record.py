"""A frozen record whose fields are type-checked, whether they come from flags or from a file."""

import contextlib
import dataclasses
import math
import numbers
import reprlib
from collections.abc import Collection
from dataclasses import dataclass
from types import UnionType
from typing import Any, ClassVar, TypeVar, get_args, get_origin

from ..errors import InputError, did_you_mean

AnyRecord = TypeVar("AnyRecord", bound="Record")


@dataclass(frozen=True)
class Record:
    """Dataclass with type checks and conversion to and from JSON types.

    Attributes
    ----------
    RENAMED : dict
        Current name of each field that had another name in earlier versions, for their files.
    """

    RENAMED: ClassVar[dict[str, str]] = {}

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            object.__setattr__(self, field.name, _typed(field, value))
        self.validate()

    def validate(self) -> None:
        """Check all values.

        Raises
        ------
        InputError
            If a value cannot be used.
        """

    def __repr__(self) -> str:
        given = (f"{name}={value!r}" for name, value in self.given().items())
        return f"{type(self).__name__}({', '.join(given)})"

    def given(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults.

        Returns
        -------
        dict
            Values by name.
        """
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as a dict of JSON types.

        Returns
        -------
        dict
            Values by name; `from_dict` is the inverse.
        """
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls: type[AnyRecord], values: dict[str, Any]) -> AnyRecord:
        """Create a configuration from a dict.

        Parameters
        ----------
        values : dict
            Values by name, as `to_dict` returns them.

        Returns
        -------
        Record
            An instance of this class.

        Raises
        ------
        InputError
            If a name is unknown or missing, or a value cannot be used.
        """
        if not isinstance(values, dict):
            raise InputError(f"a {cls.__name__} is a JSON object, not {type(values).__name__}")
        values = {cls.RENAMED.get(name, name): value for name, value in values.items()}
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known, key=str)
        if unknown:
            meant = did_you_mean(str(unknown[0]), known)
            raise InputError(f"{cls.__name__} has no field {', '.join(map(str, unknown))}{meant}")
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"{cls.__name__}: {error}") from None


def is_whole(value: Any) -> bool:
    """Whether `value` is a whole number, Python's or NumPy's; True and False are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def require_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise InputError unless `value` is one of `choices`."""
    if value not in choices:
        meant = did_you_mean(str(value), choices)
        raise InputError(f"{name} is {value!r}; choose one of {', '.join(choices)}{meant}")


def require_range(name: str, value: int | None, low: int, high: int) -> None:
    """Raise InputError unless low <= value <= high; None, for a default, may pass."""
    if value is not None and not low <= value <= high:
        raise InputError(f"{name} is {value}; it must be between {low} and {high}")


def require_positive(name: str, value: float | None) -> None:
    """Raise InputError unless `value` is finite and above 0; None, for a default, may pass."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} is {value}; it must be a number above 0")


def _typed(field: dataclasses.Field, value: Any) -> Any:
    """`value` as the field's type, or InputError: configurations are read from files too."""
    kinds = get_args(field.type) if isinstance(field.type, UnionType) else (field.type,)
    if value is None and type(None) in kinds:
        return None
    kind = kinds[0]
    if get_origin(kind) is tuple:
        length = len(get_args(kind))
        items = value.tolist() if hasattr(value, "tolist") else value  # of an array
        is_pair = isinstance(items, (list, tuple)) and len(items) == length
        if is_pair and all(is_whole(item) for item in items):
            return tuple(int(item) for item in items)
        raise InputError(f"{field.name} is {value!r}; it must be {length} whole numbers")
    if kind is int and is_whole(value):
        return int(value)
    if kind is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # of a whole number of hundreds of digits
            return float(value)
    if kind is str and isinstance(value, str):
        return str(value)
    wanted = {int: "a whole number", float: "a number", str: "text"}[kind]
    raise InputError(f"{field.name} is {reprlib.repr(value)}; it must be {wanted}")
