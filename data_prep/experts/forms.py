"""What answers that pass look like, as regular expressions: for a server that can hold a model to one.

A form says less than the check of its answer, which has the last word: it bounds every text, and offers
one or two labels with a weight in tenths. Python's syntax, kept to what vLLM's structured outputs read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

_WEIGHT = r"(0\.[1-9]|1\.0)"
_MOST_THOUGHT, _MOST_TEXT = 400, 200  # letters


def of_response(labels: Sequence[str], tokens: int) -> str:
    """The rule of Eq. 8: a think block, then a dictionary with its three keys.

    Args:
        labels: the corpus's.
        tokens: that an answer may have; a third of them, and not fewer than 80, are not counted on.
    """
    letters = 3 * max(tokens - max(80, tokens // 3), 8)  # of English, by three a token
    thought = _before(min(_MOST_THOUGHT, letters * 2 // 3))
    pair, reply = _pair(labels), _text(min(_MOST_TEXT, letters // 3))
    return (
        rf"<think>[^\s{{}}<>]{thought}</think>\n"
        rf'\{{"last_emotions": {pair}, "my_emotions": {pair}, "my_output": "{reply}"\}}'
    )


def of_profiles(names: Iterable[str]) -> str:
    """An analysis, then a dictionary with a sentence for every name (Table 4)."""
    sentences = ", ".join(f'{_quoted(name)}: "{_text()}"' for name in names)
    return rf"{_before()}\{{{sentences}\}}"


def of_label(gold: str, labels: Sequence[str]) -> str:
    """Thoughts, then a soft label whose heaviest is ``gold``."""
    others = "|".join(_quoted(label) for label in labels if label != gold)
    more = rf"(, ({others}): 0\.[1-9])?" if others else ""
    return rf"{_before()}\{{{_quoted(gold)}: 1\.0{more}\}}"


def _before(most: int = _MOST_THOUGHT) -> str:
    return rf"[^{{}}<>]{{0,{most}}}"


def _text(most: int = _MOST_TEXT) -> str:
    return rf'[^\s"\\{{}}<>][^"\\\n{{}}<>]{{0,{most}}}'


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
