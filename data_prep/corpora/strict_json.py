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
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise RepeatedKeyError(f"the key {key[:60]!r} stands twice in an object")
        found[key] = value
    return found
