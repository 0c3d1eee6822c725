"""Types of settings that say in words what they take, for pydantic, and the faults that it finds."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from data_prep.masking import MASK, is_secret

#: No number of ours is larger, and sums and products of such numbers are still floats.
_LARGEST = 1e15


def _fault(wanted: str) -> PydanticCustomError:
    return PydanticCustomError("setting", wanted)


def _validated(fits: Callable[[Any], bool], wanted: str) -> PlainValidator:
    def check(value: Any) -> Any:
        if isinstance(value, int | float) and _LARGEST < abs(value) < math.inf:
            raise _fault("is no number to work with")
        if not fits(value):
            raise _fault(wanted)
        return value

    return PlainValidator(check)


def whole(least: int, most: float = math.inf) -> PlainValidator:
    """A whole number from ``least`` to ``most``; true and 1.0 are none."""
    wanted = f"must be a whole number{_range(least, most)}"
    return _validated(lambda value: type(value) is int and least <= value <= most, wanted)


def number(least: float, most: float = math.inf, *, above: bool = False) -> PlainValidator:
    """A finite number from ``least`` to ``most``, or ``above`` the least."""
    fits = _number_within(least, most, above)
    return _validated(fits, f"must be a number{_range(least, most, above)}")


def one_or_two(least: float, most: float = math.inf, *, above: bool = False) -> PlainValidator:
    """A number as `number` takes it, or a list of one or two."""
    fits = _number_within(least, most, above)

    def all_fit(value: Any) -> bool:
        found = value if isinstance(value, list) else [value]
        return len(found) in (1, 2) and all(map(fits, found))

    return _validated(all_fit, f"must be a number{_range(least, most, above)}, or a list of two")


def pair(least: float, below: float) -> PlainValidator:
    """A list of two numbers from ``least`` to less than ``below``."""
    fits = _number_within(least, below, False)

    def both_fit(value: Any) -> bool:
        return isinstance(value, list) and len(value) == 2 and all(fits(v) and v < below for v in value)

    return _validated(both_fit, f"must be a list of two numbers from {least:g} to less than {below:g}")


def _number_within(least: float, most: float, above: bool) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
            return False  # neither is NaN
        return (least < value if above else least <= value) and value <= most

    return fits


def one_of(*words: str) -> PlainValidator:
    """One of these words."""
    wanted = f"is none of its values; choose {' or '.join(words)}"
    return _validated(lambda value: isinstance(value, str) and value in words, wanted)


def _range(least: float, most: float, above: bool = False) -> str:
    if most == math.inf:
        return f" above {least:g}" if above else f", at least {least:g}"
    return f" above {least:g}, at most {most:g}" if above else f" from {least:g} to {most:g}"


def _text(value: Any) -> str:
    if value == "???":
        raise _fault("must be given")
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise _fault("must be text; put quotes around it")
    if "\0" in str(value):
        raise _fault("has a character NUL in it")
    return str(value)  # a run may be called 2026


def _words(value: Any) -> list[str]:
    """A word where a list is meant is a list of one."""
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not all(isinstance(w, str) and w.strip() for w in found):
        raise _fault("must be a list, such as [one,two]")
    return list(found)


Switch = Annotated[bool, _validated(lambda value: isinstance(value, bool), "must be true or false")]
Text = Annotated[str, PlainValidator(_text)]
Words = Annotated[list[str], PlainValidator(_words)]
Count = Annotated[int, whole(1)]
Seconds = Annotated[float, number(0)]


def faults(error: ValidationError, prefix: str, known: Iterable[str] = ()) -> list[str]:
    """What is wrong, a line a fault, each with the setting's whole name and what it takes.

    Args:
        error: as pydantic raised it.
        prefix: of every name, with its dot; may be empty.
        known: names of settings, of which the nearest to an unknown one is told.
    """
    return [_in_words(found, prefix, list(known)) for found in error.errors()]


def unknown_setting(name: str, known: Iterable[str]) -> str:
    """What is said of a setting that is not there, with the one that was probably meant."""
    near = difflib.get_close_matches(name, [k for k in known if k != name], n=1, cutoff=0.6)
    return f"there is no setting {name}" + (f"; {near[0]} is near" if near else "")


def _in_words(fault: Any, prefix: str, known: list[str]) -> str:
    name = prefix + ".".join(map(str, fault["loc"]))
    kind, given = fault["type"], fault["input"]
    if fault["loc"] and is_secret(str(fault["loc"][-1])):
        given = MASK
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return unknown_setting(name, known)
    if kind in ("missing", "missing_argument"):
        return f"{name} is missing"
    if kind == "value_error":  # of several settings together; names them itself
        return str(fault["ctx"]["error"])
    if kind == "secret":
        return f"{name} {fault['msg']}"
    if kind == "setting":
        return f"{name}={shown(given)} {fault['msg']}"
    if kind == "tuple_type":
        return f"{name}={shown(given)} must be a list of settings by name, such as [{{a: 1}}]"
    return f"{name}={shown(given)} must be settings by name, such as {{a: 1}}"


def shown(value: Any) -> str:
    """A value as it is shown in a line."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:60] + "..."
