"""JSON in which no object names a key twice: Python would keep the last value and lose the others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


class RepeatedKeyError(ValueError):
    """An object names a key twice."""


def loads(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON, or an object names a key twice (`RepeatedKeyError`).
        RecursionError: it is nested too deep.
    """
    return json.loads(text, object_pairs_hook=once)


def once(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dictionary of pairs.

    Raises:
        RepeatedKeyError: two of them have one key.
    """
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise RepeatedKeyError(f"the key {str(key)[:60]!r} stands twice in an object")
        found[key] = value
    return found
