"""What answers that pass look like, as regular expressions: for a server that can hold a model to one.

A form says less than the check of its answer, which has the last word: it bounds every text, and offers
one or two labels with a weight in tenths. Python's syntax, kept to what vLLM's structured outputs read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

_WEIGHT = r"(0\.[1-9]|1\.0)"
_TEXT = r'[^\s"\\{}<>][^"\\\n{}<>]{0,200}'
_BEFORE = r"[^{}<>]{0,400}"


def of_response(labels: Sequence[str]) -> str:
    """The rule of Eq. 8: a think block, then a dictionary with its three keys."""
    pair = _pair(labels)
    return (
        rf"<think>[^\s{{}}<>]{_BEFORE}</think>\n"
        rf'\{{"last_emotions": {pair}, "my_emotions": {pair}, "my_output": "{_TEXT}"\}}'
    )


def of_profiles(names: Iterable[str]) -> str:
    """An analysis, then a dictionary with a sentence for every name (Table 4)."""
    sentences = ", ".join(f'{_quoted(name)}: "{_TEXT}"' for name in names)
    return rf"{_BEFORE}\{{{sentences}\}}"


def of_label(gold: str, labels: Sequence[str]) -> str:
    """Thoughts, then a soft label whose heaviest is ``gold``."""
    others = "|".join(_quoted(label) for label in labels if label != gold)
    more = rf"(, ({others}): 0\.[1-9])?" if others else ""
    return rf"{_BEFORE}\{{{_quoted(gold)}: 1\.0{more}\}}"


def _pair(labels: Sequence[str]) -> str:
    """A dictionary of one label, or of two that differ."""
    ways = []
    for label in labels:
        others = "|".join(_quoted(other) for other in labels if other != label)
        more = f"(, ({others}): {_WEIGHT})?" if others else ""
        ways.append(f"{_quoted(label)}: {_WEIGHT}{more}")
    return rf"\{{({'|'.join(ways)})\}}"


def _quoted(text: str) -> str:
    # As JSON and Python both read it. Not re.escape, whose backslash before a space not every reader knows.
    return re.sub(r"[\\.^$*+?()\[\]{}|/]", r"\\\g<0>", json.dumps(text, ensure_ascii=False))
