"""Dictionaries in what a language model wrote, read without evaluating anything."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from typing import Any

from data_prep import strict_json
from rewards.parse import THINK_CLOSE

#: Longer answers are cut here, and so many braces are tried: both far above what an answer needs, and
#: together a bound on the time that the worst one takes.
_MOST_CHARS, _MOST_TRIES = 100_000, 50

_MARK = re.compile(r"""[{}]|"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'""", re.DOTALL)


def read_dictionary(text: str) -> dict[str, Any]:
    """The last dictionary of an answer; doubled braces, as templates leave them, are single ones.

    Raises:
        ValueError: there is none, a key stands in it twice or is no text; the message can be shown to the
            model.
    """
    found = list(read_dictionaries(text))
    if not found:
        raise ValueError("the answer ends with no dictionary")
    return found[-1]


def read_dictionaries(text: str) -> Iterator[dict[str, Any]]:
    """All dictionaries of an answer, one after the other, without those of its think block.

    Raises:
        ValueError: a key stands in one of them twice, or is no text.
    """
    text = text.rpartition(THINK_CLOSE)[2][-_MOST_CHARS:]
    at = 0
    for start in [place for place, char in enumerate(text) if char == "{"][-_MOST_TRIES:]:
        if start < at:
            continue
        end = _end_of(text, start)
        found = _read(text[start:end]) if end else None
        if found is None and end:
            found = _read(text[start:end].replace("{{", "{").replace("}}", "}"))
        if not isinstance(found, dict) or text[end:].lstrip().startswith(":"):  # the key of a broken one
            continue
        if not all(isinstance(key, str) for key in found):
            raise ValueError("the keys of the dictionary must be text")
        yield found
        at = end


def _end_of(text: str, start: int) -> int:
    """Behind the brace that closes the one at ``start``; 0 if none does. Braces in quotes do not count."""
    depth = 0
    for mark in _MARK.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
        if depth == 0:
            return mark.end()
    return 0


def _read(text: str) -> Any:
    """The value of JSON or a Python literal; None if it is neither."""
    try:
        return strict_json.loads(text)
    except strict_json.RepeatedKeyError:
        raise
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():  # of an odd escape
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                strict_json.once((key.value, None) for key in node.keys if isinstance(key, ast.Constant))
        return ast.literal_eval(tree)
    except strict_json.RepeatedKeyError:
        raise
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None  # TypeError: a dictionary as a key
