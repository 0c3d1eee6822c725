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
    end = text.rfind("}")
    for start in (i for i in range(end, -1, -1) if text[i] == "{"):
        part = text[start : end + 1]
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(part)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                continue  # TypeError: a set or a dictionary as a key, {{"a": 1}} among them
            if isinstance(found, dict):
                if not all(isinstance(key, str) for key in found):
                    raise ValueError("the keys of the dictionary must be text")
                return found
    raise ValueError("the answer ends with no dictionary")
