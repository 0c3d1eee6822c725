"""Dictionaries in what a language model wrote, read without evaluating anything."""

from __future__ import annotations

import ast
import json
from typing import Any


def read_dictionary(text: str) -> dict[str, Any]:
    """The dictionary that an answer ends with; doubled braces, as templates leave them, are single ones.

    Raises:
        ValueError: there is none, or a key is no text; the message can be shown to the model.
    """
    for form in (text, text.replace("{{", "{").replace("}}", "}")):
        end = form.rfind("}")
        for start in (i for i in range(end, -1, -1) if form[i] == "{"):
            found = _read(form[start : end + 1])
            if isinstance(found, dict):
                if not all(isinstance(key, str) for key in found):
                    raise ValueError("the keys of the dictionary must be text")
                return found
    raise ValueError("the answer ends with no dictionary")


def _read(text: str) -> Any:
    """The value of JSON or a Python literal; None if it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue  # TypeError: a dictionary as a key
    return None
